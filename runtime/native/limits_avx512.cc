// The limits over the vectors of lanes_avx512.h.
#if defined(__x86_64__)
#include "lanes_avx512.h"
#include "limits_lanes.h"

const edgefc::limits::Variant edgefc::limits::kAvx512 = kHere;
#endif
