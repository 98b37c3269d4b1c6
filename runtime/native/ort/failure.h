// How a kernel says that it cannot run.
#pragma once

#include <stdexcept>

namespace edgefc {

// One sentence for the user.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace edgefc
