// Rows of an image as it is stored, put where they are in the upright image (EXIF 2.32, 0x0112).

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "resize_rows.h"

namespace saccade::bytes {

// How a stored image differs from the upright one.
struct Turn {
  bool sideways, mirrored_rows, mirrored_columns;  // mirrored along a stored row, along a column

  explicit Turn(int64_t orientation)
      : sideways(orientation >= 5 && orientation <= 8),
        mirrored_rows(one_of(orientation, sideways ? 7 : 2, sideways ? 8 : 3)),
        mirrored_columns(one_of(orientation, sideways ? 6 : 3, sideways ? 7 : 4)) {}

  bool is_none() const { return !sideways && !mirrored_rows && !mirrored_columns; }

 private:
  static bool one_of(int64_t value, int64_t a, int64_t b) { return value == a || value == b; }
};

// Takes [rows, columns, 3] bytes from the top down. Rows that become columns are written together:
// one alone would touch every line of the result's memory for three bytes.
class Turned {
 public:
  Turned(uint8_t* out, int64_t rows, int64_t columns, Turn turn)
      : out_(out), rows_(rows), columns_(columns), turn_(turn),
        streamed_(rows * columns * kChannels >= kStreamed) {
    if (turn.sideways) waiting_.resize((columns + kAcross - 1) / kAcross * kTile + 16);
  }

  void add(const uint8_t* row) {
    if (!turn_.sideways) {
      put_row(row, out_ + (turn_.mirrored_columns ? rows_ - 1 - done_ : done_) * size());
      ++done_;
      return;
    }
    for (int64_t x = 0; x < columns_; x += kAcross) {
      std::memcpy(&waiting_[x / kAcross * kTile + count_ * kPiece], row + x * kChannels,
                  std::min(kAcross, columns_ - x) * kChannels);
    }
    ++count_;
    if (count_ == kTogether || done_ + count_ == rows_) put_columns();
  }

 private:
  // What waits, in tiles that lie in the nearest cache and in few pages: rows, pixels of a row.
  static constexpr int64_t kTogether = 192, kAcross = 32;
  static constexpr int64_t kPiece = kAcross * kChannels, kTile = kTogether * kPiece;
  static constexpr int64_t kLine = 64;   // bytes of a line of a cache
  static constexpr int64_t kAhead = 12;  // rows of the result

  int64_t size() const { return columns_ * kChannels; }

  void put_row(const uint8_t* row, uint8_t* to) const {
    if (!turn_.mirrored_rows) {
      std::memcpy(to, row, size());
      return;
    }
    // Four bytes take no longer than three; the fourth is overwritten by the next pixel.
    const uint8_t* from = row + size() - kChannels;
    for (int64_t x = 1; x < columns_; ++x, from -= kChannels, to += kChannels) {
      std::memcpy(to, from, 4);
    }
    std::memcpy(to, from, kChannels);
  }

  using Lines = uint8_t[4][kTogether * kChannels + 16];

  // Four pixels that lie beside one another in `count` rows, a step apart, to a line each.
  static void put_lines(const uint8_t* from, int64_t step, int64_t count, Lines& lines) {
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    const __m128i packed = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const auto row = [&](int64_t r) {
      return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + r * step)),
                              spread);
    };
    int64_t i = 0;
    for (; i + 4 <= count; i += 4, from += 4 * step) {
      const __m128i a = row(0), b = row(1), c = row(2), d = row(3);
      const __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
      const __m128i ef = _mm_unpackhi_epi32(a, b), gh = _mm_unpackhi_epi32(c, d);
      const __m128i pixels[] = {_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd),
                                _mm_unpacklo_epi64(ef, gh), _mm_unpackhi_epi64(ef, gh)};
      for (int64_t x = 0; x < 4; ++x) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(lines[x] + i * kChannels),
                         _mm_shuffle_epi8(pixels[x], packed));
      }
    }
    for (; i < count; ++i, from += step) {
      for (int64_t x = 0; x < 4; ++x) {
        std::memcpy(lines[x] + i * kChannels, from + x * kChannels, kChannels);
      }
    }
  }

  // To memory that will have left the caches when somebody reads it: whole lines of it, which then
  // need not be read before.
  static void stream_out(const uint8_t* from, int64_t size, uint8_t* to) {
    const int64_t before = std::min<int64_t>(-reinterpret_cast<uintptr_t>(to) % kLine, size);
    std::memcpy(to, from, before);
    int64_t at = before;
    for (; at + kLine <= size; at += kLine) {
      for (int64_t i = 0; i < kLine; i += kBlock) stream(to + at + i, load(from + at + i));
    }
    std::memcpy(to + at, from + at, size - at);
  }

  void put_columns() {
    const int64_t left = turn_.mirrored_columns ? rows_ - done_ - count_ : done_;
    const int64_t step = turn_.mirrored_columns ? -kPiece : kPiece;
    const uint8_t* first = waiting_.data() + (turn_.mirrored_columns ? (count_ - 1) * kPiece : 0);
    const auto place = [&](int64_t x) {
      return out_ + ((turn_.mirrored_rows ? columns_ - 1 - x : x) * rows_ + left) * kChannels;
    };
    Lines lines;
    for (int64_t x = 0; x < columns_; ++x) {
      // Lines that are written in part have to be read, and stores wait for one another.
      const uint8_t* soon = place(std::min(x + kAhead, columns_ - 1));
      __builtin_prefetch(soon, 1);
      __builtin_prefetch(soon + count_ * kChannels - 1, 1);
      if (x % 4 == 0) {
        put_lines(first + x / kAcross * kTile + x % kAcross * kChannels, step, count_, lines);
      }
      if (streamed_) {
        stream_out(lines[x % 4], count_ * kChannels, place(x));
      } else {
        std::memcpy(place(x), lines[x % 4], count_ * kChannels);
      }
    }
    if (streamed_ && done_ + count_ == rows_) _mm_sfence();  // other threads see what was streamed
    done_ += count_;
    count_ = 0;
  }

  uint8_t* out_;
  int64_t rows_, columns_, done_ = 0, count_ = 0;
  Turn turn_;
  bool streamed_;
  std::vector<uint8_t> waiting_;
};

// As resize_image, of [height, width, 3] bytes as stored to [new_height, new_width, 3] upright.
template <typename Source>
bool resize_turned(Source&& source, int64_t height, int64_t width, Turn turn, uint8_t* out,
                   int64_t new_height, int64_t new_width) {
  const int64_t rows = turn.sideways ? new_width : new_height;
  const int64_t columns = turn.sideways ? new_height : new_width, line = columns * kChannels;
  Turned turned(out, rows, columns, turn);
  if (rows == height && columns == width) {
    for (int64_t y = 0; y < height; y += kRows) {
      const uint8_t* sources[kRows];
      if (!source(y, sources)) return false;
      for (int64_t r = 0; r < std::min(kRows, height - y); ++r) turned.add(sources[r]);
    }
    return true;
  }
  const Row& row = row_table(width, columns, turn.mirrored_rows);
  const Side& column = column_table(height, rows, turn.mirrored_columns);
  if (turn.sideways) {
    return resize_sideways(source, row, column, [&](const uint8_t* one) { turned.add(one); });
  }
  if (turn.is_none()) {
    const auto place = [&](int64_t y) { return out + y * line; };
    return resize_image(source, row, column, place, [](int64_t) {}, rows * line >= kStreamed);
  }
  std::vector<uint8_t> one(line + kBlock);
  const auto place = [&](int64_t) { return one.data(); };
  return resize_image(source, row, column, place, [&](int64_t) { turned.add(one.data()); });
}

}  // namespace saccade::bytes
