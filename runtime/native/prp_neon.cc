// The PRP kernel over the vectors of lanes_neon.h.
#if defined(__aarch64__)
#include "lanes_neon.h"
#include "prp_lanes.h"

const edgefc::prp::Variant edgefc::prp::kNeon = kHere;
#endif
