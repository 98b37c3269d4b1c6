// CirculantLinear: y = R D x + bias, R the first m rows and n columns of p x q circulant blocks, D seeded signs.
//
// A product with a circulant is a transform, a product for each frequency, a transform back, by the steps of fft.h. Many
// rows stand side by side, one a lane. One row alone has its neighbours as lanes.
//
// Variants have the same code (circulant_lanes.h) over other vectors. Plain data and pointers only, as in prp.h.
#pragma once

#include <cstdint>

namespace edgefc::circulant {

constexpr int kLargestRadix = 13;

enum class Split : uint8_t { kReal2, kReal4, kRealOdd, kFlip, kComplex2, kComplex4, kComplexOdd };

// `count` nodes side by side, each of radix * length elements from offset re (and im).
struct Step {
  Split split;
  int radix;
  int64_t length, count, re, im;
  int64_t factors;  // where its numbers start: (radix - 1) complex per node
  int64_t roots;    // odd radix: cosines, then sines, of 2 pi k / radix
};

// Letters as in edgefc/layers/circulant/linear.py: n inputs, m outputs, blocks of b, p down and q across.
struct Job {
  int64_t n, m, b, p, q;
  int64_t length;  // of the transform; b, or longer where a linear convolution is cheaper
  const float* signs;
  const Step* steps;
  int64_t step_count;
  const float* factors;
  const int64_t* leaf_at;  // (leaves, 2)
  int64_t leaves;
  const int64_t* real_at;  // (reals)
  int64_t reals;
  const float* spectrum;
  // One row alone only: the steps treat `width` neighbouring inputs as one element, and lanes_transform does the rest.
  int64_t groups;             // of `width` leaves
  const float* lane_factors;  // (groups, width - 1, 2, width)
};

// Spectrum of the rows form: leaves (leaf, p, q, 2), then reals (real, p, q).
// Spectrum of the single form: points (p, groups * width, q, 2, width), then reals (p, reals, q, 2 * width): the
// first column h of a circulant z^width -+ 1 and its continuation to the left, [width + d] = h[d], [d] = +-h[d].

struct Variant {
  int width;  // of the widest vectors: so many rows stand side by side
  // count <= width rows; scratch: (q + p) * (length + 1) * width floats, q alone where p = q = 1
  void (*rows)(const Job&, const float* x, int64_t count, float* y, const float* bias, float* scratch);
  // Whether all of x are below limit in size; false for NaN.
  bool (*within)(const float* x, int64_t count, float limit);
  // One row alone in vectors of each width, the widest first; a width of 0 ends them.
  struct Single {
    int width;
    // scratch, aligned to 64 bytes: length + (q + 1) * (2 * groups * width + reals) * width floats
    void (*row)(const Job&, const float* x, float* y, const float* bias, float* scratch);
  } singles[4];
};

const Variant& variant();  // the one to run on this processor; written by build.py

}  // namespace edgefc::circulant
