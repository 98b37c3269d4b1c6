// The PRP kernel over the vectors of lanes_portable.h.
#include "lanes_portable.h"
#include "prp_lanes.h"

const edgefc::prp::Variant edgefc::prp::kPortable = kHere;
