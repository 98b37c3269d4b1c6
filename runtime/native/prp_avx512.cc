// The PRP kernel over the vectors of lanes_avx512.h, and what only this processor has for codes of 1 bit.
#if defined(__x86_64__)
#include "lanes_avx512.h"
#include "prp_lanes.h"
#include "prp_signs_avx512.h"

const edgefc::prp::Variant edgefc::prp::kAvx512 = kHere;
const edgefc::prp::Variant edgefc::prp::kAvx512Signs = kSigns;
#endif
