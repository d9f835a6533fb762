// Colours looked up in a table.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cstdint>
#include <cstring>

namespace {

// As `reference.map_colours`.
at::Tensor map_colours(const at::Tensor& pixels, const at::Tensor& table) {
  TORCH_CHECK(pixels.dim() == 3 && pixels.size(2) == 3 && pixels.is_contiguous() &&
                  pixels.dtype() == at::kByte,
              "pixels must be contiguous uint8 [H, W, 3]");
  TORCH_CHECK(table.dim() == 4 && table.size(3) == 4 && table.is_contiguous() &&
                  table.dtype() == at::kByte && table.size(0) == table.size(1) &&
                  table.size(1) == table.size(2),
              "the table must be contiguous uint8 [N, N, N, 4]");
  int shift = 8;
  while (shift >= 0 && table.size(0) << shift != 256) {
    --shift;
  }
  TORCH_CHECK(shift >= 0, "the table must have a power of two of steps, 256 at most");
  const int bits = 8 - shift;
  at::Tensor out = at::empty_like(pixels);
  const uint8_t* from = pixels.const_data_ptr<uint8_t>();
  const uint8_t* entries = table.const_data_ptr<uint8_t>();
  uint8_t* to = out.data_ptr<uint8_t>();
  const auto entry_of = [&](const uint8_t* pixel) {
    const uint32_t red = pixel[0] >> shift, green = pixel[1] >> shift, blue = pixel[2] >> shift;
    return entries + int64_t{4} * (((red << bits | green) << bits) | blue);
  };
  const int64_t end = pixels.numel();
  int64_t i = 0;
  for (; i + 3 < end; i += 3) {  // one store for all four bytes; the next overwrites the last
    std::memcpy(to + i, entry_of(from + i), 4);
  }
  if (i < end) {
    std::memcpy(to + i, entry_of(from + i), 3);
  }
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(saccade_cpu, m) {
  m.def("map_colours(Tensor pixels, Tensor table) -> Tensor");
}

TORCH_LIBRARY_IMPL(saccade_cpu, CPU, m) { m.impl("map_colours", map_colours); }
