// Transforms for real cyclic convolution, as lists of steps that are the same for every vector width.
//
// A real sequence of length b is a polynomial modulo z^b - 1. Each step splits the modulus of one or more nodes:
//     real, z^n - 1        into  z^L - 1, z^L + 1 and complex z^L - w, one of each pair w, conj(w); no twiddles
//     real, z^n + 1        n even: equal to complex z^(n/2) - i without arithmetic; n odd: replace z by -z
//     complex, z^n - w     into r complex z^L - w_k, w_k the r-th roots of w: x_j w^(j/r), then an r-point transform
// until every node has length 1. The steps work in place, with separate real and imaginary parts. The spectrum stays in
// the order in which they produce it, because a convolution needs no other order. Factors are constant within a node,
// so they are scalars. An element can be a number, a vector of one element of several rows, or a vector of several
// coefficients of one row.
#pragma once

#include <cstdint>
#include <vector>

#include "circulant/circulant.h"

namespace edgefc::circulant {

// A complex number of the spectrum: evaluation at exp(2 pi i turn).
struct Leaf {
  int64_t re, im;
  double turn;
};

// A real number of the spectrum: evaluation at 1 or -1.
struct RealLeaf {
  int64_t at;
  double sign;
};

struct Program {
  int64_t length = 0;
  std::vector<Step> steps;
  std::vector<Leaf> leaves;
  std::vector<RealLeaf> real_leaves;
  std::vector<double> factors;   // in double, for the spectrum of the kernel
  std::vector<float> factors32;  // rounded once, for everything else
};

// Whether all prime factors of length are at most kLargestRadix.
bool smooth(int64_t length);

// The steps for z^length - 1. length is smooth and at least 1.
Program make_program(int64_t length);

// The approximate number of vector operations of a transform and its inverse, to choose a length.
double cost(const Program& program);

}  // namespace edgefc::circulant
