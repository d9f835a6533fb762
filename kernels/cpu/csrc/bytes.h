// Vectors of bytes, of 16 bits and of 32, for AVX-512 VBMI and for AVX2.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace saccade::bytes {

// Packing and unpacking stay within 128 bits, as the instructions do.
#if defined(__AVX512VBMI__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
using Vec = __m512i;
inline Vec load(const void* from) { return _mm512_loadu_si512(from); }
inline void store(void* to, Vec x) { _mm512_storeu_si512(to, x); }
inline void stream(void* to, Vec x) { _mm512_stream_si512(static_cast<Vec*>(to), x); }
inline Vec zeros() { return _mm512_setzero_si512(); }
inline Vec splat(int32_t x) { return _mm512_set1_epi32(x); }
inline Vec shift(Vec x, __m128i by) { return _mm512_sra_epi32(x, by); }
// sums[i] += a[2i] * b[2i] + a[2i + 1] * b[2i + 1], of 16 bits to 32.
inline Vec add_products(Vec sums, Vec a, Vec b) { return _mm512_dpwssd_epi32(sums, a, b); }
inline Vec to_16(Vec a, Vec b) { return _mm512_packs_epi32(a, b); }
inline Vec to_8(Vec a, Vec b) { return _mm512_packus_epi16(a, b); }
inline Vec low(Vec a, Vec b) { return _mm512_unpacklo_epi8(a, b); }
inline Vec high(Vec a, Vec b) { return _mm512_unpackhi_epi8(a, b); }
// The bytes of four packed vectors of sums, in order.
inline Vec in_order(Vec x) {
  return _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}
// What one load serves: so many bytes of the result, from so many of the source.
constexpr int64_t kServed = 16, kWindow = 64;
inline Vec window(const uint8_t* row, const int32_t* from) { return load(row + from[0]); }
inline Vec pick(Vec bytes, Vec places) {
  return _mm512_maskz_permutexvar_epi8(0x5555555555555555, places, bytes);
}
#else
using Vec = __m256i;
inline Vec load(const void* from) { return _mm256_loadu_si256(static_cast<const Vec*>(from)); }
inline void store(void* to, Vec x) { _mm256_storeu_si256(static_cast<Vec*>(to), x); }
inline void stream(void* to, Vec x) { _mm256_stream_si256(static_cast<Vec*>(to), x); }
inline Vec zeros() { return _mm256_setzero_si256(); }
inline Vec splat(int32_t x) { return _mm256_set1_epi32(x); }
inline Vec shift(Vec x, __m128i by) { return _mm256_sra_epi32(x, by); }
inline Vec add_products(Vec sums, Vec a, Vec b) {
  return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
}
inline Vec to_16(Vec a, Vec b) { return _mm256_packs_epi32(a, b); }
inline Vec to_8(Vec a, Vec b) { return _mm256_packus_epi16(a, b); }
inline Vec low(Vec a, Vec b) { return _mm256_unpacklo_epi8(a, b); }
inline Vec high(Vec a, Vec b) { return _mm256_unpackhi_epi8(a, b); }
inline Vec in_order(Vec x) {
  return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
constexpr int64_t kServed = 4, kWindow = 16;
inline Vec window(const uint8_t* row, const int32_t* from) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(row + from[1]),
                             reinterpret_cast<const __m128i*>(row + from[0]));
}
inline Vec pick(Vec bytes, Vec places) { return _mm256_shuffle_epi8(bytes, places); }
#endif

}  // namespace saccade::bytes
