// The EUGen kernel over the vectors of lanes_avx512.h.
#if defined(__x86_64__)
#include "lanes_avx512.h"
#include "eugen_lanes.h"

const edgefc::eugen::Variant edgefc::eugen::kAvx512 = kHere;
#endif
