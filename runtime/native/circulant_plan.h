// What the engines of circulant.cc read: plain numbers and pointers, so that a file compiled for a wider instruction
// set takes no inline code of the library or of the standard library with it.
#pragma once

#include <cstdint>

#include "fft.h"

namespace edgefc {

// Letters as in edgefc/layers/circulant/linear.py: n inputs, m outputs, blocks of b, p down and q across.
struct CirculantJob {
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

struct CirculantEngine {
  int width;
  // scratch, aligned to 64 bytes: length + (q + 1) * (2 * groups * width + reals) * width floats
  void (*single)(const CirculantJob&, const float* x, float* y, const float* bias, float* scratch);
  // count <= width rows; scratch: (q + p) * (length + 1) * width floats, q alone where p = q = 1
  void (*rows)(const CirculantJob&, const float* x, int64_t count, float* y, const float* bias, float* scratch);
  // whether all of x are below limit in size; false for NaN
  bool (*within)(const float* x, int64_t count, float limit);
};


extern const CirculantEngine kCirculantPortable[];
#if defined(__x86_64__)
extern const CirculantEngine kCirculantAvx2[];
extern const CirculantEngine kCirculantAvx512[];
#elif defined(__aarch64__)
extern const CirculantEngine kCirculantNeon[];
#endif

}  // namespace edgefc
