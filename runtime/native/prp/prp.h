// PRP: y = ((x * in_scale / sqrt(n)) P^T) * out_scale + bias, P (m, n) from a seed and never stored.
//
// Batch rows go in chunks, and columns of P in blocks. `prepare` turns a block of a chunk into what its variant looks up:
// for codes of 1 bit the signed sums of every few inputs, otherwise the scaled inputs. `bands` makes P a band of rows at a
// time, the lanes of a vector being rows, and uses each number for the whole chunk: from registers, or for large chunks
// from a tile of some kilobytes that stays in the first cache for all rows.
//
// Variants have the same code (prp_lanes.h) over other vectors, and what their processor alone can do. Plain data and
// pointers only: a variant must share no inline function of the standard library with the rest, which may run where it
// cannot.
//
// With int8 activations u = x * in_scale / sqrt(n) is rounded, each batch row to the nearest of 255 multiples of a step of
// its own, max|u| / 127; all else is as exact as without. A row that holds what is not finite gives NaN alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/generator.h"

namespace edgefc::prp {

constexpr int kGroup = 8;          // batch rows that registers serve at once
constexpr int kChunk = 64;         // most batch rows of one prepare(); 8 where codes have 1 bit
constexpr int kFewLevels = 16;     // runs of equal levels that a vector can look up

// Checked: 1 <= in, out < 2^31; bits 1, 2, 4 or 8; all levels finite.
struct Plan {
  std::int64_t in, out;
  Keys keys;
  int bits;
  std::int64_t words;   // of 32 bits in a row of P
  bool int8;            // activations
  const float* levels;  // 2^bits
  // Codebooks of 8 bits as runs of equal levels: code c is of class = count of thresholds <= c; 0 where too many runs.
  int classes;
  std::uint8_t thresholds[kFewLevels - 1];
  float class_levels[kFewLevels];
  float step, origin;  // levels at equal distances are (c - origin) step, to their rounding; step 0 where they are not
};

constexpr float kLargestFloat = 3.4028234663852886e38f, kNotANumber = __builtin_nanf("");
constexpr float kSmallestRange = 1e-35f;  // smaller activations are 0 where they are rounded: their steps would be none

// A block of columns of P.
struct Columns {
  std::int64_t first, last;  // last is not in it
};

struct Variant {
  // Whether it is for this plan; where it is not, `otherwise` is asked, and the last one takes every plan.
  bool (*takes)(const Plan&);
  // Most batch rows of one chunk, most columns of a block, the floats that prepare() writes, and the rows of P in a band.
  int (*chunk)(const Plan&);
  std::int64_t (*columns)(const Plan&, int rows);
  std::size_t (*floats)(const Plan&, int rows);
  std::int64_t (*band)(const Plan&, int rows);
  // A slice of a block of x (rows, in) -> prepared, aligned to 64 bytes and kept from block to block; false where
  // `otherwise` must do the whole chunk. Slices of a block begin at multiples of `grain` columns from its first one, in
  // threads of their own; where grain is 0 the block is one slice.
  bool (*prepare)(const Plan&, const float* x, int rows, Columns block, Columns slice, const float* in_scale,
                  float* prepared);
  // Rows first to last - 1 of P, first a multiple of the band, into y (rows, out): sums until the last block, then results.
  void (*bands)(const Plan&, const float* prepared, int rows, Columns, std::int64_t first, std::int64_t last,
                const float* out_scale, const float* bias, float* y);
  const Variant* otherwise;
  std::int64_t grain;
};

const Variant& variant();  // the one to run on this processor; written by build.py

}  // namespace edgefc::prp
