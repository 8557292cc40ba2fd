/* The kernel for one set of instructions: ISA is its name, VECTOR_BYTES its width. */

#include <math.h>

#include "arena.h"
#include "kernel.h"
#include "task.h"

#ifdef __GNUC__
#define INLINE inline __attribute__((always_inline, unused))
#else
#define INLINE inline
#endif

#define R float
#define SUFFIX f32
#define SQRT sqrtf
#define TINY 1e-37f
#define HUGE_REAL 1e30f
#include "real.h"

#define R double
#define SUFFIX f64
#define SQRT sqrt
#define TINY 1e-300
#define HUGE_REAL 1e250
#include "real.h"

#include "point.h"
#include "newton.h"
#include "logistic_system.h"
#include "logistic.h"
#include "smoothing.h"
#include "result.h"
#include "forward.h"
#include "adjoint.h"
#include "lasso.h"

#define NAME_(what, isa) what##_##isa
#define NAME(what, isa) NAME_(what, isa)

int NAME(forward, ISA)(const Data *data, Forward *out)
{
    return forward(data, out);
}

int NAME(adjoint, ISA)(const Data *data, Adjoint *out)
{
    return adjoint(data, out);
}

int NAME(lasso, ISA)(LassoTask *task)
{
    return lasso(task);
}
