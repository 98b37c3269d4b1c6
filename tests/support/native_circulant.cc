// The circulant kernel as C functions, for tests/runtime/native/test_circulant.py.
#include <cstring>
#include <exception>

#include "circulant/plan.h"
#include "simd/cpu.h"

namespace {

struct Layer {
  edgefc::circulant::Plan plan;
  edgefc::Scratch scratch;
};

}  // namespace

extern "C" {

// Null where it cannot be made. `said` is then why, else the instruction set and the form of the kernel.
void* circulant_create(int64_t n, int64_t m, int64_t b, uint64_t seed, const float* kernel, int64_t count, char* said,
                       int64_t room) {
  const auto say = [&](const std::string& text) { std::strncpy(said, text.c_str(), static_cast<size_t>(room - 1)); };
  try {
    auto* layer = new Layer{{{n, m, b, seed}, kernel, count}, {}};
    say(std::string(edgefc::cpu_name()) + ", " + layer->plan.describe());
    return layer;
  } catch (const std::exception& error) {
    say(error.what());
    return nullptr;
  }
}

void circulant_apply(void* layer, const float* x, int64_t rows, float* y, const float* bias) {
  auto* made = static_cast<Layer*>(layer);
  made->plan.apply(x, rows, y, bias, made->scratch);
}

void circulant_free(void* layer) { delete static_cast<Layer*>(layer); }

}
