// The EUGen kernel over the vectors of lanes_portable.h.
#include "lanes_portable.h"
#include "eugen_lanes.h"

const edgefc::eugen::Variant edgefc::eugen::kPortable = kHere;
