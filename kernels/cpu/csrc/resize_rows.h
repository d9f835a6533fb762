// Antialiased bicubic resize of RGB bytes on the calling thread, equal to PyTorch's to the bit.
//
// The same arithmetic in the same places: weights of 16 bits as PyTorch scales and rounds them,
// rows first, rounded to bytes, then columns (columns first in an image that is stored sideways). What differs is the order of the work. A resized row
// stays in the nearest cache until the columns are done with it, and along a row a vector of bytes of
// the result is made at a time, whichever pixels and channels they belong to: a table says which
// bytes of the source meet which weights.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "resize_tables.h"

namespace saccade::bytes {

constexpr int64_t kRows = 4;  // that are resized at once: a piece of the table serves all
// Bytes of a result that will have left the caches when somebody reads it: it goes to memory at
// once, which need not be read before.
constexpr int64_t kStreamed = 4 << 20;

inline Vec to_bytes(Vec a, Vec b, Vec c, Vec d, int precision) {
  const __m128i by = _mm_cvtsi32_si128(precision);
  return to_8(to_16(shift(a, by), shift(b, by)), to_16(shift(c, by), shift(d, by)));
}

// Loops over pairs of taps are unrolled where kPairs says how many there are; 0: as the table says.
constexpr int64_t kEnlarging = 2;  // pairs of four taps

// Resize rows along themselves; each of `to` has room for whole blocks.
template <bool kShared, int64_t kPairs>
void resize_rows(const Row& row, const uint8_t* const (&from)[kRows], uint8_t* const (&to)[kRows]) {
  const int64_t pairs = kPairs > 0 ? kPairs : row.side.taps / 2;
  const Vec half = splat(1 << (row.side.precision - 1));
  const Step* step = row.steps.data();
  for (int64_t block = 0; block < row.blocks; ++block) {
    Vec sums[4][kRows];
#pragma GCC unroll 4
    for (auto& group : sums) {
      Vec a = half, b = half, c = half, d = half;
      Vec seen[kRows];
      for (int64_t pair = 0; pair < pairs; ++pair, ++step) {
        if (!kShared || pair == 0) {
          for (int64_t r = 0; r < kRows; ++r) seen[r] = window(from[r], step->from);
        }
        const Vec places = load(step->places), weights = load(step->weights);
        a = add_products(a, pick(seen[0], places), weights);
        b = add_products(b, pick(seen[1], places), weights);
        c = add_products(c, pick(seen[2], places), weights);
        d = add_products(d, pick(seen[3], places), weights);
      }
      group[0] = a, group[1] = b, group[2] = c, group[3] = d;
    }
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRows; ++r) {
      const Vec bytes =
          to_bytes(sums[0][r], sums[1][r], sums[2][r], sums[3][r], row.side.precision);
      store(to[r] + block * kBlock, in_order(bytes));
    }
  }
}

// A block of a row of the result, from byte x on, from the rows that its pixels are made of.
template <int64_t kPairs>
[[gnu::always_inline]] inline Vec columns_block(const Side& side, int64_t y,
                                                const uint8_t* const* rows, int64_t x) {
  const int64_t pairs = kPairs > 0 ? kPairs : side.taps / 2;
  const int16_t* weights = &side.weights[y * side.taps];
  const Vec half = splat(1 << (side.precision - 1)), zero = zeros();
  Vec a = half, b = half, c = half, d = half;
#pragma GCC unroll 2
  for (int64_t pair = 0; pair < pairs; ++pair) {
    int32_t two;
    std::memcpy(&two, weights + 2 * pair, sizeof two);
    const Vec both = splat(two);
    const Vec upper = load(rows[2 * pair] + x), lower = load(rows[2 * pair + 1] + x);
    const Vec first = low(upper, lower), second = high(upper, lower);
    a = add_products(a, low(first, zero), both);
    b = add_products(b, high(first, zero), both);
    c = add_products(c, low(second, zero), both);
    d = add_products(d, high(second, zero), both);
  }
  return to_bytes(a, b, c, d, side.precision);
}

// One row of the result, `size` bytes, in stores that lie within a line of the cache or, streamed,
// past it.
template <int64_t kPairs>
void resize_columns(const Side& side, int64_t y, const uint8_t* const* rows,
                    uint8_t* __restrict to, int64_t size, bool streamed) {
  const auto part = [&](int64_t x, int64_t count) {
    alignas(kBlock) uint8_t bytes[kBlock];
    store(bytes, columns_block<kPairs>(side, y, rows, x));
    std::memcpy(to + x, bytes, count);
  };
  int64_t x = std::min<int64_t>(-reinterpret_cast<uintptr_t>(to) % kBlock, size);
  if (x > 0) part(0, x);
  for (; x + kBlock <= size; x += kBlock) {
    const Vec bytes = columns_block<kPairs>(side, y, rows, x);
    streamed ? stream(to + x, bytes) : store(to + x, bytes);
  }
  if (x < size) part(x, size - x);
}

// The last tables of this thread: the next frame of a video has the same size.
inline const Side& column_table(int64_t in, int64_t out, bool mirrored) {
  thread_local Side side;
  if (side.in != in || side.out != out || side.mirrored != mirrored) {
    side = mirrored ? Side(in, out).mirror() : Side(in, out);
  }
  return side;
}

inline const Row& row_table(int64_t in, int64_t out, bool mirrored) {
  thread_local Row row;
  if (row.side.in != in || row.side.out != out || row.side.mirrored != mirrored) {
    row = Row(mirrored ? Side(in, out).mirror() : Side(in, out));
  }
  return row;
}

inline auto along(const Row& row) {
  if (!row.shared) return resize_rows<false, 0>;
  return row.side.taps == 2 * kEnlarging ? resize_rows<true, kEnlarging> : resize_rows<true, 0>;
}

inline auto down(const Side& side) {
  return side.taps == 2 * kEnlarging ? resize_columns<kEnlarging> : resize_columns<0>;
}

// Rows, in a ring that holds those which one row of the result is made of and those made at once.
class Ring {
 public:
  Ring(const Side& column, int64_t room)
      : room_(room),
        places_((column.taps + kRows - 1) / kRows * kRows + kRows),
        memory_(places_ * room),
        rows_(column.taps) {}

  // Where row y is, until there are too many behind it.
  uint8_t* operator[](int64_t y) { return &memory_[y % places_ * room_]; }

  // The rows that row y of the result is made of.
  const uint8_t* const* of(const Side& column, int64_t y) {
    const int64_t first = column.first[y], last = first + column.counts[y] - 1;
    for (int64_t t = 0; t < column.taps; ++t) {
      rows_[t] = (*this)[std::min(first + t, last)];  // weights behind are zero
    }
    return rows_.data();
  }

 private:
  int64_t room_, places_;
  std::vector<uint8_t> memory_;
  std::vector<const uint8_t*> rows_;
};

// [height, width, 3] bytes to [new_height, new_width, 3], whose row y goes to `place(y)` and is then
// told to `made(y)`. `source(y, rows)` tells where the kRows rows from y on are; behind the last one
// follows itself. It is asked once for each y, from the top down. False where it says so, or where a
// row does not fit the table. The tables are of the sides of the image as it is stored.
template <typename Source, typename Place, typename Made>
bool resize_image(Source&& source, const Row& row, const Side& column, Place&& place, Made&& made,
                  bool stream = false) {
  if (!row.fits) return false;
  const int64_t width = row.side.in, new_width = row.side.out, size = new_width * kChannels;
  Ring ring(column, (row.blocks + 1) * kBlock);
  int64_t have = 0;
  for (int64_t y = 0; y < column.out; ++y) {
    for (; have < column.first[y] + column.counts[y]; have += kRows) {
      const uint8_t* sources[kRows];
      uint8_t* results[kRows];
      if (!source(have, sources)) return false;
      for (int64_t r = 0; r < kRows; ++r) results[r] = ring[have + r];
      if (width == new_width) {
        for (int64_t r = 0; r < kRows; ++r) std::memcpy(results[r], sources[r], size);
      } else {
        along(row)(row, sources, results);
      }
    }
    if (column.in == column.out) {
      std::memcpy(place(y), ring[y], size);
    } else {
      down(column)(column, y, ring.of(column, y), place(y), size, stream);
    }
    made(y);
  }
  _mm_sfence();  // other threads see what was streamed
  return true;
}

// As resize_image, of an image that is stored sideways: what are its columns here are resized first.
template <typename Source, typename Made>
bool resize_sideways(Source&& source, const Row& row, const Side& column, Made&& made) {
  const int64_t width = row.side.in, size = width * kChannels;
  if (width != row.side.out && !row.fits) return false;
  const int64_t room = (size + kBlock - 1) / kBlock * kBlock + kBlock;
  const int64_t new_room = (row.blocks + 1) * kBlock;
  Ring ring(column, room);
  std::vector<uint8_t> between(kRows * room), results(kRows * new_room);
  const uint8_t* from[kRows];
  uint8_t* to[kRows];
  for (int64_t r = 0; r < kRows; ++r) from[r] = &between[r * room], to[r] = &results[r * new_room];
  int64_t have = 0;
  for (int64_t y = 0; y < column.out; y += kRows) {
    const int64_t count = std::min(kRows, column.out - y);
    for (int64_t r = 0; r < count; ++r) {
      for (; have < column.first[y + r] + column.counts[y + r]; have += kRows) {
        const uint8_t* sources[kRows];
        if (!source(have, sources)) return false;
        for (int64_t s = 0; s < kRows; ++s) std::memcpy(ring[have + s], sources[s], size);
      }
      if (column.in == column.out) {
        std::memcpy(&between[r * room], ring[y + r], size);
      } else {
        down(column)(column, y + r, ring.of(column, y + r), &between[r * room], size, false);
      }
    }
    if (width != row.side.out) along(row)(row, from, to);
    for (int64_t r = 0; r < count; ++r) made(width != row.side.out ? to[r] : from[r]);
  }
  return true;
}

}  // namespace saccade::bytes
