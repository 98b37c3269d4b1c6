// Vectors of 4 floats or words with compiler extensions only, for any processor.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd/compiler.h"

namespace edgefc {
namespace {

// For vectors and all other types with these operators.
template <class V>
EDGEFC_INLINE V mul_add(const V& a, const V& b, const V& c) {
  return a * b + c;
}
template <class V>
EDGEFC_INLINE V mul_sub(const V& a, const V& b, const V& c) {
  return a * b - c;
}
template <class V>
EDGEFC_INLINE V neg_mul_add(const V& a, const V& b, const V& c) {
  return c - a * b;
}

struct Lanes {
  typedef float F __attribute__((vector_size(16)));
  typedef std::uint32_t I __attribute__((vector_size(16)));
  typedef std::uint8_t Bytes __attribute__((vector_size(16)));
  static constexpr int width = 4;
  static constexpr int registers = 16;
  static constexpr int table_bits = 4;
  static constexpr int vectors[4] = {2, 2, 1, 1};

  static I words(std::uint32_t value) { return I{value, value, value, value}; }
  static I count(std::uint32_t first) { return words(first) + I{0, 1, 2, 3}; }
  static I add(I a, I b) { return a + b; }
  static I multiply(I a, I b) { return a * b; }
  static I exclusive(I a, I b) { return a ^ b; }
  static I both(I a, I b) { return a & b; }
  static I right(I a, int places) { return a >> static_cast<std::uint32_t>(places); }
  static F number(I a) {  // through int: values are below 2^31, and processors convert only signed integers
    return F{float(int(a[0])), float(int(a[1])), float(int(a[2])), float(int(a[3]))};
  }
  static F zero() { return F{}; }
  static F all(float value) { return F{value, value, value, value}; }
  static F load(const float* from) {
    F value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static void store(float* to, F value) { std::memcpy(to, &value, sizeof value); }
  static F add(F a, F b) { return a + b; }
  static F multiply(F a, F b) { return a * b; }
  static F multiply_add(F a, F b, F c) { return a * b + c; }
  // to[0..3] += the sums of a's lanes, b's, c's and d's.
  static void add_sums(F a, F b, F c, F d, float* to) {
    to[0] += (a[0] + a[1]) + (a[2] + a[3]);
    to[1] += (b[0] + b[1]) + (b[2] + b[3]);
    to[2] += (c[0] + c[1]) + (c[2] + c[3]);
    to[3] += (d[0] + d[1]) + (d[2] + d[3]);
  }

  static I load_words(const void* from) {
    I value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static I either(I a, I b) { return a | b; }
  static F whole(I a) { return number(a); }
  static F halves(const std::uint16_t* from) {
    const I half{from[0], from[1], from[2], from[3]}, size = (half & words(0x7FFF)) << 13u;
    const I infinite = reinterpret_cast<I>(size > words(0x0F7FFFFF)) & words(0x7F800000);
    const F scaled = reinterpret_cast<F>(size) * all(0x1p112f);
    return reinterpret_cast<F>(reinterpret_cast<I>(scaled) | infinite | (half & words(0x8000)) << 16u);
  }
  struct Dots {
    typedef std::int16_t Part __attribute__((vector_size(16)));
    typedef std::int32_t Whole __attribute__((vector_size(16)));
    static constexpr int sums = 6;
    static Part begin(I) { return Part{}; }
    static Part add(Part part, I codes, I numbers) {
      const Part c = reinterpret_cast<Part>(codes), n = reinterpret_cast<Part>(numbers);
      return part + (c & 0xFF) * ((n << 8) >> 8) + (c >> 8) * (n >> 8);
    }
    static I end(I total, Part part) {
      const Whole pairs = reinterpret_cast<Whole>(part);
      return total + reinterpret_cast<I>((pairs << 16) >> 16) + reinterpret_cast<I>(pairs >> 16);
    }
  };

  static F gather(I index, const float* table) {
    return F{table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
  }
  static F look(I index, const float* table) { return gather(index & words(15), table); }

  struct Table16 {
    const float* values;
    explicit Table16(const float* from) : values(from) {}
    F operator[](I index) const { return look(index, values); }
  };
  static I count_at_least(I counts, I bytes, std::uint8_t threshold) {
    const Bytes at_least = reinterpret_cast<Bytes>(bytes) >= threshold;
    return reinterpret_cast<I>(reinterpret_cast<Bytes>(counts) - at_least);
  }
};

}  // namespace
}  // namespace edgefc
