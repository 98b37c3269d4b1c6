// The Int3 kernel for AVX-512 with VNNI, which multiplies and adds 4 bytes of each lane in one operation.
#pragma once

#include "simd/avx512.h"
#include "int3/int3_lanes.h"

namespace edgefc::int3 {
namespace {

struct Vnni {
  using Part = __m512i;
  static constexpr int sums = 12;
  static Part begin(Lanes::I total) { return total; }
  static Part add(Part part, Lanes::I codes, Lanes::I numbers) { return _mm512_dpbusd_epi32(part, codes, numbers); }
  static Lanes::I end(Lanes::I, Part part) { return part; }
};

constexpr Variant kCpu = kWith<Vnni>;

}  // namespace
}  // namespace edgefc::int3
