// Functions on onnxruntime's interface that every kernel uses: failures (exceptions inside, a status outside), shapes,
// threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ort/api.h"
#include "ort/failure.h"
#include "ort/memory.h"
#include "ort/operators.h"

// An exported function of the library.
#if defined(_WIN32)
#define EDGEFC_EXPORT extern "C" __declspec(dllexport)
#else
#define EDGEFC_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace edgefc {

// A null status means success. Any other status becomes a Failure with `what`, a string or a function that returns one.
// Calls in every run pass functions, because building the strings of a run took longer than a small layer.
template <class What>
void check(const ort::Api& api, ort::Status* status, const What& what) {
  if (status == nullptr) return;
  api.ReleaseStatus(status);
  if constexpr (std::is_invocable_v<What>) {
    throw Failure(what());
  } else {
    throw Failure(what);
  }
}

// Converts the current exception to a status. `name` starts the message; `purpose` ends "not enough memory ...".
ort::Status* status_of_exception(const ort::Api& api, const std::string& name, const char* purpose) noexcept;

// Runs f and returns an exception as a status, so that no exception passes through C.
template <class F>
ort::Status* guarded(const ort::Api& api, const std::string& name, const char* purpose, F f) noexcept {
  try {
    f();
    return nullptr;
  } catch (...) {
    return status_of_exception(api, name, purpose);
  }
}

// "edgefc::Op NODE", or "edgefc::Op" for a node without a name. Long names are truncated.
std::string node_name(const ort::Api& api, const ort::KernelInfo& info, const char* op);

// The node of a kernel: its name and its attributes.
class Node {
 public:
  Node(const ort::Api& api, const ort::KernelInfo& info, const char* op);

  const std::string& name() const { return name_; }  // "edgefc::Op NODE"
  std::int64_t whole(const char* attribute) const;
  std::int64_t size(const char* attribute) const;  // 1 to 2^31 - 1
  std::vector<float> numbers(const char* attribute, std::size_t most) const;
  // The attributes bits, 1, 2, 4 or 8, and codebook, 2^bits finite levels.
  std::vector<float> codebook(int& bits) const;
  // Whether an input is a float32 constant of the model. If so, sets its shape and values; otherwise runs provide it.
  bool constant(std::size_t input, const char* what, std::vector<std::int64_t>& shape, const float*& numbers) const;
  // Checks that a constant input has this shape, or (length,), and this type. Returns whether the input is a constant.
  bool check_constant(std::size_t input, const char* what, const std::vector<std::int64_t>& wanted,
                      ort::ElementType type = ort::kFloat) const;
  bool check_constant(std::size_t input, const char* what, std::int64_t length) const;

 private:
  const ort::Value* constant(std::size_t input, const char* what) const;  // null if it is not a constant

  const ort::Api& api_;
  const ort::KernelInfo& info_;
  std::string name_;
};

std::string shown(const std::vector<std::int64_t>& shape);

// Inputs and outputs of one run.
class Run {
 public:
  Run(const ort::Api& api, ort::KernelContext& context, const std::string& name)
      : api_(api), context_(context), name_(name) {}

  // Input `index`, float32; sets `shape`.
  const float* input(std::size_t index, std::vector<std::int64_t>& shape) const;
  // Input `index`, a constant that was checked when the kernel was created.
  const float* checked(std::size_t index) const;
  // Input `index`, which must have this type and the shape `wanted`.
  const void* stored(std::size_t index, const char* what, const std::vector<std::int64_t>& wanted,
                     ort::ElementType type) const;
  // The number of rows of x, 0 if any axis is empty. The size of its last axis must be that of `attribute`.
  std::int64_t rows(const std::vector<std::int64_t>& shape, const char* attribute, std::int64_t size) const;
  // Input `index`, which must have the shape `wanted`, or (length,).
  const float* tensor(std::size_t index, const char* what, const std::vector<std::int64_t>& wanted) const;
  const float* vector(std::size_t index, const char* what, std::int64_t length) const;
  float* output(const std::vector<std::int64_t>& shape) const;
  // Calls f(0), ..., f(tasks - 1) in onnxruntime's threads. If one throws, rethrows its exception after all have ended.
  template <class F>
  void parallel(std::size_t tasks, const F& f) const {
    if (tasks <= 1) {
      if (tasks == 1) f(std::size_t{0});
      return;
    }
    struct Job {
      const F& f;
      std::atomic<bool> failed{false};
      std::exception_ptr thrown = nullptr;  // by the first task that failed
    } job{f};
    const auto run = [](void* data, std::size_t task) {
      Job& job = *static_cast<Job*>(data);
      try {
        job.f(task);
      } catch (...) {
        if (!job.failed.exchange(true)) job.thrown = std::current_exception();
      }
    };
    check(api_, api_.KernelContext_ParallelFor(&context_, run, tasks, 0, &job),
          [&] { return name_ + ": onnxruntime could not run the tasks."; });
    if (job.thrown) std::rethrow_exception(job.thrown);
  }

 private:
  const ort::Value* value(std::size_t index) const;

  const ort::Api& api_;
  ort::KernelContext& context_;
  const std::string& name_;
};

inline ort::ElementType all_float(std::size_t) { return ort::kFloat; }

// An operator with inputs of these types, all of them required, and one float32 output. K has K(api, info) and
// run(context); Name is "edgefc::Op".
template <class K, const char* Name, std::size_t Inputs, ort::ElementType (*Type)(std::size_t) = all_float>
ort::CustomOp make_op() {
  using ort::CustomOp;
  struct Made {
    const ort::Api& api;
    std::string name;
    K kernel;
  };
  CustomOp op{};
  op.version = ort::kApiVersion;
  op.GetName = [](const CustomOp*) { return Name + sizeof("edgefc::") - 1; };
  op.GetExecutionProviderType = [](const CustomOp*) -> const char* { return nullptr; };  // the CPU's
  op.GetInputTypeCount = [](const CustomOp*) { return Inputs; };
  op.GetOutputTypeCount = [](const CustomOp*) { return std::size_t{1}; };
  op.GetInputType = [](const CustomOp*, std::size_t index) { return Type(index); };
  op.GetOutputType = [](const CustomOp*, std::size_t) { return ort::kFloat; };
  op.GetInputCharacteristic = [](const CustomOp*, std::size_t) { return ort::kRequired; };
  op.GetOutputCharacteristic = [](const CustomOp*, std::size_t) { return ort::kRequired; };
  op.GetInputMemoryType = [](const CustomOp*, std::size_t) { return 0; };
  op.GetStartVersion = [](const CustomOp*) { return 1; };
  op.GetEndVersion = [](const CustomOp*) { return 1; };
  op.CreateKernelV2 = [](const CustomOp*, const ort::Api* api, const ort::KernelInfo* info, void** kernel) {
    std::string name = Name;
    return guarded(*api, name, "to make the kernel", [&] {
      name = node_name(*api, *info, Name);
      *kernel = new Made{*api, name, K(*api, *info)};
    });
  };
  op.KernelComputeV2 = [](void* kernel, ort::KernelContext* context) {
    auto& made = *static_cast<Made*>(kernel);
    return guarded(made.api, made.name, "for this batch", [&] { made.kernel.run(*context); });
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Made*>(kernel); };
  return op;
}

}  // namespace edgefc
