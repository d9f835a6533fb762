// Layers between products of matrices on the CPU, one pass over memory each: a row is read, worked
// on while it is in the nearest cache, and written. Sums are float32.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "vectors.h"

#define SACCADE_DISPATCH(TYPE, NAME, ...)                                     \
  AT_DISPATCH_SWITCH(TYPE, NAME, AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__)    \
                                     AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__) \
                                         AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__))

namespace {

using saccade::map, saccade::Vec;

// Rows that are worth a task of their own: about as much memory as a core's first cache holds.
int64_t grain(int64_t columns) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, columns)); }

void check(const at::Tensor& x, const char* name) {
  TORCH_CHECK(x.dim() >= 1 && x.is_contiguous(), name, " must be contiguous");
}

// out = x / sqrt(mean(x^2) + eps) * weight; out may be x.
template <typename S>
void normalise(const S* x, const S* weight, S* out, int64_t size, float eps) {
  const float squares = at::vec::map_reduce_all<S>(
      [](Vec v) { return v * v; }, [](Vec a, Vec b) { return a + b; }, x, size);
  const Vec scale(1.0f / std::sqrt(squares / float(size) + eps));
  map([scale](Vec v, Vec w) { return v * scale * w; }, size, out, x, weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check(x, "x");
  TORCH_CHECK(weight.is_contiguous() && weight.numel() == x.size(-1) && weight.dtype() == x.dtype(),
              "weight must have the last dimension and the dtype of x");
  at::Tensor out = at::empty_like(x);
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  SACCADE_DISPATCH(x.scalar_type(), "rms_norm", [&] {
    const auto* from = x.const_data_ptr<scalar_t>();
    const auto* by = weight.const_data_ptr<scalar_t>();
    auto* to = out.data_ptr<scalar_t>();
    at::parallel_for(0, rows, grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        normalise(from + row * columns, by, to + row * columns, columns, float(eps));
      }
    });
  });
  return out;
}

// residual += x; x = rms_norm(residual).
void add_rms_norm(at::Tensor& x, at::Tensor& residual, const at::Tensor& weight, double eps) {
  check(x, "x");
  check(residual, "residual");
  TORCH_CHECK(residual.sizes() == x.sizes() && residual.dtype() == x.dtype(),
              "residual must be like x");
  TORCH_CHECK(weight.is_contiguous() && weight.numel() == x.size(-1) && weight.dtype() == x.dtype(),
              "weight must have the last dimension and the dtype of x");
  const int64_t columns = x.size(-1), rows = columns ? x.numel() / columns : 0;
  SACCADE_DISPATCH(x.scalar_type(), "add_rms_norm", [&] {
    const auto* by = weight.const_data_ptr<scalar_t>();
    auto* values = x.data_ptr<scalar_t>();
    auto* sums = residual.data_ptr<scalar_t>();
    at::parallel_for(0, rows, grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        scalar_t *value = values + row * columns, *sum = sums + row * columns;
        map([](Vec a, Vec b) { return a + b; }, columns, sum, sum, value);
        normalise(sum, by, value, columns, float(eps));
      }
    });
  });
}

// exp for numbers that are rounded to S afterwards.
template <typename S>
Vec exponential(Vec x) {
  return std::is_same_v<S, float> ? x.exp() : x.exp_u20();
}

// silu(gate) * up, of rows [gate, up].
at::Tensor silu_and_mul(const at::Tensor& x) {
  check(x, "x");
  TORCH_CHECK(x.size(-1) % 2 == 0, "x must hold gates and as many values");
  const int64_t columns = x.size(-1) / 2, rows = columns ? x.numel() / (2 * columns) : 0;
  auto sizes = x.sizes().vec();
  sizes.back() = columns;
  at::Tensor out = at::empty(sizes, x.options());
  SACCADE_DISPATCH(x.scalar_type(), "silu_and_mul", [&] {
    const auto* from = x.const_data_ptr<scalar_t>();
    auto* to = out.data_ptr<scalar_t>();
    const Vec one(1.0f);
    at::parallel_for(0, rows, grain(2 * columns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const scalar_t* gate = from + row * 2 * columns;
        map([one](Vec g, Vec u) { return g / (one + exponential<scalar_t>(g.neg())) * u; },
            columns, to + row * columns, gate, gate + columns);
      }
    });
  });
  return out;
}

// Which position turns a pair: 0 time, 1 row, 2 column; see reference.mrope.
std::vector<int> axes(at::IntArrayRef sections, bool interleaved) {
  const int64_t half = sections[0] + sections[1] + sections[2];
  std::vector<int> axis(half, 0);
  for (int64_t pair = 0; pair < half; ++pair) {
    if (interleaved) {
      const int turn = int(pair % 3);
      axis[pair] = turn && pair < 3 * sections[turn] ? turn : 0;
    } else {
      axis[pair] = (pair >= sections[0]) + (pair >= sections[0] + sections[1]);
    }
  }
  return axis;
}

// Rotates one token's heads in place. before: room for the first halves of a head.
template <typename S>
void rotate_heads(S* heads, int64_t count, const S* cos, const S* sin, int64_t half, S* before) {
  for (int64_t head = 0; head < count; ++head) {
    S *first = heads + head * 2 * half, *second = first + half;
    std::copy_n(first, half, before);
    map([](Vec a, Vec b, Vec c, Vec s) { return a * c - b * s; }, half, first, before, second, cos,
        sin);
    map([](Vec b, Vec a, Vec c, Vec s) { return b * c + a * s; }, half, second, second, before, cos,
        sin);
  }
}

void check_heads(const at::Tensor& x, const at::Tensor& like, int64_t head_dim, const char* name) {
  TORCH_CHECK(x.dim() == 2 && x.stride(1) == 1 && x.size(0) == like.size(0) &&
                  x.size(1) % head_dim == 0 && x.dtype() == like.dtype(),
              name, " must be [tokens, heads * head_dim] beside query, and its dtype");
}

// reference.mrope; query, key and cache are of one dtype.
void mrope(at::Tensor& query, at::Tensor& key, const at::Tensor& positions,
           const at::Tensor& cache, int64_t head_dim, at::IntArrayRef sections, bool interleaved) {
  const int64_t half = head_dim / 2;
  TORCH_CHECK(sections.size() == 3 && head_dim == 2 * half && half > 0 &&
                  sections[0] + sections[1] + sections[2] == half,
              "sections must be three and add up to half of head_dim");
  check_heads(query, query, head_dim, "query");
  check_heads(key, query, head_dim, "key");
  const int64_t tokens = query.size(0);
  TORCH_CHECK(positions.dim() == 2 && positions.size(0) == 3 && positions.size(1) == tokens &&
                  positions.stride(1) == 1 && positions.scalar_type() == at::kLong,
              "positions must be int64 [3, tokens]");
  TORCH_CHECK(cache.dim() == 2 && cache.size(1) == head_dim && cache.is_contiguous() &&
                  cache.dtype() == query.dtype(),
              "cache must be [positions, head_dim], of the dtype of query");
  const auto axis = axes(sections, interleaved);
  const int64_t* places = positions.const_data_ptr<int64_t>();
  const int64_t apart = positions.stride(0), last = cache.size(0);
  SACCADE_DISPATCH(query.scalar_type(), "mrope", [&] {
    const auto* table = cache.const_data_ptr<scalar_t>();
    auto *queries = query.data_ptr<scalar_t>(), *keys = key.data_ptr<scalar_t>();
    at::parallel_for(0, tokens, grain(query.size(1)), [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room(3 * half);
      scalar_t *cos = room.data(), *sin = cos + half, *before = sin + half;
      for (int64_t token = begin; token < end; ++token) {
        const scalar_t* rows[3];
        for (int64_t turn = 0; turn < 3; ++turn) {
          const int64_t place = places[turn * apart + token];
          TORCH_CHECK_INDEX(place >= 0 && place < last, "position ", place, " is not in the cache");
          rows[turn] = table + place * head_dim;
        }
        for (int64_t pair = 0; pair < half; ++pair) {
          cos[pair] = rows[axis[pair]][pair];
          sin[pair] = rows[axis[pair]][pair + half];
        }
        rotate_heads(queries + token * query.stride(0), query.size(1) / head_dim, cos, sin, half,
                     before);
        rotate_heads(keys + token * key.stride(0), key.size(1) / head_dim, cos, sin, half, before);
      }
    });
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(saccade_cpu, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def("add_rms_norm(Tensor(a!) x, Tensor(b!) residual, Tensor weight, float eps) -> ()");
  m.def("silu_and_mul(Tensor x) -> Tensor");
  m.def(
      "mrope(Tensor(a!) query, Tensor(b!) key, Tensor positions, Tensor cache, int head_dim, "
      "int[] sections, bool interleaved) -> ()");
}

TORCH_LIBRARY_IMPL(saccade_cpu, CPU, m) {
  m.impl("rms_norm", rms_norm);
  m.impl("add_rms_norm", add_rms_norm);
  m.impl("silu_and_mul", silu_and_mul);
  m.impl("mrope", mrope);
}
