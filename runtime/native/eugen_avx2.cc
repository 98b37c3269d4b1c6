// The EUGen kernel over the vectors of lanes_avx2.h.
#if defined(__x86_64__)
#include "lanes_avx2.h"
#include "eugen_lanes.h"

const edgefc::eugen::Variant edgefc::eugen::kAvx2 = kHere;
#endif
