// Functions for ctypes: the loops of bounds.h in the variant for this processor. onnxruntime does not use them.
#include "limits/bounds.h"

#include "ort/kernel.h"

namespace {

// Null if EDGEFC_NATIVE_CPU is not a variant that can run.
const edgefc::bounds::Variant* variant() {
  try {
    return &edgefc::bounds::variant();
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

// Computes EdgefcFmaEach() multiply-adds `rounds` times.
EDGEFC_EXPORT float EdgefcFma(std::uint64_t rounds) {
  const auto* chosen = variant();
  return chosen == nullptr ? 0.0f : chosen->fma(rounds);
}

// 0 if no variant can run.
EDGEFC_EXPORT std::uint64_t EdgefcFmaEach() {
  const auto* chosen = variant();
  return chosen == nullptr ? 0 : chosen->each;
}
