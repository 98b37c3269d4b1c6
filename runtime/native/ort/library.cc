// The two functions of the library. onnxruntime calls the first; programs can call the second.
#include "ort/kernel.h"
#include "simd/cpu.h"

namespace {

using namespace edgefc;

constexpr char kActivations[] = "edgefc.activations";

// Whether the session options request int8 activations.
bool int8_activations(const ort::Api& api, const ort::SessionOptions* options) {
  const std::string unread = std::string("The session option ") + kActivations + " cannot be read.";
  int there = 0;
  check(api, api.HasSessionConfigEntry(options, kActivations, &there), unread);
  if (!there) return false;
  std::size_t size = 0;  // with the terminating zero
  check(api, api.GetSessionConfigEntry(options, kActivations, nullptr, &size), unread);
  std::string value(size, '\0');
  check(api, api.GetSessionConfigEntry(options, kActivations, value.data(), &size), unread);
  value.resize(size - 1);
  if (value != "float32" && value != "int8") {
    throw Failure(std::string(kActivations) + " is " + value + ". Choose float32 or int8.");
  }
  return value == "int8";
}

// The operators for one table of functions, created once. Session options point to it, so it exists until unloading.
struct Domain {
  const ort::Api& api;
  ort::Domain* domain = nullptr;

  Domain(const ort::Api& table, const Options& options) : api(table) {
    check(api, api.CreateCustomOpDomain("edgefc", &domain), "onnxruntime could not create the domain edgefc.");
    for (const ort::CustomOp* op : operators(options)) {
      check(api, api.CustomOpDomain_Add(domain, op),
            std::string("onnxruntime rejected the operator ") + op->GetName(op) + ".");
    }
  }
  ~Domain() { api.ReleaseCustomOpDomain(domain); }
  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;
};

}  // namespace

EDGEFC_EXPORT ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base) {
  const ort::Api* api = base->GetApi(ort::kApiVersion);
  if (api == nullptr) {  // older than 1.17; its first slot is the same
    const ort::Api* first = base->GetApi(1);
    return first ? first->CreateStatus(ort::kFail, "edgefc needs onnxruntime 1.17 or later.") : nullptr;
  }
  return guarded(*api, "edgefc", "to register the operators", [&] {
    cpu();
    static const Domain exact(*api, {false}), rounding(*api, {true});
    const Domain& operators = int8_activations(*api, options) ? rounding : exact;
    if (&operators.api != api) throw Failure("Another onnxruntime in this process has loaded the kernels of edgefc.");
    check(*api, api->AddCustomOpDomain(options, operators.domain), "onnxruntime rejected the domain edgefc.");
  });
}

// The variant for this processor: "avx512", "avx2", "neon" or "portable". Null if EDGEFC_NATIVE_CPU is not a variant
// that can run.
EDGEFC_EXPORT const char* EdgefcNativeCpu() {
  try {
    return cpu_name();
  } catch (...) {
    return nullptr;
  }
}
