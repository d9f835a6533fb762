// Rows of an image as it is stored, put where they are in the upright image (EXIF 2.32, 0x0112).

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "resize_tables.h"

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
      : out_(out), rows_(rows), columns_(columns), turn_(turn) {
    if (turn.sideways) waiting_.resize(kTogether * size() + 1);
  }

  void add(const uint8_t* row) {
    if (!turn_.sideways) {
      put_row(row, out_ + (turn_.mirrored_columns ? rows_ - 1 - done_ : done_) * size());
      ++done_;
      return;
    }
    std::memcpy(&waiting_[count_++ * size()], row, size());
    if (count_ == kTogether || done_ + count_ == rows_) put_columns();
  }

 private:
  static constexpr int64_t kTogether = 64;

  int64_t size() const { return columns_ * kChannels; }

  void put_row(const uint8_t* row, uint8_t* to) const {
    if (!turn_.mirrored_rows) {
      std::memcpy(to, row, size());
      return;
    }
    for (int64_t x = 0; x < columns_; ++x) {
      std::memcpy(to + x * kChannels, row + (columns_ - 1 - x) * kChannels, kChannels);
    }
  }

  void put_columns() {
    const int64_t left = turn_.mirrored_columns ? rows_ - done_ - count_ : done_;
    const int64_t step = turn_.mirrored_columns ? -size() : size();
    const uint8_t* first = waiting_.data() + (turn_.mirrored_columns ? (count_ - 1) * size() : 0);
    for (int64_t x = 0; x < columns_; ++x) {
      const int64_t y = turn_.mirrored_rows ? columns_ - 1 - x : x;
      uint8_t* to = out_ + (y * rows_ + left) * kChannels;
      const uint8_t* from = first + x * kChannels;
      // Four bytes take no longer than three; the fourth is overwritten by the next pixel.
      for (int64_t i = 1; i < count_; ++i, from += step, to += kChannels) std::memcpy(to, from, 4);
      std::memcpy(to, from, kChannels);
    }
    done_ += count_;
    count_ = 0;
  }

  uint8_t* out_;
  int64_t rows_, columns_, done_ = 0, count_ = 0;
  Turn turn_;
  std::vector<uint8_t> waiting_;
};

}  // namespace saccade::bytes
