// The instruction sets that the library has kernels for, and which of them runs here.
#pragma once

#include <cstddef>
#include <vector>

namespace edgefc {

struct Cpu {
  const char* name;  // in EDGEFC_NATIVE_CPU; two may share one, and the better of them is meant
  bool runs;         // on this processor
};

// The best last; written by build.py, as is each kernel's variant(), which has one for each of them.
std::vector<Cpu> cpus();

// The place in cpus() of the one to run: the best that this processor runs, or the one in EDGEFC_NATIVE_CPU. Throws
// Failure where this processor does not run that.
std::size_t cpu();
const char* cpu_name();

}  // namespace edgefc
