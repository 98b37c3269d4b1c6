// PRP for AVX-512 with VNNI, which multiplies and adds bytes in one step: for ternary codes of 8 bits. Others as
// AVX-512.
#pragma once

#include "prp/ternary_avx512vnni.h"

namespace edgefc::prp {

extern const Variant avx512;

namespace {

constexpr Variant kCpu{takes_ternary,   ternary_chunk, ternary_columns, ternary_floats, ternary_band_rows,
                       ternary_prepare, ternary_bands, &avx512,         0};

}  // namespace
}  // namespace edgefc::prp
