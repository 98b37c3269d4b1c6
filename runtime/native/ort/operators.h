// The operators of the library. build.py generates the list: every x_op.cc defines
// `const ort::CustomOp& x_op(const Options&)`.
#pragma once

#include <vector>

#include "ort/api.h"

namespace edgefc {

// Session options for kernels.
struct Options {
  bool int8_activations;
};

std::vector<const ort::CustomOp*> operators(const Options& options);

}  // namespace edgefc
