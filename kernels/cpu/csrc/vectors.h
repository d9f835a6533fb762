// Numbers in memory, of whatever type, as vectors of float32 and back.

#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace saccade {

using Vec = at::vec::Vectorized<float>;

// `count` numbers, as many as a vector holds at most.
template <typename S>
inline Vec read(const S* from, int64_t count = Vec::size()) {
  return at::vec::convert<float>(at::vec::Vectorized<S>::loadu(from, count));
}

template <typename P>
inline void write(Vec numbers, P* to, int64_t count = Vec::size()) {
#if defined(CPU_CAPABILITY_AVX512) && defined(__AVX512BF16__)
  if constexpr (std::is_same_v<P, at::BFloat16>) {  // PyTorch rounds step by step, here it is one
    const auto rounded = __m256i(_mm512_cvtneps_pbh(numbers));
    _mm256_mask_storeu_epi16(to, __mmask16((1 << count) - 1), rounded);
    return;
  }
#endif
  at::vec::convert<P>(numbers).store(to, int(count));
}

// out[i] = of(x[i]...) for all of `size` numbers; out may be one of them.
template <typename P, typename Of, typename... S>
inline void map(Of of, int64_t size, P* out, const S*... x) {
  int64_t i = 0;
  for (; i + Vec::size() <= size; i += Vec::size()) write(of(read(x + i)...), out + i);
  if (i < size) write(of(read(x + i, size - i)...), out + i, size - i);
}

}  // namespace saccade
