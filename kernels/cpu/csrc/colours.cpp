// Colours looked up in a table.

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kChunk = 64;  // pixels whose places are known before the first is looked up

// As `reference.map_colours`.
void map_colours(at::Tensor& pixels, const at::Tensor& table) {
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
  const uint8_t* entries = table.const_data_ptr<uint8_t>();
  uint8_t* chunk = pixels.data_ptr<uint8_t>();
  for (int64_t left = pixels.numel() / 3; left > 0; left -= kChunk, chunk += 3 * kChunk) {
    const int count = static_cast<int>(std::min<int64_t>(left, kChunk));
    uint32_t places[kChunk];
    for (int i = 0; i < count; ++i) {
      const uint8_t* pixel = chunk + 3 * i;
      const uint32_t red = pixel[0] >> shift, green = pixel[1] >> shift, blue = pixel[2] >> shift;
      places[i] = ((red << bits | green) << bits) | blue;
    }
    for (int i = 0; i < count - 1; ++i) {  // all four bytes at once; the next overwrites the last
      std::memcpy(chunk + 3 * i, entries + int64_t{4} * places[i], 4);
    }
    std::memcpy(chunk + 3 * (count - 1), entries + int64_t{4} * places[count - 1], 3);
  }
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(saccade_cpu, m) {
  m.def("map_colours(Tensor(a!) pixels, Tensor table) -> ()");
}

TORCH_LIBRARY_IMPL(saccade_cpu, CPU, m) { m.impl("map_colours", map_colours); }
