// Attention on the CPU with rotary embedding inside: reference.full_attention for any segments.
//
// A task owns one head of one segment of the sequence, or a share of its queries. It rotates and packs
// the segment's keys and values once, then goes over blocks of queries: scores of a block of keys,
// online softmax in float32, sum of values. Nothing the size of the sequence squared is written.
//
// Products are those of oneDNN's batch-reduce GEMM, which PyTorch exports: of float32, or of bfloat16
// where the processor multiplies it. That it wants in pairs ("VNNI"): of the right-hand matrix, rows
// 2i and 2i + 1 lie interleaved. On other processors it throws, what depends on the processor: whoever
// calls attention_bfloat16 has to know (processor.py), and to try it first (self_test/).

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "vectors.h"

namespace {

using at::BFloat16;
using saccade::read, saccade::Vec, saccade::write;

constexpr int64_t kQueries = 64;  // of a block
constexpr int64_t kKeys = 256;    // of a block; a multiple of every vector's width
constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// c [m, n] (+)= a [m, k] b [k, n], b packed as `packed` below says.
void multiply(int64_t m, int64_t n, int64_t k, int64_t ld_c, bool add, const BFloat16* a,
              const BFloat16* b, float* c) {
  at::native::cpublas::brgemm(m, n, k, k, n, ld_c, add, a, b, c);
}

void multiply(int64_t m, int64_t n, int64_t k, int64_t ld_c, bool add, const float* a,
              const float* b, float* c) {
  at::native::cpublas::brgemm(m, n, k, k, n, ld_c, add, a, b, c, /*is_vnni=*/false);
}

// Asks for numbers that will be read soon.
template <typename T>
inline void prefetch(const T* numbers, int64_t count) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += line) __builtin_prefetch(numbers + i);
}

// Where element (row, column) of a right-hand matrix with `columns` columns is kept.
template <typename T>
inline int64_t packed(int64_t row, int64_t column, int64_t columns) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return (row / 2 * columns + column) * 2 + row % 2;
  } else {
    return row * columns + column;
  }
}

// 2 to the power of x, which is at most 0, for numbers that are rounded to P afterwards.
template <typename P>
inline Vec power_of_two(Vec x) {
  if constexpr (std::is_same_v<P, BFloat16>) {
#if defined(CPU_CAPABILITY_AVX512)
    // The nearest integer goes into the exponent, the rest through a polynomial that is off by
    // 3e-6 at most on [-0.5, 0.5].
    const __m512 bounded = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    const __m512 whole = _mm512_roundscale_ps(bounded, _MM_FROUND_TO_NEAREST_INT);
    const __m512 rest = _mm512_sub_ps(bounded, whole);
    __m512 power = _mm512_set1_ps(0.00957006868f);
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.0559178069f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.240247443f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.69312185f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.999999285f));
    return _mm512_scalef_ps(power, whole);
#else
    return (x * Vec(kLn2)).exp_u20();
#endif
  } else {
    return x.exp2();
  }
}

template <typename S, typename P>
inline void rotate(const S* x, const float* cos, const float* sin, int64_t half, P* out) {
  for (int64_t i = 0; i < half; i += Vec::size()) {
    const int64_t count = std::min<int64_t>(Vec::size(), half - i);
    const Vec first = read(x + i, count), second = read(x + i + half, count);
    const Vec cosine = read(cos + i, count), sine = read(sin + i, count);
    write(first * cosine - second * sine, out + i, count);
    write(second * cosine + first * sine, out + i + half, count);
  }
}

// What a task keeps between its blocks of queries.
template <typename S, typename P>
struct Workspace {
  Workspace(int64_t max_seqlen, int64_t head_dim)
      : keys((max_seqlen + kKeys - 1) / kKeys * kKeys * head_dim),
        values(keys.size()),
        rows(kKeys * head_dim),
        nothing(head_dim),
        queries(kQueries * head_dim),
        weights(kQueries * kKeys),
        scores(kQueries * kKeys),
        sums(kQueries * head_dim) {}

  std::vector<P> keys, values;  // [blocks of keys, packed [head_dim, keys] or [keys, head_dim]]
  std::vector<P> rows, queries, weights;
  std::vector<S> nothing;
  std::vector<float> scores, sums;
  float largest[kQueries], total[kQueries];
};

// S is what tensors hold, P what is multiplied.
template <typename S, typename P>
struct Attention {
  const S* qkv;  // [tokens, 3, heads, head_dim]
  const float *cos, *sin;  // [tokens, head_dim / 2]
  S* out;  // [tokens, heads, head_dim]
  int64_t heads, head_dim;

  // Numbers along the products' sum that a right-hand matrix keeps side by side.
  static constexpr int64_t kTogether = sizeof(float) / sizeof(P);

  const S* at(int64_t token, int64_t part, int64_t head) const {
    return qkv + ((token * 3 + part) * heads + head) * head_dim;
  }

  // Keys of a block as columns, values as rows; what the last block lacks is zero.
  void pack(Workspace<S, P>& space, int64_t start, int64_t length, int64_t head) const {
    const int64_t half = head_dim / 2;
    for (int64_t first = 0; first < length; first += kKeys) {
      const int64_t columns = width(length - first), exist = std::min(columns, length - first);
      P* rows = space.rows.data();
      for (int64_t i = 0; i < exist; ++i) {
        const int64_t token = start + first + i;
        rotate(at(token, 1, head), cos + token * half, sin + token * half, half,
               rows + i * head_dim);
        // A head's numbers lie in small pieces, a token apart: too far for the processor to guess.
        for (int64_t part = 0; head + 1 < heads && part < 3; ++part) {
          prefetch(at(token, part, head + 1), head_dim);
        }
      }
      std::fill(rows + exist * head_dim, rows + columns * head_dim, P(0));
      transpose(rows, columns, space.keys.data() + first * head_dim);
      P* values = space.values.data() + first * head_dim;
      for (int64_t i = 0; i < columns; i += kTogether) {
        const S* pair[kTogether];
        for (int64_t j = 0; j < kTogether; ++j) {
          pair[j] = i + j < exist ? at(start + first + i + j, 2, head) : space.nothing.data();
        }
        interleave(pair, values + i * head_dim);
      }
    }
  }

  // The keys `rows` [columns, head_dim] as the right-hand matrix [head_dim, columns].
  void transpose(const P* rows, int64_t columns, P* keys) const {
    // Of bfloat16, pairs move as one: what a float holds.
    const int64_t wide = head_dim / kTogether;
    at::vec::transpose_mxn<float>(reinterpret_cast<const float*>(rows), wide,
                                  reinterpret_cast<float*>(keys), columns, int(columns), int(wide));
  }

  // Rows of the right-hand matrix of values that are kept together.
  void interleave(const S* const* rows, P* values) const {
    if constexpr (kTogether == 2) {
      const auto* low = reinterpret_cast<const uint16_t*>(rows[0]);
      const auto* high = reinterpret_cast<const uint16_t*>(rows[1]);
      auto* pairs = reinterpret_cast<uint32_t*>(values);
      for (int64_t d = 0; d < head_dim; ++d) pairs[d] = low[d] | uint32_t(high[d]) << 16;
    } else {
      for (int64_t d = 0; d < head_dim; ++d) values[d] = P(rows[0][d]);
    }
  }

  // Columns of the block of keys of which `left` tokens are left.
  static int64_t width(int64_t left) {
    constexpr int64_t step = 32;
    return std::min(kKeys, (left + step - 1) / step * step);
  }

  // Attends from `count` queries, of which the first is token `start + first`.
  void attend(Workspace<S, P>& space, int64_t start, int64_t length, int64_t head, int64_t first,
              int64_t count) const {
    const int64_t half = head_dim / 2;
    const float scale = kLog2E / std::sqrt(float(head_dim));  // weights are powers of two
    for (int64_t i = 0; i < count; ++i) {
      const int64_t token = start + first + i;
      rotate(at(token, 0, head), cos + token * half, sin + token * half, half,
             space.queries.data() + i * head_dim);
      space.largest[i] = kNever;
      space.total[i] = 0.0f;
    }
    for (int64_t block = 0; block < length; block += kKeys) {
      const int64_t columns = width(length - block);
      multiply(count, columns, head_dim, columns, false, space.queries.data(),
               space.keys.data() + block * head_dim, space.scores.data());
      for (int64_t i = 0; i < count; ++i) {
        weigh(space, i, columns, std::min(columns, length - block), scale);
      }
      multiply(count, head_dim, columns, head_dim, block > 0, space.weights.data(),
               space.values.data() + block * head_dim, space.sums.data());
    }
    for (int64_t i = 0; i < count; ++i) {
      S* to = out + ((start + first + i) * heads + head) * head_dim;
      const float share = 1.0f / space.total[i];
      saccade::map([share](Vec sum) { return sum * Vec(share); }, head_dim, to,
                   space.sums.data() + i * head_dim);
    }
  }

  // One row of online softmax: scores to weights; what was summed before is brought to scale.
  void weigh(Workspace<S, P>& space, int64_t row, int64_t columns, int64_t exist, float scale) const {
    float* scores = space.scores.data() + row * columns;
    P* weights = space.weights.data() + row * columns;
    std::fill(scores + exist, scores + columns, kNever);
    Vec most(kNever);
    for (int64_t j = 0; j < columns; j += Vec::size()) {
      most = at::vec::maximum(most, Vec::loadu(scores + j));
    }
    const float here = scale * at::vec::vec_reduce_all<float>(
        [](Vec& a, Vec& b) { return at::vec::maximum(a, b); }, most);
    const float largest = std::max(space.largest[row], here);
    const Vec factor(scale), shift(-largest);
    Vec sum(0.0f);
    for (int64_t j = 0; j < columns; j += 2 * Vec::size()) {
      const Vec first = power_of_two<P>(at::vec::fmadd(Vec::loadu(scores + j), factor, shift));
      const Vec second = power_of_two<P>(
          at::vec::fmadd(Vec::loadu(scores + j + Vec::size()), factor, shift));
      sum = sum + first + second;
      write(first, weights + j);
      write(second, weights + j + Vec::size());
    }
    const float added = at::vec::vec_reduce_all<float>([](Vec& a, Vec& b) { return a + b; }, sum);
    if (largest > space.largest[row] && space.total[row] > 0.0f) {
      const float before = std::exp2(space.largest[row] - largest);
      float* sums = space.sums.data() + row * head_dim;
      for (int64_t d = 0; d < head_dim; ++d) sums[d] *= before;
      space.total[row] *= before;
    }
    space.total[row] += added;
    space.largest[row] = largest;
  }
};

template <typename S, typename P>
void run(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
         const at::Tensor& cu_seqlens, at::Tensor& out) {
  const int64_t heads = qkv.size(2), head_dim = qkv.size(3), segments = cu_seqlens.numel() - 1;
  const int32_t* ends = cu_seqlens.const_data_ptr<int32_t>();
  int64_t max_seqlen = 0;
  for (int64_t s = 0; s < segments; ++s) {
    max_seqlen = std::max<int64_t>(max_seqlen, ends[s + 1] - ends[s]);
  }
  const Attention<S, P> attention{qkv.const_data_ptr<S>(), cos.const_data_ptr<float>(),
                               sin.const_data_ptr<float>(), out.data_ptr<S>(), heads, head_dim};
  // Packing again for each share costs little beside a long segment's scores.
  const int64_t blocks = (max_seqlen + kQueries - 1) / kQueries;
  const int64_t wanted = 4 * at::get_num_threads();
  const int64_t shares =
      std::clamp<int64_t>((wanted + segments * heads - 1) / (segments * heads), 1, blocks);
  at::parallel_for(0, segments * heads * shares, 1, [&](int64_t from, int64_t to) {
    Workspace<S, P> space(max_seqlen, head_dim);
    for (int64_t task = from; task < to; ++task) {
      const int64_t share = task % shares, head = task / shares % heads, r = task / shares / heads;
      const int64_t start = ends[r], length = ends[r + 1] - start;
      const int64_t its_blocks = (length + kQueries - 1) / kQueries;
      const int64_t first = its_blocks * share / shares, last = its_blocks * (share + 1) / shares;
      if (first == last) continue;
      attention.pack(space, start, length, head);
      for (int64_t block = first; block < last; ++block) {
        const int64_t query = block * kQueries;
        attention.attend(space, start, length, head, query, std::min(kQueries, length - query));
      }
    }
    if (std::is_same_v<P, BFloat16>) at::native::cpublas::brgemm_release();
  });
}

void check(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
           const at::Tensor& cu_seqlens) {
  TORCH_CHECK(qkv.dim() == 4 && qkv.size(1) == 3 && qkv.is_contiguous(),
              "qkv must be contiguous [tokens, 3, heads, head_dim]");
  TORCH_CHECK(qkv.size(3) % 2 == 0, "head_dim must be even");
  TORCH_CHECK(cu_seqlens.dtype() == at::kInt && cu_seqlens.is_contiguous(),
              "cu_seqlens must be int32");
  for (const auto* angles : {&cos, &sin}) {
    TORCH_CHECK(angles->dtype() == at::kFloat && angles->is_contiguous() &&
                    angles->numel() == qkv.size(0) * qkv.size(3) / 2,
                "cos and sin must be contiguous float32 [tokens, head_dim / 2]");
  }
}

at::Tensor empty_context(const at::Tensor& qkv) {
  return at::empty({qkv.size(0), qkv.size(2) * qkv.size(3)}, qkv.options());
}

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                     const at::Tensor& cu_seqlens) {
  check(qkv, cos, sin, cu_seqlens);
  at::Tensor out = empty_context(qkv);
  if (cu_seqlens.numel() < 2 || qkv.numel() == 0) return out;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, qkv.scalar_type(), "attention", [&] {
    run<scalar_t, float>(qkv, cos, sin, cu_seqlens, out);
  });
  return out;
}

at::Tensor attention_bfloat16(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                              const at::Tensor& cu_seqlens) {
  check(qkv, cos, sin, cu_seqlens);
  TORCH_CHECK(qkv.dtype() == at::kBFloat16, "qkv must be bfloat16");
  at::Tensor out = empty_context(qkv);
  if (cu_seqlens.numel() >= 2 && qkv.numel() != 0) {
    run<BFloat16, BFloat16>(qkv, cos, sin, cu_seqlens, out);
  }
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(saccade_cpu, m) {
  m.def("attention(Tensor qkv, Tensor cos, Tensor sin, Tensor cu_seqlens) -> Tensor");
  m.def("attention_bfloat16(Tensor qkv, Tensor cos, Tensor sin, Tensor cu_seqlens) -> Tensor");
}

TORCH_LIBRARY_IMPL(saccade_cpu, CPU, m) {
  m.impl("attention", attention);
  m.impl("attention_bfloat16", attention_bfloat16);
}
