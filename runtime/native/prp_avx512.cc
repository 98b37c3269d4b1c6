// The PRP kernel over the vectors of lanes_avx512.h.
#if defined(__x86_64__)
#include "lanes_avx512.h"
#include "prp_lanes.h"

const edgefc::prp::Variant edgefc::prp::kAvx512 = kHere;
#endif
