// What a program may ask for by ctypes: the loops of limits.h in the variant that runs here. Not for onnxruntime.
#include "limits.h"

#include "kernel.h"

namespace {

// Null where EDGEFC_NATIVE_CPU names no variant that can run.
const edgefc::limits::Variant* variant() {
  try {
    return &EDGEFC_CHOOSE(edgefc::limits);
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

// Reads `count` floats in order and returns their sum.
EDGEFC_EXPORT float EdgefcRead(const float* data, std::size_t count) {
  const auto* chosen = variant();
  return chosen == nullptr ? 0.0f : chosen->read(data, count);
}

// Does EdgefcFmaEach() multiply-adds `rounds` times.
EDGEFC_EXPORT float EdgefcFma(std::uint64_t rounds) {
  const auto* chosen = variant();
  return chosen == nullptr ? 0.0f : chosen->fma(rounds);
}

// 0 where no variant can run.
EDGEFC_EXPORT std::uint64_t EdgefcFmaEach() {
  const auto* chosen = variant();
  return chosen == nullptr ? 0 : chosen->each;
}
