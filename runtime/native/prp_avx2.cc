// The PRP kernel over the vectors of lanes_avx2.h.
#if defined(__x86_64__)
#include "lanes_avx2.h"
#include "prp_lanes.h"

const edgefc::prp::Variant edgefc::prp::kAvx2 = kHere;
#endif
