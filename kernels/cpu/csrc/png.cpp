// The inflated rows of a PNG, unfiltered and resized in one go, on the calling thread.

#include <cstdint>

#ifdef __AVX2__
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include "turned.h"

namespace {

using namespace saccade::bytes;

// One pixel of up to four bytes, and back.
inline __m128i pixel(const uint8_t* from) {
  int32_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return _mm_cvtsi32_si128(bytes);
}

template <int kBytes>
inline void put(uint8_t* to, __m128i pixel) {
  const int32_t bytes = _mm_cvtsi128_si32(pixel);
  std::memcpy(to, &bytes, kBytes);
}

// What the Paeth filter predicts from the pixels to the left, above, and above that (PNG, 9.4).
inline __m128i nearest(__m128i left, __m128i above, __m128i corner) {
  const __m128i zero = _mm_setzero_si128();
  const __m128i a = _mm_unpacklo_epi8(left, zero), b = _mm_unpacklo_epi8(above, zero);
  const __m128i c = _mm_unpacklo_epi8(corner, zero);
  const __m128i from_b = _mm_sub_epi16(b, c), from_a = _mm_sub_epi16(a, c);
  const __m128i to_a = _mm_abs_epi16(from_b), to_b = _mm_abs_epi16(from_a);
  const __m128i to_c = _mm_abs_epi16(_mm_add_epi16(from_a, from_b));
  const __m128i least = _mm_min_epi16(to_c, _mm_min_epi16(to_a, to_b));
  const __m128i b_or_c = _mm_blendv_epi8(c, b, _mm_cmpeq_epi16(least, to_b));
  const __m128i chosen = _mm_blendv_epi8(b_or_c, a, _mm_cmpeq_epi16(least, to_a));
  return _mm_packus_epi16(chosen, zero);
}

// Undo the filter of a row of `size` bytes; four more may be read of each, and of `to` written.
// False for a filter that there is not.
template <int kBytes>
bool unfilter(int filter, const uint8_t* from, const uint8_t* above, uint8_t* to, int64_t size) {
  __m128i left = _mm_setzero_si128(), corner = _mm_setzero_si128();
  switch (filter) {
    case 0:
      std::memcpy(to, from, size);
      return true;
    case 1:
      for (int64_t x = 0; x < size; x += kBytes) {
        left = _mm_add_epi8(left, pixel(from + x));
        put<kBytes>(to + x, left);
      }
      return true;
    case 2:
      for (int64_t x = 0; x < size; ++x) to[x] = uint8_t(from[x] + above[x]);
      return true;
    case 3:
      for (int64_t x = 0; x < size; x += kBytes) {
        const __m128i up = pixel(above + x);
        const __m128i odd = _mm_and_si128(_mm_xor_si128(left, up), _mm_set1_epi8(1));
        left = _mm_add_epi8(pixel(from + x), _mm_sub_epi8(_mm_avg_epu8(left, up), odd));
        put<kBytes>(to + x, left);
      }
      return true;
    case 4:
      for (int64_t x = 0; x < size; x += kBytes) {
        const __m128i up = pixel(above + x);
        left = _mm_add_epi8(pixel(from + x), nearest(left, up, corner));
        corner = up;
        put<kBytes>(to + x, left);
      }
      return true;
    default:
      return false;
  }
}

// c of `alpha` on white, rounded as PIL does.
inline uint8_t on_white(int c, int alpha) {
  const int sum = 255 * (255 - alpha) + c * alpha + 128;
  return uint8_t(((sum >> 8) + sum) >> 8);
}

// [height, 1 + width * channels] bytes as PNG has them inflated -> rows of RGB.
class PngRows {
 public:
  PngRows(const uint8_t* filtered, int64_t height, int64_t width, int64_t channels)
      : from_(filtered), left_(height), width_(width), channels_(channels),
        room_(width * std::max(channels, kChannels) + kBlock), rows_((2 * kRows + 1) * room_) {}

  // The next kRows rows; behind the last one follows itself.
  bool read(const uint8_t* (&rows)[kRows]) {
    for (int64_t r = 0; r < kRows; ++r) {
      if (left_ > 0) {
        if (!next(rows_.data() + r * room_)) return false;
        last_ = channels_ == kChannels ? above_ : coloured(rows_.data() + (kRows + r) * room_);
      }
      rows[r] = last_;
    }
    return true;
  }

 private:
  bool next(uint8_t* to) {
    const int64_t size = width_ * channels_;
    const uint8_t* above = above_ ? above_ : rows_.data() + 2 * kRows * room_;
    const int filter = *from_;
    const bool known = channels_ == 4   ? unfilter<4>(filter, from_ + 1, above, to, size)
                       : channels_ == 3 ? unfilter<3>(filter, from_ + 1, above, to, size)
                                        : unfilter<1>(filter, from_ + 1, above, to, size);
    above_ = to;
    from_ += 1 + size;
    --left_;
    return known;
  }

  const uint8_t* coloured(uint8_t* to) const {
    for (int64_t x = 0; x < width_; ++x, to += kChannels) {
      const uint8_t* from = above_ + x * channels_;
      if (channels_ == 1) {
        std::memset(to, *from, kChannels);
      } else if (from[3] == 255) {
        std::memcpy(to, from, 4);  // the fourth is overwritten
      } else {
        for (int64_t c = 0; c < kChannels; ++c) to[c] = on_white(from[c], from[3]);
      }
    }
    return to - width_ * kChannels;
  }

  const uint8_t* from_;
  int64_t left_, width_, channels_, room_;
  std::vector<uint8_t> rows_;  // unfiltered, in colours, and one of zeros
  const uint8_t *above_ = nullptr, *last_ = nullptr;
};

}  // namespace

// The inflated rows of a PNG of [height, width] pixels as stored, of 1, 3 or 4 channels of 8 bits,
// which EXIF's `orientation` turns, to `out`, [new_height, new_width, 3], laid on white. Four bytes
// behind them may be read. False, with anything in `out`, where a row has no known filter or the
// table of the resize does not fit. Called through ctypes, as `jpeg.cpp`.
extern "C" bool saccade_resize_png(const uint8_t* filtered, int64_t height, int64_t width,
                                   int64_t channels, int64_t orientation, uint8_t* out,
                                   int64_t new_height, int64_t new_width) {
  try {
    PngRows png(filtered, height, width, channels);
    const auto source = [&](int64_t, const uint8_t* (&rows)[kRows]) { return png.read(rows); };
    return resize_turned(source, height, width, Turn(orientation), out, new_height, new_width);
  } catch (const std::exception&) {  // no memory
    return false;
  }
}

#endif
