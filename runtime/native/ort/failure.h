// The exception of a kernel that cannot run.
#pragma once

#include <stdexcept>

namespace edgefc {

// The message is one sentence for the user.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace edgefc
