// Vectors of 8 floats or words: AVX2 and FMA.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "simd/fused_x86.h"

namespace edgefc {
namespace {

EDGEFC_FUSED(__m128, _mm)
EDGEFC_FUSED(__m256, _mm256)

struct Lanes {
  using F = __m256;
  using I = __m256i;
  static constexpr int width = 8;
  static constexpr int registers = 16;
  static constexpr int table_bits = 3;
  static constexpr int vectors[4] = {4, 2, 2, 1};

  static I words(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
  static I count(std::uint32_t first) {
    return _mm256_add_epi32(words(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static I add(I a, I b) { return _mm256_add_epi32(a, b); }
  static I multiply(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static I exclusive(I a, I b) { return _mm256_xor_si256(a, b); }
  static I both(I a, I b) { return _mm256_and_si256(a, b); }
  static I right(I a, int places) { return _mm256_srli_epi32(a, places); }
  static F number(I a) { return _mm256_cvtepi32_ps(a); }
  static F zero() { return _mm256_setzero_ps(); }
  static F all(float value) { return _mm256_set1_ps(value); }
  static F load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, F value) { _mm256_storeu_ps(to, value); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F multiply(F a, F b) { return _mm256_mul_ps(a, b); }
  static F multiply_add(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  // to[0..3] += the sums of a's lanes, b's, c's and d's.
  static void add_sums(F a, F b, F c, F d, float* to) {
    const F all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    const __m128 whole = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), whole));
  }
  static I load_words(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static I either(I a, I b) { return _mm256_or_si256(a, b); }
  static F whole(I a) { return _mm256_cvtepi32_ps(a); }
  static F halves(const std::uint16_t* from) {
    const I half = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const I size = _mm256_slli_epi32(both(half, words(0x7FFF)), 13);
    const I infinite = both(_mm256_cmpgt_epi32(size, words(0x0F7FFFFF)), words(0x7F800000));
    const F scaled = multiply(_mm256_castsi256_ps(size), all(0x1p112f));
    return _mm256_or_ps(scaled, _mm256_castsi256_ps(either(infinite, _mm256_slli_epi32(both(half, words(0x8000)), 16))));
  }
  struct Dots {
    using Part = __m256i;
    static constexpr int sums = 6;
    static Part begin(I) { return _mm256_setzero_si256(); }
    static Part add(Part part, I codes, I numbers) {
      return _mm256_add_epi16(part, _mm256_maddubs_epi16(codes, numbers));
    }
    static I end(I total, Part part) {
      return _mm256_add_epi32(total, _mm256_madd_epi16(part, _mm256_set1_epi16(1)));
    }
  };
  // table[index mod 8]
  static F look(I index, F table) { return _mm256_permutevar8x32_ps(table, index); }
  static F look(I index, const float* table) { return look(index, load(table)); }

  struct Table16 {
    F low, high;
    explicit Table16(const float* values) : low(load(values)), high(load(values + 8)) {}
    F operator[](I index) const {  // bit 3, moved to the sign, chooses the half
      const F upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
      return _mm256_blendv_ps(look(index, low), look(index, high), upper);
    }
  };
  static F gather(I index, const float* table) { return _mm256_i32gather_ps(table, index, 4); }
  static I count_at_least(I counts, I bytes, std::uint8_t threshold) {
    const I limit = _mm256_set1_epi8(static_cast<char>(threshold));
    return _mm256_sub_epi8(counts, _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, limit), bytes));
  }
};

}  // namespace
}  // namespace edgefc
