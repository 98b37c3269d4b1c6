// Vectors of 4 floats or words: NEON of ARMv8-A, which every 64-bit ARM processor supports.
//
// A look-up is TBL over bytes: lane k of the table is its bytes 4k to 4k + 3.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "simd/compiler.h"

namespace edgefc {
namespace {

typedef float Four __attribute__((vector_size(16)));
EDGEFC_INLINE Four mul_add(Four a, Four b, Four c) { return vfmaq_f32(c, a, b); }
EDGEFC_INLINE Four mul_sub(Four a, Four b, Four c) { return vfmaq_f32(-c, a, b); }
EDGEFC_INLINE Four neg_mul_add(Four a, Four b, Four c) { return vfmsq_f32(c, a, b); }

struct Lanes {
  using F = float32x4_t;
  using I = uint32x4_t;
  static constexpr int width = 4;
  static constexpr int registers = 32;
  static constexpr int table_bits = 4;
  static constexpr int vectors[4] = {4, 4, 2, 1};

  static I words(std::uint32_t value) { return vdupq_n_u32(value); }
  static I count(std::uint32_t first) {
    const std::uint32_t steps[4] = {0, 1, 2, 3};
    return vaddq_u32(words(first), vld1q_u32(steps));
  }
  static I add(I a, I b) { return vaddq_u32(a, b); }
  static I multiply(I a, I b) { return vmulq_u32(a, b); }
  static I exclusive(I a, I b) { return veorq_u32(a, b); }
  static I both(I a, I b) { return vandq_u32(a, b); }
  static I right(I a, int places) { return a >> static_cast<std::uint32_t>(places); }
  static F number(I a) { return vcvtq_f32_u32(a); }
  static F zero() { return vdupq_n_f32(0); }
  static F all(float value) { return vdupq_n_f32(value); }
  static F load(const float* from) { return vld1q_f32(from); }
  static void store(float* to, F value) { vst1q_f32(to, value); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F multiply(F a, F b) { return vmulq_f32(a, b); }
  static F multiply_add(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  // to[0..3] += the sums of a's lanes, b's, c's and d's.
  static void add_sums(F a, F b, F c, F d, float* to) {
    vst1q_f32(to, vaddq_f32(vld1q_f32(to), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))));
  }

  static I load_words(const void* from) { return vreinterpretq_u32_u8(vld1q_u8(static_cast<const std::uint8_t*>(from))); }
  static I either(I a, I b) { return vorrq_u32(a, b); }
  static F whole(I a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }
  static F halves(const std::uint16_t* from) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
  struct Dots {
    struct Part {
      int16x8_t low, high;
    };
    static constexpr int sums = 6;
    static Part begin(I) { return {vdupq_n_s16(0), vdupq_n_s16(0)}; }
    static Part add(Part part, I codes, I numbers) {
      const int8x16_t a = vreinterpretq_s8_u32(codes), b = vreinterpretq_s8_u32(numbers);
      return {vmlal_s8(part.low, vget_low_s8(a), vget_low_s8(b)), vmlal_high_s8(part.high, a, b)};
    }
    static I end(I total, Part part) {
      return vreinterpretq_u32_s32(vpadalq_s16(vreinterpretq_s32_u32(total), vpaddq_s16(part.low, part.high)));
    }
  };

  static uint8x16_t bytes(const float* from) { return vreinterpretq_u8_f32(vld1q_f32(from)); }
  // The bytes of lane index mod 16 of a table.
  static uint8x16_t places(I index) {
    return vreinterpretq_u8_u32(vmlaq_u32(words(0x03020100), vandq_u32(index, words(15)), words(0x04040404)));
  }
  struct Table16 {
    uint8x16x4_t values;
    explicit Table16(const float* from) : values{{bytes(from), bytes(from + 4), bytes(from + 8), bytes(from + 12)}} {}
    F operator[](I index) const { return vreinterpretq_f32_u8(vqtbl4q_u8(values, places(index))); }
  };
  // table[index mod 16]
  static F look(I index, const float* table) { return Table16(table)[index]; }

  static F gather(I index, const float* table) {
    const float found[4] = {table[vgetq_lane_u32(index, 0)], table[vgetq_lane_u32(index, 1)],
                            table[vgetq_lane_u32(index, 2)], table[vgetq_lane_u32(index, 3)]};
    return load(found);
  }
  // counts + 1 in every byte where bytes >= threshold
  static I count_at_least(I counts, I bytes, std::uint8_t threshold) {
    const uint8x16_t at_least = vcgeq_u8(vreinterpretq_u8_u32(bytes), vdupq_n_u8(threshold));
    return vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(counts), at_least));
  }
};

}  // namespace
}  // namespace edgefc
