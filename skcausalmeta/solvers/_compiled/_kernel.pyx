# cython: language_level=3, boundscheck=False, wraparound=False
"""Group-Lasso classifiers of one task after another, without the interpreter's lock."""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.stddef cimport ptrdiff_t

from cython cimport floating
from scipy.linalg import cython_lapack


cdef extern from "kernel.h" nogil:
    ctypedef void (*Eigen)(char *, char *, int *, double *, int *, double *, double *,
                           int *, int *, int *, int *)
    ctypedef struct Data:
        ptrdiff_t n_rows, n_features, n_classes, n_groups
        int single, logistic
        const void *features
        const void *targets
        const void *linear
        const void *weights
        const double *thresholds
        const int *groups
        double lambda2
    ctypedef struct Forward:
        const void *start
        double tol
        int max_steps
        void *coef
        void *dual
        double gap, relative_gap, rounding
        int n_steps, n_gradient_steps, n_factors, n_rounds
    ctypedef struct Adjoint:
        const void *gradient
        const void *dual
        Eigen eigen
        void *d_features
        void *d_linear
        void *d_weights
        double d_lambda1, d_lambda2
        const double *group_weights
    int forward_base(const Data *, Forward *)
    int forward_avx2(const Data *, Forward *)
    int forward_avx512(const Data *, Forward *)
    int adjoint_base(const Data *, Adjoint *)
    int adjoint_avx2(const Data *, Adjoint *)
    int adjoint_avx512(const Data *, Adjoint *)
    ctypedef struct LassoTask:
        ptrdiff_t n_rows, n_features
        int single
        const void *features
        const void *targets
        const void *weights
        double lambda1, lambda2
        void *coef
        int n_steps
    int lasso_base(LassoTask *)
    int lasso_avx2(LassoTask *)
    int lasso_avx512(LassoTask *)


cdef extern from *:
    """
    #include <stddef.h>
    #ifdef _MSC_VER
    #include <intrin.h>
    #endif

    /* The widest instructions of this machine: 0, 1 or 2. */
    static int widest(void)
    {
    #if defined(__GNUC__) && defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
            return 2;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            return 1;
    #endif
        return 0;
    }

    /* The number of the next task that no thread has taken. */
    static ptrdiff_t next_task(long long *counter)
    {
    #ifdef _MSC_VER
        return (ptrdiff_t)_InterlockedExchangeAdd64(counter, 1);
    #else
        return (ptrdiff_t)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
    #endif
    }
    """
    int widest() nogil
    ptrdiff_t next_task(long long *) nogil


ctypedef int (*Solve)(const Data *, Forward *) noexcept nogil
ctypedef int (*Differentiate)(const Data *, Adjoint *) noexcept nogil
ctypedef int (*Regress)(LassoTask *) noexcept nogil

cdef Solve[3] SOLVE = [forward_base, forward_avx2, forward_avx512]
cdef Differentiate[3] DIFFERENTIATE = [adjoint_base, adjoint_avx2, adjoint_avx512]
cdef Regress[3] REGRESS = [lasso_base, lasso_avx2, lasso_avx512]
cdef int LEVEL = widest()

cdef Eigen eigen_of_lapack() except NULL:
    capsule = cython_lapack.__pyx_capi__["dsyevd"]
    return <Eigen>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))

cdef Eigen EIGEN = eigen_of_lapack()

ISAS = ("base", "avx2", "avx512")


def get_isa():
    """Return the name of the instructions in use."""
    return ISAS[LEVEL]


def set_isa(str name):
    """Use other instructions than the widest ones; raise where there are none."""
    global LEVEL
    if ISAS.index(name) > widest():
        raise ValueError(f"This machine has no {name}. Got {name!r}.")
    LEVEL = ISAS.index(name)


def solve_tasks(
    bint logistic,
    const floating[:, :, ::1] features,
    const floating[:, :, ::1] targets,
    const floating[:, :, ::1] linear,
    const floating[:, ::1] weights,
    const double[:, ::1] thresholds,
    const double[::1] lambda2,
    const int[::1] groups,
    const floating[:, :, ::1] start,
    double tol,
    int max_steps,
    floating[:, :, ::1] coef,
    floating[:, :, ::1] dual,
    double[:, ::1] gaps,
    int[:, ::1] counts,
    long long[::1] counter,
):
    """Solve the tasks that `counter` hands out, into `coef`, `dual`, `gaps`, `counts`.

    Several threads may share a counter: every task is solved by one of them. Gaps
    are absolute, relative and the size of rounding errors; counts are the outcome,
    Newton steps, gradient steps, factors and sets of columns.
    """
    cdef Data data
    cdef Forward out
    cdef ptrdiff_t task, n_tasks = features.shape[0]
    fill(&data, features, targets, thresholds, groups)
    data.logistic = logistic
    out.tol = tol
    out.max_steps = max_steps
    with nogil:
        while True:
            task = next_task(&counter[0])
            if task >= n_tasks:
                break
            data.features = &features[task, 0, 0]
            data.targets = &targets[task, 0, 0]
            data.linear = &linear[task, 0, 0]
            data.weights = &weights[task, 0]
            data.thresholds = &thresholds[task, 0]
            data.lambda2 = lambda2[task]
            out.start = NULL
            if start is not None:
                out.start = &start[task, 0, 0]
            out.coef = &coef[task, 0, 0]
            out.dual = &dual[task, 0, 0]
            counts[task, 0] = SOLVE[LEVEL](&data, &out)
            counts[task, 1] = out.n_steps
            counts[task, 2] = out.n_gradient_steps
            counts[task, 3] = out.n_factors
            counts[task, 4] = out.n_rounds
            gaps[task, 0] = out.gap
            gaps[task, 1] = out.relative_gap
            gaps[task, 2] = out.rounding


def differentiate_tasks(
    bint logistic,
    const floating[:, :, ::1] features,
    const floating[:, :, ::1] targets,
    const floating[:, :, ::1] linear,
    const floating[:, ::1] weights,
    const double[:, ::1] thresholds,
    const double[::1] lambda2,
    const int[::1] groups,
    const double[:, ::1] group_weights,
    const floating[:, :, ::1] gradient,
    const floating[:, :, ::1] dual,
    floating[:, :, ::1] d_features,
    floating[:, :, ::1] d_linear,
    floating[:, ::1] d_weights,
    double[:, ::1] d_strengths,
    int[::1] outcome,
    long long[::1] counter,
):
    """Gradients of the tasks that `counter` hands out, in all that they depend on."""
    cdef Data data
    cdef Adjoint out
    cdef ptrdiff_t task, n_tasks = features.shape[0]
    fill(&data, features, targets, thresholds, groups)
    data.logistic = logistic
    out.eigen = EIGEN
    with nogil:
        while True:
            task = next_task(&counter[0])
            if task >= n_tasks:
                break
            data.features = &features[task, 0, 0]
            data.targets = &targets[task, 0, 0]
            data.linear = &linear[task, 0, 0]
            data.weights = &weights[task, 0]
            data.thresholds = &thresholds[task, 0]
            data.lambda2 = lambda2[task]
            out.group_weights = NULL
            if group_weights is not None:
                out.group_weights = &group_weights[task, 0]
            out.gradient = &gradient[task, 0, 0]
            out.dual = &dual[task, 0, 0]
            out.d_features = &d_features[task, 0, 0]
            out.d_linear = &d_linear[task, 0, 0]
            out.d_weights = &d_weights[task, 0]
            outcome[task] = DIFFERENTIATE[LEVEL](&data, &out)
            d_strengths[task, 0] = out.d_lambda1
            d_strengths[task, 1] = out.d_lambda2


def solve_lasso_tasks(
    const floating[:, :, ::1] features,
    const floating[:, ::1] targets,
    const floating[:, ::1] weights,
    const double[::1] lambda1,
    const double[::1] lambda2,
    floating[:, ::1] coef,
    int[:, ::1] counts,
    long long[::1] counter,
):
    """Solve the regressions that `counter` hands out; counts are outcome and steps."""
    cdef LassoTask task
    cdef ptrdiff_t number, n_tasks = features.shape[0]
    task.n_rows = features.shape[1]
    task.n_features = features.shape[2]
    task.single = floating is float
    with nogil:
        while True:
            number = next_task(&counter[0])
            if number >= n_tasks:
                break
            task.features = &features[number, 0, 0]
            task.targets = &targets[number, 0]
            task.weights = &weights[number, 0]
            task.lambda1 = lambda1[number]
            task.lambda2 = lambda2[number]
            task.coef = &coef[number, 0]
            counts[number, 0] = REGRESS[LEVEL](&task)
            counts[number, 1] = task.n_steps


cdef void fill(
    Data *data,
    const floating[:, :, ::1] features,
    const floating[:, :, ::1] targets,
    const double[:, ::1] thresholds,
    const int[::1] groups,
):
    data.n_rows = features.shape[1]
    data.n_features = features.shape[2]
    data.n_classes = targets.shape[2]
    data.n_groups = thresholds.shape[1]
    data.single = floating is float
    data.groups = NULL
    if groups is not None:
        data.groups = &groups[0]
