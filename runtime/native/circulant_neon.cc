// The circulant kernel in vectors of 4 floats with NEON's own multiply-adds.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <utility>

#include "circulant_plan.h"

namespace edgefc {
namespace {

typedef float Four __attribute__((vector_size(16)));

static inline __attribute__((always_inline)) Four mul_add(Four a, Four b, Four c) { return vfmaq_f32(c, a, b); }
static inline __attribute__((always_inline)) Four mul_sub(Four a, Four b, Four c) { return vfmaq_f32(-c, a, b); }
static inline __attribute__((always_inline)) Four neg_mul_add(Four a, Four b, Four c) { return vfmsq_f32(c, a, b); }

template <class V>
static inline __attribute__((always_inline)) V fill(float s);

#include "circulant_steps.h"

#include "circulant_lanes.h"

}  // namespace

const CirculantEngine kCirculantNeon[] = {EDGEFC_ENGINE(4), {0, nullptr, nullptr, nullptr}};

}  // namespace edgefc

#endif
