// EUGenLinear: y = f(x) W^T + bias, f(x) = Phi of products of projections G x+, x+ = [x ; 1 ; |x|], G from a seed.
//
// G, (P m, d + e), has few rows. It is made again in every run, the lanes of a vector being rows: for a few rows of the
// batch it goes from registers into their sums, for more of them to a tile of some kilobytes that stays in the first
// cache for all. No byte of it is read from memory. Codes of 8 bits take too long to look up: there G is made once, when
// the file is loaded, as long as it is small (kMostStored).
//
// W is read where it lies. A few rows of the batch take its rows as they are; more of them take it in turned tiles.
//
// Variants have the same code (eugen_lanes.h) over other vectors. Plain data and pointers only, as in prp.h.
#pragma once

#include <cstdint>

#include "simd/generator.h"

namespace edgefc::eugen {

constexpr std::int64_t kChunk = 48;                // most rows of the batch at once
constexpr std::int64_t kEnds = 2;                  // numbers of a row of x+ behind x, at most
constexpr std::int64_t kMostStored = 1 << 24;      // numbers of G, 64 MB
constexpr std::int64_t kMostScratch = 1 << 19;     // numbers for one chunk, unless a row needs more

// Checked: all sizes from 1 to 2^31 - 1, order at most 32, activation a number of activations.h, bits 1, 2, 4 or 8.
struct Plan {
  std::int64_t in, out, features, order;
  bool one, norm, shared;
  int activation;
  std::int64_t width;   // of x+ and G: in + one + norm
  std::int64_t rows;    // of G: features for each projection
  std::int64_t made;    // features * order, the columns of W
  Keys keys;
  int bits;
  const float* levels;  // 2^bits, and at least 16 in turns: the codebook as G has it, divided by G's root
  const float* stored;  // G in bands, (bands, width, band), or null
};

struct Variant {
  std::int64_t band;  // rows of G that are made together
  // All of G, in bands.
  void (*make)(const Plan&, float* stored);
  // What stands behind each row of x (rows, in): 1, the length, or both, as far as there are -> ends (rows, kEnds)
  void (*end)(const Plan&, const float* x, std::int64_t rows, float* ends);
  // Bands first to last - 1 of G times x+ -> z (rows, bands * band)
  void (*project)(const Plan&, const float* x, const float* ends, std::int64_t rows, std::int64_t first,
                  std::int64_t last, float* z);
  // z -> f(x), (rows, made)
  void (*combine)(const Plan&, const float* z, std::int64_t rows, float* f);
  // Outputs first to last - 1 of y (rows, out)
  void (*apply)(const Plan&, const float* f, std::int64_t rows, const float* weight, const float* bias,
                std::int64_t first, std::int64_t last, float* y);
};

const Variant& variant();  // the one to run on this processor; written by build.py

}  // namespace edgefc::eugen
