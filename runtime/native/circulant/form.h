// How a circulant layer runs: the transform's length and steps, and the kernel's spectrum in their order.
#pragma once

#include <cstdint>
#include <vector>

#include "circulant/circulant.h"
#include "circulant/fft.h"
#include "ort/memory.h"

namespace edgefc::circulant {

inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One way to run the layer: with steps over single numbers (many rows) or over `width` neighbours (one row).
struct Form {
  int width = 0;
  Program program;
  std::vector<int64_t> leaf_at, real_at;
  Floats lane_factors, spectrum;
  Job job = {};
  double cost = 0;
};

// Cost of one row in the single form, or of `width` rows in the other, in units of a few vector operations: transforms
// there and back, then products. The numbers were read off measurements.
double form_cost(const Job& job, const Program& program, int width, bool single);

// The cheapest length for elements of `width` coefficients: the block itself, or a linear convolution.
Program best_program(const Job& job, int width, bool single);

// `sizes` has all that the steps do not settle; the spectrum comes last, by one of the two below.
void set_up(Form& form, const Job& sizes, int width, bool single, Program program);

// The spectrum of kernel (p, q, b) in circulant.h's order, made in double and rounded once; the factors in double are
// given up then.
void rows_spectrum(Form& form, const float* kernel);
void single_spectrum(Form& form, const float* kernel);

}  // namespace edgefc::circulant
