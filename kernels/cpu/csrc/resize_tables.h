// What `resize.cpp` looks up: which pixels of a source make one of the result, by which weights.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bytes.h"

namespace saccade::bytes {

constexpr int64_t kChannels = 3;
constexpr int64_t kBlock = sizeof(Vec);      // bytes of a row that are made at once
constexpr int64_t kGroup = kBlock / 4;       // those that one vector of sums holds
constexpr int64_t kLoads = kGroup / kServed;  // that a vector of sums takes

// Keys' cubic convolution with a = -1/2.
inline double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// What one side's pixels are made of: out[i] = sum over t of weights[i * taps + t] * in[first[i] + t],
// in units of 2^-precision.
struct Side {
  int64_t in = 0, out = 0, taps = 0;  // taps: an even number, of weights that may be zero
  bool mirrored = false;              // in and out count from the other end
  int precision = 0;
  std::vector<int64_t> first, counts;
  std::vector<int16_t> weights;

  Side() = default;

  Side(int64_t in, int64_t out) : in(in), out(out), first(out), counts(out) {
    const double scale = double(in) / double(out);
    const double support = 2 * std::max(scale, 1.0), shrink = scale >= 1 ? 1 / scale : 1.0;
    const int64_t most = int64_t(std::ceil(support)) * 2 + 1;
    taps = (most + 1) / 2 * 2;
    std::vector<double> exact(out * taps, 0.0);
    double largest = 0;
    for (int64_t i = 0; i < out; ++i) {
      const double center = scale * (double(i) + 0.5);
      first[i] = std::max<int64_t>(int64_t(center - support + 0.5), 0);
      counts[i] = std::min(std::min(int64_t(center + support + 0.5), in) - first[i], most);
      double* row = &exact[i * taps], total = 0;
      for (int64_t t = 0; t < counts[i]; ++t) {
        total += row[t] = cubic((double(t + first[i]) - center + 0.5) * shrink);
      }
      for (int64_t t = 0; t < counts[i]; ++t) {
        if (total != 0) row[t] /= total;
        largest = std::max(largest, row[t]);
      }
    }
    while (precision < 22 && int(0.5 + largest * (2 << precision)) < 1 << 15) ++precision;
    weights.resize(exact.size());
    std::transform(exact.begin(), exact.end(), weights.begin(), [this](double weight) {
      const double scaled = weight * (1 << precision);
      return int16_t(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    const int64_t used = *std::max_element(counts.begin(), counts.end());
    narrow((used + 1) / 2 * 2);
  }

  // Of a source that is stored the other way round: the same sums, which rounding would make others.
  Side mirror() const {
    Side side = *this;
    side.mirrored = !mirrored;
    std::fill(side.weights.begin(), side.weights.end(), 0);
    for (int64_t i = 0; i < out; ++i) {
      const int64_t from = out - 1 - i;
      side.first[i] = in - first[from] - counts[from];
      side.counts[i] = counts[from];
      std::reverse_copy(&weights[from * taps], &weights[from * taps + counts[from]],
                        &side.weights[i * taps]);
    }
    return side;
  }

 private:
  // Leave out the columns of weights that no pixel has.
  void narrow(int64_t used) {
    for (int64_t i = 0; i < out; ++i) {
      std::copy_n(&weights[i * taps], used, &weights[i * used]);
    }
    taps = used;
  }
};

// For a group of bytes of a row and two taps: where the source's bytes are, which of those meet
// which weight.
struct alignas(64) Step {
  uint8_t places[kBlock];  // of bytes that become 16 bits: every second is for a zero
  int16_t weights[kBlock / 2];
  int32_t from[kLoads];
};

// The table of a row: [groups, pairs of taps].
struct Row {
  Side side;
  int64_t blocks = 0;
  std::vector<Step> steps;
  bool fits = false;    // what a load serves comes from within its window
  bool shared = false;  // one window serves all pairs of taps

  Row() = default;

  explicit Row(const Side& side)
      : side(side), blocks((side.out * kChannels + kBlock - 1) / kBlock) {
    const int64_t pairs = side.taps / 2, groups = blocks * kBlock / kGroup;
    steps.resize(groups * pairs);
    shared = fill_all(groups, pairs, true);
    fits = shared || fill_all(groups, pairs, false);
  }

 private:
  bool fill_all(int64_t groups, int64_t pairs, bool share) {
    if (side.in * kChannels < kWindow) return false;
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t pair = 0; pair < pairs; ++pair) {
        for (int64_t load = 0; load < kLoads; ++load) {
          const int64_t byte = group * kGroup + load * kServed;
          const int64_t from = window_of(byte, share ? 0 : 2 * pair);
          if (!fill(steps[group * pairs + pair], byte, load, 2 * pair, from)) return false;
        }
      }
    }
    return true;
  }

  // Where in a row of the source `tap` of a byte of the result is; -1 where there is none.
  int64_t place(int64_t byte, int64_t tap) const {
    const int64_t pixel = byte / kChannels, channel = byte % kChannels;
    const bool is_there = pixel < side.out && tap < side.counts[pixel];
    return is_there ? (side.first[pixel] + tap) * kChannels + channel : -1;
  }

  // Where the window begins that serves kServed bytes from `tap` on, which is to the left of the
  // taps that follow.
  int64_t window_of(int64_t byte, int64_t tap) const {
    int64_t lowest = side.in * kChannels - kWindow;
    for (int64_t i = 0; i < kServed; ++i) {
      const int64_t at = place(byte + i, tap);
      if (at >= 0) lowest = std::min(lowest, at);
    }
    return lowest;
  }

  // False where the window does not reach.
  bool fill(Step& step, int64_t byte, int64_t load, int64_t tap, int64_t from) {
    step.from[load] = int32_t(from);
    for (int64_t i = 0; i < 2 * kServed; ++i) {
      const int64_t t = tap + i % 2, at = place(byte + i / 2, t), to = load * 2 * kServed + i;
      if (at >= from + kWindow) return false;
      step.places[to * 2] = at < 0 ? 0 : uint8_t(at - from);  // weight 0 where none is
      step.places[to * 2 + 1] = 0x80;
      step.weights[to] = at < 0 ? 0 : side.weights[(byte + i / 2) / kChannels * side.taps + t];
    }
    return true;
  }
};

}  // namespace saccade::bytes
