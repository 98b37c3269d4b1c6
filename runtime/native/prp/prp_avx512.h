// PRP for AVX-512: codes of 1 bit with 16-bit integers, all others with the vectors of simd/avx512.h.
#pragma once

#include "simd/avx512.h"

#include "prp/prp_lanes.h"
#include "prp/signs_avx512.h"

namespace edgefc::prp {
namespace {

constexpr Variant kCpu = kSigns;

}  // namespace
}  // namespace edgefc::prp
