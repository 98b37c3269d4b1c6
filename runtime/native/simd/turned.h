// Transposes a matrix, with the vectors of one simd/CPU.h; included after products.h.
#pragma once

#include "simd/products.h"
#include "simd/vectors.h"

namespace edgefc {
namespace {

// w (rows, columns) of row length w_step -> to (columns, rows), of row length kWide; rows <= kWide.
inline void turn(const float* w, std::int64_t w_step, std::int64_t rows, std::int64_t columns, float* to) {
  constexpr int W = Lanes::width;
  std::int64_t r = 0;
  for (; r + W <= rows; r += W) {
    const float* from = w + r * w_step;
    std::int64_t c = 0;
    for (; c + W <= columns; c += W) {
      Lanes::F v[W];
      EDGEFC_UNROLL
      for (int i = 0; i < W; ++i) v[i] = Lanes::load(from + i * w_step + c);
      transpose<W>(v);
      EDGEFC_UNROLL
      for (int i = 0; i < W; ++i) Lanes::store(to + (c + i) * kWide + r, v[i]);
    }
    for (; c < columns; ++c) {
      for (int i = 0; i < W; ++i) to[c * kWide + r + i] = from[i * w_step + c];
    }
  }
  for (; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[c * kWide + r] = w[r * w_step + c];
  }
}

}  // namespace
}  // namespace edgefc
