// The circulant kernel in vectors of 4 floats, which every processor that we build for has (SSE2, NEON).
#include <cstddef>
#include <utility>

#include "circulant_plan.h"

namespace edgefc {
namespace {

template <class V>
static inline V mul_add(const V& a, const V& b, const V& c) {
  return a * b + c;
}
template <class V>
static inline V mul_sub(const V& a, const V& b, const V& c) {
  return a * b - c;
}
template <class V>
static inline V neg_mul_add(const V& a, const V& b, const V& c) {
  return c - a * b;
}
template <class V>
static inline __attribute__((always_inline)) V fill(float s);

#include "circulant_steps.h"

#include "circulant_lanes.h"

}  // namespace

const CirculantEngine kCirculantPortable[] = {EDGEFC_ENGINE(4), {0, nullptr, nullptr, nullptr}};

}  // namespace edgefc
