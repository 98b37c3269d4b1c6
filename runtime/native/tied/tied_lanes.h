// The TiedFFN kernel with the vectors of one simd/CPU.h; compiled, and local to its file, as in prp_lanes.h.
#pragma once

#include "simd/activations.h"
#include "simd/products.h"
#include "tied/tied.h"

namespace edgefc::tied {
namespace {

inline void strip(const Plan& plan, const float* x, std::int64_t rows, const float* w, const float* bias_in,
                  std::int64_t first, std::int64_t last, float* y) {
  const std::int64_t d = plan.d;
  alignas(64) float hidden[kChunk * kTile];
  for (std::int64_t row = first; row < last; row += plan.tile) {
    const std::int64_t count = last - row < plan.tile ? last - row : plan.tile;
    const float* tile = w + row * d;
    for (std::int64_t b = 0; b < rows; ++b) {
      for (std::int64_t r = 0; r < count; ++r) hidden[b * count + r] = bias_in[row + r];
    }
    all_dots(x, rows, tile, count, d, hidden, count);
    activate(plan.activation, hidden, rows * count);
    const bool more = row + 2 * plan.tile <= last;  // a whole tile follows this one
    all_spread(hidden, rows, count, tile, d, count, d, y, d, more ? plan.tile * d : 0);
  }
}

constexpr Variant kLanes{strip};

}  // namespace
}  // namespace edgefc::tied
