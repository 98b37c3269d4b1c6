// The circulant kernel as C functions, for test_native_circulant.py.
#include <chrono>
#include <cstring>

#include "circulant.h"

using edgefc::CirculantPlan;

extern "C" {

void* circulant_create(int64_t n, int64_t m, int64_t b, uint64_t seed, const float* kernel, int64_t count, char* error,
                       int64_t room) {
  std::string message;
  auto plan = CirculantPlan::create({n, m, b, seed}, kernel, count, &message);
  std::strncpy(error, plan ? plan->describe().c_str() : message.c_str(), static_cast<size_t>(room - 1));
  return plan.release();
}

int circulant_apply(const void* plan, const float* x, int64_t rows, float* y, const float* bias) {
  return static_cast<const CirculantPlan*>(plan)->apply(x, rows, y, bias);
}

// Nanoseconds of each of `times` calls.
void circulant_time(const void* plan, const float* x, int64_t rows, float* y, const float* bias, int64_t times,
                    double* out) {
  for (int64_t t = 0; t < times; ++t) {
    const auto start = std::chrono::steady_clock::now();
    circulant_apply(plan, x, rows, y, bias);
    out[t] = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
  }
}

void circulant_free(void* plan) { delete static_cast<CirculantPlan*>(plan); }

}
