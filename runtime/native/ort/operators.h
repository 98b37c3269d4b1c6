// The operators of the library, which build.py lists: that of every x_op.cc is `const ort::CustomOp& x_op(const Options&)`.
#pragma once

#include <vector>

#include "ort/api.h"

namespace edgefc {

// Options of a session that kernels take.
struct Options {
  bool int8_activations;
};

std::vector<const ort::CustomOp*> operators(const Options& options);

}  // namespace edgefc
