// The TiedFFN kernel over the vectors of lanes_avx512.h.
#if defined(__x86_64__)
#include "lanes_avx512.h"
#include "tied_lanes.h"

const edgefc::tied::Variant edgefc::tied::kAvx512 = kHere;
#endif
