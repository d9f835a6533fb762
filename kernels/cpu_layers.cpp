// Layers between products of matrices on the CPU, one pass over memory each: a row is read, worked
// on while it is in the nearest cache, and written. Sums are float32.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>

#define SACCADE_DISPATCH(TYPE, NAME, ...)                                     \
  AT_DISPATCH_SWITCH(TYPE, NAME, AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__)    \
                                     AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__) \
                                         AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__))

namespace {

using Vec = at::vec::Vectorized<float>;

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
  at::vec::map2<S>([scale](Vec v, Vec w) { return v * scale * w; }, out, x, weight, size);
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
        at::vec::map2<scalar_t>([](Vec a, Vec b) { return a + b; }, sum, sum, value, columns);
        normalise(sum, by, value, columns, float(eps));
      }
    });
  });
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
        at::vec::map2<scalar_t>(
            [one](Vec g, Vec u) { return g / (one + g.neg().exp()) * u; }, to + row * columns,
            gate, gate + columns, columns);
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(saccade_cpu, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def("add_rms_norm(Tensor(a!) x, Tensor(b!) residual, Tensor weight, float eps) -> ()");
  m.def("silu_and_mul(Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(saccade_cpu, CPU, m) {
  m.impl("rms_norm", rms_norm);
  m.impl("add_rms_norm", add_rms_norm);
  m.impl("silu_and_mul", silu_and_mul);
}
