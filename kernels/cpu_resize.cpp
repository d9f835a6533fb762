// Antialiased bicubic resize of RGB bytes on the calling thread, equal to PyTorch's to the bit.
//
// The same arithmetic in the same places: weights of 16 bits as PyTorch scales and rounds them,
// rows first, rounded to bytes, then columns. What differs is the order of the work. A resized row
// stays in the nearest cache until the columns are done with it, and along a row a vector of bytes of
// the result is made at a time, whichever pixels and channels they belong to: a table says which
// bytes of the source meet which weights.

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t kChannels = 3;

}  // namespace

#ifdef __AVX2__
#include <immintrin.h>

namespace {

// Vectors of bytes, of 16 bits and of 32. Packing and unpacking stay within 128 bits, as the
// instructions do.
#if defined(__AVX512VBMI__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
using Vec = __m512i;
Vec load(const void* from) { return _mm512_loadu_si512(from); }
void store(void* to, Vec x) { _mm512_storeu_si512(to, x); }
void stream(void* to, Vec x) { _mm512_stream_si512(static_cast<Vec*>(to), x); }
Vec zeros() { return _mm512_setzero_si512(); }
Vec splat(int32_t x) { return _mm512_set1_epi32(x); }
Vec shift(Vec x, __m128i by) { return _mm512_sra_epi32(x, by); }
// sums[i] += a[2i] * b[2i] + a[2i + 1] * b[2i + 1], of 16 bits to 32.
Vec add_products(Vec sums, Vec a, Vec b) { return _mm512_dpwssd_epi32(sums, a, b); }
Vec to_16(Vec a, Vec b) { return _mm512_packs_epi32(a, b); }
Vec to_8(Vec a, Vec b) { return _mm512_packus_epi16(a, b); }
Vec low(Vec a, Vec b) { return _mm512_unpacklo_epi8(a, b); }
Vec high(Vec a, Vec b) { return _mm512_unpackhi_epi8(a, b); }
// The bytes of four packed vectors of sums, in order.
Vec in_order(Vec x) {
  return _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}
// What one load serves: so many bytes of the result, from so many of the source.
constexpr int64_t kServed = 16, kWindow = 64;
Vec window(const uint8_t* row, const int32_t* from) { return load(row + from[0]); }
Vec pick(Vec bytes, Vec places) {
  return _mm512_maskz_permutexvar_epi8(0x5555555555555555, places, bytes);
}
#else
using Vec = __m256i;
Vec load(const void* from) { return _mm256_loadu_si256(static_cast<const Vec*>(from)); }
void store(void* to, Vec x) { _mm256_storeu_si256(static_cast<Vec*>(to), x); }
void stream(void* to, Vec x) { _mm256_stream_si256(static_cast<Vec*>(to), x); }
Vec zeros() { return _mm256_setzero_si256(); }
Vec splat(int32_t x) { return _mm256_set1_epi32(x); }
Vec shift(Vec x, __m128i by) { return _mm256_sra_epi32(x, by); }
Vec add_products(Vec sums, Vec a, Vec b) {
  return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
}
Vec to_16(Vec a, Vec b) { return _mm256_packs_epi32(a, b); }
Vec to_8(Vec a, Vec b) { return _mm256_packus_epi16(a, b); }
Vec low(Vec a, Vec b) { return _mm256_unpacklo_epi8(a, b); }
Vec high(Vec a, Vec b) { return _mm256_unpackhi_epi8(a, b); }
Vec in_order(Vec x) {
  return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
constexpr int64_t kServed = 4, kWindow = 16;
Vec window(const uint8_t* row, const int32_t* from) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(row + from[1]),
                             reinterpret_cast<const __m128i*>(row + from[0]));
}
Vec pick(Vec bytes, Vec places) { return _mm256_shuffle_epi8(bytes, places); }
#endif

constexpr int64_t kBlock = sizeof(Vec);      // bytes of a row that are made at once
constexpr int64_t kGroup = kBlock / 4;       // those that one vector of sums holds
constexpr int64_t kLoads = kGroup / kServed;  // that a vector of sums takes
constexpr int64_t kRows = 4;  // that are resized at once: a piece of the table serves all
// Bytes of a result that will have left the caches when somebody reads it: it goes to memory at
// once, which need not be read before.
constexpr int64_t kStreamed = 4 << 20;

// Keys' cubic convolution with a = -1/2.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// What one side's pixels are made of: out[i] = sum over t of weights[i * taps + t] * in[first[i] + t],
// in units of 2^-precision.
struct Side {
  int64_t in = 0, out = 0, taps = 0;  // taps: an even number, of weights that may be zero
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

Vec to_bytes(Vec a, Vec b, Vec c, Vec d, int precision) {
  const __m128i by = _mm_cvtsi32_si128(precision);
  return to_8(to_16(shift(a, by), shift(b, by)), to_16(shift(c, by), shift(d, by)));
}

// Resize rows along themselves; each of `to` has room for whole blocks.
template <bool kShared>
void resize_rows(const Row& row, const uint8_t* const (&from)[kRows], uint8_t* const (&to)[kRows]) {
  const int64_t pairs = row.side.taps / 2;
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
Vec resize_columns(const Side& side, int64_t y, const uint8_t* const* rows, int64_t x) {
  const int16_t* weights = &side.weights[y * side.taps];
  const Vec half = splat(1 << (side.precision - 1)), zero = zeros();
  Vec a = half, b = half, c = half, d = half;
  for (int64_t t = 0; t < side.taps; t += 2) {
    const Vec both =
        splat(int32_t(uint16_t(weights[t]) | uint32_t(uint16_t(weights[t + 1])) << 16));
    const Vec upper = load(rows[t] + x), lower = load(rows[t + 1] + x);
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
template <bool kStream>
void resize_columns(const Side& side, int64_t y, const uint8_t* const* rows, uint8_t* to,
                    int64_t size) {
  const auto part = [&](int64_t x, int64_t count) {
    alignas(kBlock) uint8_t bytes[kBlock];
    store(bytes, resize_columns(side, y, rows, x));
    std::memcpy(to + x, bytes, count);
  };
  int64_t x = std::min<int64_t>(-reinterpret_cast<uintptr_t>(to) % kBlock, size);
  if (x > 0) part(0, x);
  for (; x + kBlock <= size; x += kBlock) {
    const Vec bytes = resize_columns(side, y, rows, x);
    kStream ? stream(to + x, bytes) : store(to + x, bytes);
  }
  if (x < size) part(x, size - x);
}

// The last table of this thread: the next frame of a clip has the same size.
template <typename Table, typename Make>
const Table& kept(Table& table, const Side& side, int64_t in, int64_t out, Make make) {
  if (side.in != in || side.out != out) table = make(Side(in, out));
  return table;
}

// [height, width, 3] bytes to [new_height, new_width, 3]; false where a row does not fit the table.
bool resize_image(const uint8_t* from, int64_t height, int64_t width, uint8_t* to,
                  int64_t new_height, int64_t new_width) {
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
  int64_t made = 0;
  for (int64_t y = 0; y < new_height; ++y) {
    const int64_t first = column.first[y], end = first + column.counts[y];
    made = std::max(made, first / kRows * kRows);
    for (; made < end; made += kRows) {
      const uint8_t* sources[kRows];
      uint8_t* results[kRows];
      for (int64_t r = 0; r < kRows; ++r) {
        sources[r] = from + std::min(made + r, height - 1) * width * kChannels;
        results[r] = &ring[(made + r) % places * room];
      }
      if (width == new_width) {
        for (int64_t r = 0; r < kRows; ++r) std::memcpy(results[r], sources[r], size);
      } else {
        row.shared ? resize_rows<true>(row, sources, results)
                   : resize_rows<false>(row, sources, results);
      }
    }
    for (int64_t t = 0; t < column.taps; ++t) {
      rows[t] = &ring[std::min(first + t, end - 1) % places * room];  // weights behind are zero
    }
    if (height == new_height) {
      std::memcpy(to + y * size, &ring[y % places * room], size);
    } else if (new_height * size >= kStreamed) {
      resize_columns<true>(column, y, rows.data(), to + y * size, size);
    } else {
      resize_columns<false>(column, y, rows.data(), to + y * size, size);
    }
  }
  _mm_sfence();  // other threads see what was streamed
  return true;
}

}  // namespace

#else

namespace {

bool resize_image(const uint8_t*, int64_t, int64_t, uint8_t*, int64_t, int64_t) { return false; }

}  // namespace

#endif

namespace {

// False where it cannot be done here: the processor has no AVX2, or a row is too short or shrinks
// too much for the table.
bool resize(const at::Tensor& pixels, at::Tensor& out) {
  for (const at::Tensor& x : {pixels, out}) {
    TORCH_CHECK(x.dim() == 4 && x.size(3) == kChannels && x.is_contiguous() && x.dtype() == at::kByte,
                "pixels and out must be contiguous uint8 [N, H, W, 3]");
  }
  TORCH_CHECK(pixels.size(0) == out.size(0) && pixels.numel() > 0 && out.numel() > 0,
              "pixels and out must hold equally many pictures, none empty");
  const auto *from = pixels.const_data_ptr<uint8_t>();
  auto* to = out.data_ptr<uint8_t>();
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    if (!resize_image(from + i * pixels.stride(0), pixels.size(1), pixels.size(2),
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
