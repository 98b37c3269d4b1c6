// What this machine can do at most: bytes read from memory and multiply-adds in registers, for one thread.
//
// The caller keeps the clock and the threads: both functions do their work and come back. What they return is only
// there so that no compiler may leave the work out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgefc::bounds {

struct Variant {
  // The sum of `count` floats, read once and in order.
  float (*read)(const float* data, std::size_t count);
  // `rounds` times `each` multiply-adds, in chains that are long enough apart for any pipeline.
  float (*fma)(std::uint64_t rounds);
  std::uint64_t each;
};

const Variant& variant();  // the one to run on this processor; written by build.py

}  // namespace edgefc::bounds
