/* All that is written once for both precisions; leaves no macro behind. */

#include "products.h"
#include "dense.h"
#include "ascent.h"
#include "quadratic.h"
#include "softmax.h"

#undef R
#undef SUFFIX
#undef SQRT
#undef TINY
#undef HUGE_REAL
#undef JOIN_
#undef JOIN
#undef FN
#undef V
#undef LANES
#undef WIDTH
#undef TALL
#undef PANEL
