// A stand-in for onnxruntime: the slots of ort/api.h that the library uses, over plain vectors, without Python.
// So sanitizers and libFuzzer see nothing but the library. A slot that is missing here ends the program by name.
#pragma once

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ort/api.h"

extern "C" edgefc::ort::Status* RegisterCustomOps(edgefc::ort::SessionOptions*, const edgefc::ort::ApiBase*);

namespace edgefc::ort {

struct Status {
  ErrorCode code;
  std::string message;
};

struct Shape {
  int type = kFloat;
  std::vector<std::int64_t> sizes;
};

constexpr int kDouble = 11, kInt8 = 3;  // for values that claim to have these types

inline std::size_t bytes_of(int type) { return type == kUint8 ? 1 : type == kFloat16 ? 2 : 4; }

// Numbers that end where their memory ends and that are aligned to 4 bytes only, as a caller's may be.
struct Value {
  Shape shape;
  std::unique_ptr<char[]> memory;
  std::size_t count = 0;

  Value() = default;
  Value(std::vector<std::int64_t> sizes, std::size_t numbers, int type = kFloat)
      : shape{type, std::move(sizes)}, memory(new char[bytes_of(type) * numbers + 4]), count(numbers) {}
  float* data() const { return reinterpret_cast<float*>(memory.get() + 4); }
  std::uint8_t* bytes() const { return reinterpret_cast<std::uint8_t*>(data()); }
  std::uint16_t* halves() const { return reinterpret_cast<std::uint16_t*>(data()); }
  std::size_t floats() const { return shape.type == kFloat || shape.type == kDouble ? count : 0; }  // how many it has
};

struct KernelInfo {
  std::string name;
  std::map<std::string, std::int64_t> wholes;
  std::map<std::string, std::vector<float>> lists;
  std::vector<const Value*> constants;  // null for an input that is not constant
};

struct KernelContext {
  std::vector<const Value*> inputs;
  std::size_t threads = 1;
  Value output;
};

struct Domain {
  std::vector<const CustomOp*> ops;
};

struct SessionOptions {
  std::map<std::string, std::string> entries;
  std::vector<Domain*> domains;
};

}  // namespace edgefc::ort

namespace host {

using namespace edgefc;

constexpr std::size_t kMostOutput = std::size_t{1} << 24;  // numbers: more than that there is "no memory" for

inline ort::Status* fail(const std::string& message) { return new ort::Status{ort::kFail, message}; }

inline std::size_t numbers(const std::int64_t* sizes, std::size_t rank) {
  double count = 1;
  for (std::size_t i = 0; i < rank; ++i) count = sizes[i] < 0 ? 1e300 : count * static_cast<double>(sizes[i]);
  return count > static_cast<double>(kMostOutput) ? kMostOutput + 1 : static_cast<std::size_t>(count);
}

template <class T>
ort::Status* list(const std::map<std::string, std::vector<T>>& all, const char* name, T* out, std::size_t* size) {
  const auto found = all.find(name);
  if (found == all.end()) return fail("no such attribute");
  const std::size_t room = *size;
  *size = found->second.size();
  if (out == nullptr) return nullptr;
  if (room < found->second.size()) return fail("not enough room");
  std::copy(found->second.begin(), found->second.end(), out);
  return nullptr;
}

inline void parallel(std::size_t threads, void (*run)(void*, std::size_t), std::size_t tasks, void* data) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t task; (task = next++) < tasks;) run(data, task);
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
}

inline ort::Api make_api() {
  ort::Api api;
  const ort::Slot missing = reinterpret_cast<ort::Slot>(+[] {
    std::fputs("native_host.h lacks a slot that the library uses\n", stderr);
    std::abort();
  });
  for (std::size_t i = 0; i < sizeof api / sizeof missing; ++i) {
    std::memcpy(reinterpret_cast<char*>(&api) + i * sizeof missing, &missing, sizeof missing);
  }
  api.CreateStatus = [](ort::ErrorCode code, const char* message) { return new ort::Status{code, message}; };
  api.ReleaseStatus = [](ort::Status* status) { delete status; };
  api.CreateCustomOpDomain = [](const char*, ort::Domain** out) -> ort::Status* {
    *out = new ort::Domain;
    return nullptr;
  };
  api.ReleaseCustomOpDomain = [](ort::Domain* domain) { delete domain; };
  api.CustomOpDomain_Add = [](ort::Domain* domain, const ort::CustomOp* op) -> ort::Status* {
    domain->ops.push_back(op);
    return nullptr;
  };
  api.AddCustomOpDomain = [](ort::SessionOptions* options, ort::Domain* domain) -> ort::Status* {
    options->domains.push_back(domain);
    return nullptr;
  };
  api.HasSessionConfigEntry = [](const ort::SessionOptions* options, const char* key, int* has) -> ort::Status* {
    *has = options->entries.count(key) > 0;
    return nullptr;
  };
  api.GetSessionConfigEntry = [](const ort::SessionOptions* options, const char* key, char* out, std::size_t* size) {
    const std::string& value = options->entries.at(key);
    if (out != nullptr) std::memcpy(out, value.c_str(), value.size() + 1);
    *size = value.size() + 1;
    return static_cast<ort::Status*>(nullptr);
  };
  api.GetTensorTypeAndShape = [](const ort::Value* value, ort::Shape** out) -> ort::Status* {
    *out = new ort::Shape(value->shape);
    return nullptr;
  };
  api.ReleaseTensorTypeAndShapeInfo = [](ort::Shape* shape) { delete shape; };
  api.GetTensorElementType = [](const ort::Shape* shape, ort::ElementType* out) -> ort::Status* {
    *reinterpret_cast<int*>(out) = shape->type;
    return nullptr;
  };
  api.GetDimensionsCount = [](const ort::Shape* shape, std::size_t* out) -> ort::Status* {
    *out = shape->sizes.size();
    return nullptr;
  };
  api.GetDimensions = [](const ort::Shape* shape, std::int64_t* out, std::size_t count) -> ort::Status* {
    for (std::size_t i = 0; i < count && i < shape->sizes.size(); ++i) out[i] = shape->sizes[i];
    return nullptr;
  };
  api.GetTensorMutableData = [](ort::Value* value, void** out) -> ort::Status* {
    *out = value->data();
    return nullptr;
  };
  api.KernelInfo_GetNodeName = [](const ort::KernelInfo* info, char* out, std::size_t* size) -> ort::Status* {
    if (out != nullptr) std::memcpy(out, info->name.c_str(), info->name.size() + 1);
    *size = info->name.size() + 1;
    return nullptr;
  };
  api.KernelInfoGetAttribute_int64 = [](const ort::KernelInfo* info, const char* name, std::int64_t* out) {
    const auto found = info->wholes.find(name);
    if (found == info->wholes.end()) return fail("no such attribute");
    *out = found->second;
    return static_cast<ort::Status*>(nullptr);
  };
  api.KernelInfoGetAttributeArray_float = [](const ort::KernelInfo* info, const char* name, float* out,
                                             std::size_t* size) { return list(info->lists, name, out, size); };
  api.KernelInfoGetConstantInput_tensor = [](const ort::KernelInfo* info, std::size_t index, int* constant,
                                             const ort::Value** out) -> ort::Status* {
    if (index >= info->constants.size()) return fail("no such input");
    *out = info->constants[index];
    *constant = *out != nullptr;
    return nullptr;
  };
  api.KernelContext_GetInput = [](const ort::KernelContext* context, std::size_t index, const ort::Value** out) {
    if (index >= context->inputs.size()) return fail("no such input");
    *out = context->inputs[index];
    return static_cast<ort::Status*>(nullptr);
  };
  api.KernelContext_GetOutput = [](ort::KernelContext* context, std::size_t index, const std::int64_t* sizes,
                                   std::size_t rank, ort::Value** out) {
    const std::size_t count = numbers(sizes, rank);
    if (index > 0 || count > kMostOutput) return fail("no output like this");
    context->output = ort::Value({sizes, sizes + rank}, count);
    std::memset(context->output.memory.get(), 0x7B, 4 * count + 4);  // 1.3e36: what was not written is seen
    *out = &context->output;
    return static_cast<ort::Status*>(nullptr);
  };
  api.KernelContext_ParallelFor = [](const ort::KernelContext* context, void (*run)(void*, std::size_t),
                                     std::size_t tasks, std::size_t, void* data) -> ort::Status* {
    parallel(context->threads, run, tasks, data);
    return nullptr;
  };
  return api;
}

inline const ort::Api& api() {
  static const ort::Api table = make_api();
  return table;
}

// The operator of this name in the library, for sessions with these options.
inline const ort::CustomOp& find(const std::string& name, const std::map<std::string, std::string>& entries) {
  static const ort::ApiBase base = {[](std::uint32_t) { return &api(); }, [] { return "the host of the tests"; }};
  ort::SessionOptions options{entries, {}};
  if (ort::Status* status = RegisterCustomOps(&options, &base)) {
    std::fprintf(stderr, "RegisterCustomOps: %s\n", status->message.c_str());
    std::abort();
  }
  for (const ort::CustomOp* op : options.domains.at(0)->ops) {
    if (name == op->GetName(op)) return *op;
  }
  std::fprintf(stderr, "the library has no %s\n", name.c_str());
  std::abort();
}

}  // namespace host
