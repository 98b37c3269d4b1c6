// PRP for AVX-512: codes of 1 bit in whole numbers of 16 bits, everything else over the vectors of simd/avx512.h.
#pragma once

#include "simd/avx512.h"

#include "prp/prp_lanes.h"
#include "prp/signs_avx512.h"

namespace edgefc::prp {
namespace {

constexpr Variant kCpu = kSigns;

}  // namespace
}  // namespace edgefc::prp
