// The limits over the vectors of lanes_portable.h.
#include "lanes_portable.h"
#include "limits_lanes.h"

const edgefc::limits::Variant edgefc::limits::kPortable = kHere;
