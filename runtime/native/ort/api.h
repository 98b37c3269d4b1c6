// The part of onnxruntime's C interface that this library uses, written from its public documentation.
//
// The table of functions only grows at its end, so the position of a slot never changes. `kApiVersion` is the lowest
// version that has every slot below: 17, onnxruntime 1.17. tests/support/native_slots.cc compares each position with
// the real header if a machine has it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgefc::ort {

constexpr std::uint32_t kApiVersion = 17;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kFloat = 1, kUint8 = 2, kFloat16 = 10 };
enum Characteristic : int { kRequired = 0 };

struct Status;
struct Value;
struct Shape;  // type and shape of a tensor
struct Domain;
struct SessionOptions;
struct KernelInfo;
struct KernelContext;
struct CustomOp;

using Slot = void*;  // a function that is not used here

struct Api {
  Status* (*CreateStatus)(ErrorCode, const char* message);  // copies the message
  Slot slots_1[25];
  Status* (*CreateCustomOpDomain)(const char* name, Domain** out);
  Status* (*CustomOpDomain_Add)(Domain*, const CustomOp*);  // keeps the pointer
  Status* (*AddCustomOpDomain)(SessionOptions*, Domain*);   // keeps the pointer
  Slot slots_29[22];
  Status* (*GetTensorMutableData)(Value*, void** out);
  Slot slots_52[8];
  Status* (*GetTensorElementType)(const Shape*, ElementType* out);
  Status* (*GetDimensionsCount)(const Shape*, std::size_t* out);
  Status* (*GetDimensions)(const Shape*, std::int64_t* out, std::size_t count);
  Slot slots_63[2];
  Status* (*GetTensorTypeAndShape)(const Value*, Shape** out);  // the caller releases it
  Slot slots_66[20];
  Status* (*KernelInfoGetAttribute_int64)(const KernelInfo*, const char* name, std::int64_t* out);
  Slot slots_87[3];
  Status* (*KernelContext_GetInput)(const KernelContext*, std::size_t index, const Value** out);
  Status* (*KernelContext_GetOutput)(KernelContext*, std::size_t index, const std::int64_t* sizes, std::size_t rank,
                                     Value** out);
  Slot slots_92[1];
  void (*ReleaseStatus)(Status*);
  Slot slots_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(Shape*);
  Slot slots_100[1];
  void (*ReleaseCustomOpDomain)(Domain*);
  Slot slots_102[60];
  Status* (*KernelInfoGetAttributeArray_float)(const KernelInfo*, const char* name, float* out, std::size_t* size);
  Slot slots_163[74];
  Status* (*HasSessionConfigEntry)(const SessionOptions*, const char* key, int* has);
  Status* (*GetSessionConfigEntry)(const SessionOptions*, const char* key, char* out, std::size_t* size);
  Slot slots_239[5];
  Status* (*KernelInfo_GetNodeName)(const KernelInfo*, char* out, std::size_t* size);
  Slot slots_245[4];
  Status* (*KernelInfoGetConstantInput_tensor)(const KernelInfo*, std::size_t index, int* is_constant,
                                               const Value** out);
  Slot slots_250[24];
  Status* (*KernelContext_ParallelFor)(const KernelContext*, void (*run)(void* data, std::size_t task),
                                       std::size_t tasks, std::size_t batches, void* data);
};

struct ApiBase {
  const Api* (*GetApi)(std::uint32_t version);  // null if the runtime is older
  const char* (*GetVersionString)();
};

// An operator. The runtime reads the members that exist in `version`.
struct CustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  ElementType (*GetInputType)(const CustomOp*, std::size_t index);
  std::size_t (*GetInputTypeCount)(const CustomOp*);
  ElementType (*GetOutputType)(const CustomOp*, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void* kernel, KernelContext*);
  void (*KernelDestroy)(void* kernel);
  Characteristic (*GetInputCharacteristic)(const CustomOp*, std::size_t index);
  Characteristic (*GetOutputCharacteristic)(const CustomOp*, std::size_t index);
  int (*GetInputMemoryType)(const CustomOp*, std::size_t index);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*KernelComputeV2)(void* kernel, KernelContext*);
  Slot InferOutputShapeFn;
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
};

static_assert(offsetof(Api, KernelContext_ParallelFor) == 274 * sizeof(Slot), "a gap has the wrong length");

}  // namespace edgefc::ort
