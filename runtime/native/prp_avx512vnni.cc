// The PRP kernel of ternary codes of 8 bits, for processors that multiply bytes and add in one step.
#if defined(__x86_64__)
#include "lanes_avx512.h"
#include "prp_ternary.h"

const edgefc::prp::Variant edgefc::prp::kAvx512Ternary = kTernary;
#endif
