// The TiedFFN kernel over the vectors of lanes_portable.h.
#include "lanes_portable.h"
#include "tied_lanes.h"

const edgefc::tied::Variant edgefc::tied::kPortable = kHere;
