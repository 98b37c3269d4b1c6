// The EUGen kernel over the vectors of lanes_neon.h.
#if defined(__aarch64__)
#include "lanes_neon.h"
#include "eugen_lanes.h"

const edgefc::eugen::Variant edgefc::eugen::kNeon = kHere;
#endif
