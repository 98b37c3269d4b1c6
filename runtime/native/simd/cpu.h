// The instruction sets of the kernels, and the choice of the one to run.
#pragma once

#include <cstddef>
#include <vector>

namespace edgefc {

struct Cpu {
  const char* name;  // in EDGEFC_NATIVE_CPU; if two share a name, it selects the better one
  bool runs;         // whether this processor supports it
};

// The best one is last. build.py generates this function, and variant() of each kernel with a variant for each of them.
std::vector<Cpu> cpus();

// The index in cpus() of the instruction set to run: the best that this processor supports, or that in
// EDGEFC_NATIVE_CPU. Throws Failure if this processor does not support it.
std::size_t cpu();
const char* cpu_name();

}  // namespace edgefc
