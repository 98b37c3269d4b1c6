// Holds runtime/native/ort/api.h against onnxruntime's own header, where there is one.
//   c++ -std=c++17 -fsyntax-only -I FOLDER_OF_THE_HEADER -I runtime/native tests/support/native_slots.cc
#include <onnxruntime_c_api.h>

#include "ort/api.h"

#define SAME_API(name) static_assert(offsetof(OrtApi, name) == offsetof(edgefc::ort::Api, name), #name)
#define SAME_OP(name) static_assert(offsetof(OrtCustomOp, name) == offsetof(edgefc::ort::CustomOp, name), #name)

static_assert(edgefc::ort::kApiVersion <= ORT_API_VERSION, "the header is older than this library asks for");
static_assert(ORT_FAIL == int{edgefc::ort::kFail} && ORT_INVALID_ARGUMENT == int{edgefc::ort::kInvalidArgument}, "");
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT == int{edgefc::ort::kFloat}, "");
static_assert(INPUT_OUTPUT_REQUIRED == int{edgefc::ort::kRequired}, "");

SAME_API(CreateStatus);
SAME_API(CreateCustomOpDomain);
SAME_API(CustomOpDomain_Add);
SAME_API(AddCustomOpDomain);
SAME_API(GetTensorMutableData);
SAME_API(GetTensorElementType);
SAME_API(GetDimensionsCount);
SAME_API(GetDimensions);
SAME_API(GetTensorTypeAndShape);
SAME_API(KernelInfoGetAttribute_int64);
SAME_API(KernelContext_GetInput);
SAME_API(KernelContext_GetOutput);
SAME_API(ReleaseStatus);
SAME_API(ReleaseTensorTypeAndShapeInfo);
SAME_API(ReleaseCustomOpDomain);
SAME_API(KernelInfoGetAttributeArray_float);
SAME_API(HasSessionConfigEntry);
SAME_API(GetSessionConfigEntry);
SAME_API(KernelInfo_GetNodeName);
SAME_API(KernelInfoGetConstantInput_tensor);
SAME_API(KernelContext_ParallelFor);

SAME_OP(version);
SAME_OP(CreateKernel);
SAME_OP(GetName);
SAME_OP(GetExecutionProviderType);
SAME_OP(GetInputType);
SAME_OP(GetInputTypeCount);
SAME_OP(GetOutputType);
SAME_OP(GetOutputTypeCount);
SAME_OP(KernelCompute);
SAME_OP(KernelDestroy);
SAME_OP(GetInputCharacteristic);
SAME_OP(GetOutputCharacteristic);
SAME_OP(GetInputMemoryType);
SAME_OP(GetVariadicInputMinArity);
SAME_OP(GetVariadicInputHomogeneity);
SAME_OP(GetVariadicOutputMinArity);
SAME_OP(GetVariadicOutputHomogeneity);
SAME_OP(CreateKernelV2);
SAME_OP(KernelComputeV2);
SAME_OP(InferOutputShapeFn);
SAME_OP(GetStartVersion);
SAME_OP(GetEndVersion);
