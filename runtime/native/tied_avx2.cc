// The TiedFFN kernel over the vectors of lanes_avx2.h.
#if defined(__x86_64__)
#include "lanes_avx2.h"
#include "tied_lanes.h"

const edgefc::tied::Variant edgefc::tied::kAvx2 = kHere;
#endif
