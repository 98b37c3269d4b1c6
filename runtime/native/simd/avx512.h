// Vectors of 16 floats or words: AVX-512 F, BW, VL, DQ.
#pragma once

// The header of GCC 12 reads vectors that it leaves undefined intentionally (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>

#include "simd/fused_x86.h"

namespace edgefc {
namespace {

EDGEFC_FUSED(__m128, _mm)
EDGEFC_FUSED(__m256, _mm256)
EDGEFC_FUSED(__m512, _mm512)

struct Lanes {
  using F = __m512;
  using I = __m512i;
  static constexpr int width = 16;
  static constexpr int registers = 32;
  static constexpr int table_bits = 4;  // index bits that look() reads: tables of 16
  static constexpr int vectors[4] = {4, 4, 4, 2};  // of rows of P at once, by batch rows 1, 2, 4, 8

  static I words(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
  static I count(std::uint32_t first) {
    return _mm512_add_epi32(words(first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I multiply(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I exclusive(I a, I b) { return _mm512_xor_si512(a, b); }
  static I both(I a, I b) { return _mm512_and_si512(a, b); }
  static I right(I a, int places) { return _mm512_srli_epi32(a, static_cast<unsigned>(places)); }
  static F number(I a) { return _mm512_cvtepi32_ps(a); }
  static F zero() { return _mm512_setzero_ps(); }
  static F all(float value) { return _mm512_set1_ps(value); }
  static F load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, F value) { _mm512_storeu_ps(to, value); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F multiply(F a, F b) { return _mm512_mul_ps(a, b); }
  static F multiply_add(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  // to[0..3] += the sums of a's lanes, b's, c's and d's.
  static void add_sums(F a, F b, F c, F d, float* to) {
    const F ab = add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const F cd = add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const F all = add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    const F half = add(all, _mm512_shuffle_f32x4(all, all, 0x4E));
    const F whole = add(half, _mm512_shuffle_f32x4(half, half, 0xB1));
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), _mm512_castps512_ps128(whole)));
  }
  static I load_words(const void* from) { return _mm512_loadu_si512(from); }
  static I either(I a, I b) { return _mm512_or_si512(a, b); }
  static F whole(I a) { return _mm512_cvtepi32_ps(a); }  // signed
  static F halves(const std::uint16_t* from) {           // float16
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  // total + the products of the 4 unsigned bytes below 8 of each lane with 4 signed bytes, at most 8 of them in a part:
  // begin(total), then add(), then end(total).
  struct Dots {
    using Part = __m512i;
    static constexpr int sums = 12;  // parts in registers at once
    static Part begin(I) { return _mm512_setzero_si512(); }
    static Part add(Part part, I codes, I numbers) {
      return _mm512_add_epi16(part, _mm512_maddubs_epi16(codes, numbers));
    }
    static I end(I total, Part part) {
      return _mm512_add_epi32(total, _mm512_madd_epi16(part, _mm512_set1_epi16(1)));
    }
  };
  // table[index mod 16]
  static F look(I index, F table) { return _mm512_permutexvar_ps(index, table); }
  static F look(I index, const float* table) { return look(index, load(table)); }

  struct Table16 {
    F low;
    explicit Table16(const float* values) : low(load(values)) {}
    F operator[](I index) const { return look(index, low); }
  };
  static F gather(I index, const float* table) { return _mm512_i32gather_ps(index, table, 4); }
  // counts + 1 in every byte where bytes >= threshold
  static I count_at_least(I counts, I bytes, std::uint8_t threshold) {
    const I one = _mm512_set1_epi8(1), limit = _mm512_set1_epi8(static_cast<char>(threshold));
    return _mm512_mask_add_epi8(counts, _mm512_cmpge_epu8_mask(bytes, limit), counts, one);
  }
};

}  // namespace
}  // namespace edgefc
