// The limits over the vectors of lanes_avx2.h.
#if defined(__x86_64__)
#include "lanes_avx2.h"
#include "limits_lanes.h"

const edgefc::limits::Variant edgefc::limits::kAvx2 = kHere;
#endif
