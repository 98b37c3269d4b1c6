// PRP: y = ((x * in_scale / sqrt(n)) P^T) * out_scale + bias, P (m, n) from a seed and never stored.
//
// Batch rows go in chunks. `prepare` turns a chunk into what its variant looks up: for codes of 1 bit the signed sums of
// every `group` inputs, otherwise the scaled inputs. `bands` makes P a band of rows at a time, in registers, the lanes of a
// vector being rows, and uses each number for the whole chunk. A chunk above kGroup rows first writes kTile columns of
// the band to a tile of some kilobytes, which stays in the first cache for all rows.
//
// Variants have the same code (prp_lanes.h) over other vectors; dispatch.h chooses. Plain data and pointers only: a
// variant must share no inline function of the standard library with the rest, which may run where it cannot.
#pragma once

#include <cstddef>
#include <cstdint>

#include "generator.h"

namespace edgefc::prp {

constexpr int kGroup = 8;          // batch rows that registers serve at once
constexpr int kChunk = 64;         // most batch rows of one prepare(); 8 where codes have 1 bit
constexpr int kFewLevels = 16;     // runs of equal levels that a vector can look up

// Checked: 1 <= in, out < 2^31; bits 1, 2, 4 or 8; all levels finite.
struct Plan {
  std::int64_t in, out;
  Keys keys;
  int bits;
  const float* levels;  // 2^bits
  // Codebooks of 8 bits as runs of equal levels: code c is of class = count of thresholds <= c; 0 where too many runs.
  int classes;
  std::uint8_t thresholds[kFewLevels - 1];
  float class_levels[kFewLevels];
  float step, origin;  // levels at equal distances are (c - origin) step, to their rounding; step 0 where they are not
};

struct Variant {
  // Most batch rows of one chunk, the floats that prepare() writes for so many rows, and the rows of P in a band.
  int (*chunk)(const Plan&);
  std::size_t (*floats)(const Plan&, int rows);
  std::int64_t (*band)(const Plan&, int rows);
  // x (rows, in) -> prepared, aligned to 64 bytes.
  void (*prepare)(const Plan&, const float* x, int rows, const float* in_scale, float* prepared);
  // Rows first to last - 1 of P, first a multiple of the band, into y (rows, out).
  void (*bands)(const Plan&, const float* prepared, int rows, std::int64_t first, std::int64_t last,
                const float* out_scale, const float* bias, float* y);
};

extern const Variant kPortable;
#if defined(__x86_64__)
extern const Variant kAvx2, kAvx512;
#endif

}  // namespace edgefc::prp
