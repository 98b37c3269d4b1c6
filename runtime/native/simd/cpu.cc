#include "simd/cpu.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "ort/failure.h"

namespace edgefc {

std::size_t cpu() {
  const char* wanted = std::getenv("EDGEFC_NATIVE_CPU");
  const bool any = wanted == nullptr || *wanted == '\0';
  const std::vector<Cpu> all = cpus();
  std::size_t found = all.size();
  std::string names;
  const char* last = "";
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!all[i].runs) continue;
    if (any || std::strcmp(wanted, all[i].name) == 0) found = i;
    if (std::strcmp(last, all[i].name) != 0) names += (names.empty() ? "" : ", ") + std::string(all[i].name);
    last = all[i].name;
  }
  if (found < all.size()) return found;
  throw Failure(std::string("EDGEFC_NATIVE_CPU is ") + wanted + ", but this processor supports only " + names + ".");
}

const char* cpu_name() { return cpus()[cpu()].name; }

}  // namespace edgefc
