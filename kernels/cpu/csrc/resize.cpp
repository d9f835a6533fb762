// Antialiased bicubic resize of images in memory.

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>

#ifdef __AVX2__
#include "resize_rows.h"

namespace {

bool resize_one(const uint8_t* from, int64_t height, int64_t width, uint8_t* to,
                int64_t new_height, int64_t new_width) {
  using namespace saccade::bytes;
  const auto source = [&](int64_t y, const uint8_t* (&rows)[kRows]) {
    for (int64_t r = 0; r < kRows; ++r) {
      rows[r] = from + std::min(y + r, height - 1) * width * kChannels;
    }
    return true;
  };
  const int64_t size = new_width * kChannels;
  const auto place = [&](int64_t y) { return to + y * size; };
  return resize_image(source, row_table(width, new_width, false),
                      column_table(height, new_height, false), place, [](int64_t) {},
                      new_height * size >= kStreamed);
}

}  // namespace

#else

namespace {

bool resize_one(const uint8_t*, int64_t, int64_t, uint8_t*, int64_t, int64_t) { return false; }

}  // namespace

#endif

namespace {

// False where it cannot be done here: the processor has no AVX2, or a row is too short or shrinks
// too much for the table.
bool resize(const at::Tensor& pixels, at::Tensor& out) {
  for (const at::Tensor& x : {pixels, out}) {
    TORCH_CHECK(x.dim() == 4 && x.size(3) == 3 && x.is_contiguous() && x.dtype() == at::kByte,
                "pixels and out must be contiguous uint8 [N, H, W, 3]");
  }
  TORCH_CHECK(pixels.size(0) == out.size(0) && pixels.numel() > 0 && out.numel() > 0,
              "pixels and out must hold equally many images, none empty");
  const auto *from = pixels.const_data_ptr<uint8_t>();
  auto* to = out.data_ptr<uint8_t>();
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    if (!resize_one(from + i * pixels.stride(0), pixels.size(1), pixels.size(2),
                    to + i * out.stride(0), out.size(1), out.size(2))) {
      return false;
    }
  }
  return true;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(saccade_cpu, m) {
  m.def("resize(Tensor pixels, Tensor(a!) out) -> bool");
}

TORCH_LIBRARY_IMPL(saccade_cpu, CPU, m) { m.impl("resize", resize); }
