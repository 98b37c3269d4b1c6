// The TiedFFN kernel over the vectors of lanes_neon.h.
#if defined(__aarch64__)
#include "lanes_neon.h"
#include "tied_lanes.h"

const edgefc::tied::Variant edgefc::tied::kNeon = kHere;
#endif
