// Antialiased bicubic resize of RGB bytes on the calling thread, equal to PyTorch's to the bit.
//
// The same arithmetic in the same places: weights of 16 bits as PyTorch scales and rounds them,
// rows first, rounded to bytes, then columns. What differs is the order of the work. A resized row
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

// The last table of this thread: the next frame of a video has the same size.
template <typename Table, typename Make>
const Table& kept(Table& table, const Side& side, int64_t in, int64_t out, Make make) {
  if (side.in != in || side.out != out) table = make(Side(in, out));
  return table;
}

// [height, width, 3] bytes to [new_height, new_width, 3]. `source(y, rows)` tells where the kRows rows
// from y on are; behind the last one follows itself. It is asked once for each y, from the top down.
// False where it says so, or where a row does not fit the table.
template <typename Source>
bool resize_image(Source&& source, int64_t height, int64_t width, uint8_t* to, int64_t new_height,
                  int64_t new_width) {
  thread_local Row last_row;
  thread_local Side last_column;
  const Row& row = kept(last_row, last_row.side, width, new_width, [](Side s) { return Row(s); });
  const Side& column = kept(last_column, last_column, height, new_height, [](Side s) { return s; });
  if (!row.fits) return false;

  // Resized rows, in a ring that holds those of one row of the result and those made at once.
  const int64_t room = (row.blocks + 1) * kBlock, size = new_width * kChannels;
  const int64_t places = (column.taps + kRows - 1) / kRows * kRows + kRows;
  std::vector<uint8_t> ring(places * room);
  std::vector<const uint8_t*> rows(column.taps);
  const auto across = !row.shared                       ? resize_rows<false, 0>
                      : row.side.taps == 2 * kEnlarging ? resize_rows<true, kEnlarging>
                                                        : resize_rows<true, 0>;
  const auto down = column.taps == 2 * kEnlarging ? resize_columns<kEnlarging> : resize_columns<0>;
  const bool stream = new_height * size >= kStreamed;
  int64_t made = 0;
  for (int64_t y = 0; y < new_height; ++y) {
    const int64_t first = column.first[y], end = first + column.counts[y];
    for (; made < end; made += kRows) {
      const uint8_t* sources[kRows];
      uint8_t* results[kRows];
      if (!source(made, sources)) return false;
      for (int64_t r = 0; r < kRows; ++r) results[r] = &ring[(made + r) % places * room];
      if (width == new_width) {
        for (int64_t r = 0; r < kRows; ++r) std::memcpy(results[r], sources[r], size);
      } else {
        across(row, sources, results);
      }
    }
    for (int64_t t = 0; t < column.taps; ++t) {
      rows[t] = &ring[std::min(first + t, end - 1) % places * room];  // weights behind are zero
    }
    if (height == new_height) {
      std::memcpy(to + y * size, &ring[y % places * room], size);
    } else {
      down(column, y, rows.data(), to + y * size, size, stream);
    }
  }
  _mm_sfence();  // other threads see what was streamed
  return true;
}

}  // namespace saccade::bytes
