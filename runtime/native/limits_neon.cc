// The limits over the vectors of lanes_neon.h.
#if defined(__aarch64__)
#include "lanes_neon.h"
#include "limits_lanes.h"

const edgefc::limits::Variant edgefc::limits::kNeon = kHere;
#endif
