/* Tasks of many rows and few columns: the hinge as the limit of logistic losses.

   With mu times the entropy of B in addition, D has a maximum for every mu > 0 that a
   few Newton steps in the coefficients find; mu is lowered until the face is plain. */

/* The first mu, in units of the margin, and what it is lowered by. */
#define FIRST_MU 0.3
#define LOWER 0.2
/* Accuracy in every mu: a share of mu times the sum of the weights. */
#define NEAR_PATH 0.1
/* Relative gap at which exact steps on the face take over, and the share of a row below
   which entries are left out of it. */
#define NEAR_END 1e-2
#define LEAST_SHARE 0.01
#define MOST_LEVELS 8

/* Whether the rows are so many that a face may not fit, and the columns are few. */
static int is_tall(const Task *task, const Part *part)
{
    ptrdiff_t rows = task->n * (task->n_classes - 1);
    ptrdiff_t coefs = part->d * task->n_classes;
    return !part->gram && rows > LARGEST_FACE && coefs < rows &&
           coefs <= LARGEST_SYSTEM;
}

/* Rows without their small entries. */
static void clear_small(const Task *task, double *a)
{
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double kept = 0;
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn; k += task->ldn) {
            a[k] = a[k] < LEAST_SHARE * task->sums[i] ? 0 : a[k];
            kept += a[k];
        }
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn && kept > 0; k += task->ldn)
            a[k] *= task->sums[i] / kept;
    }
}

/* The best A by the gap of the hinge on the path of mu, in place, without its small
   entries; A itself where it is as good. */
static void follow_path(const Task *task, const Part *part, double *a, double tol,
                        Forward *out, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, size = task->n_classes * ldn;
    Mark mark = arena_mark(arena);
    Task smooth = *task;
    Point point;
    double *linear = arena_zeros(arena, 2 * size * sizeof(double));
    double *path = linear + size, total = 0, best, mu = FIRST_MU;
    int found = 0;
    if (!new_point(&point, task, part->ldd, part->n_groups, arena))
        return;
    smooth.logistic = 1;
    smooth.linear = linear;
    memcpy(point.a, a, size * sizeof(double));
    correlate(task, part, &point);
    measure(task, part, &point, arena);
    best = point.relative_gap;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        total += task->sums[i];
        for (ptrdiff_t k = i; k < size; k += ldn)
            path[k] = task->sums[i] / (double)task->n_classes;
    }
    for (int level = 0; level < MOST_LEVELS && best > fmax(tol, NEAR_END); level++) {
        if (out->n_steps >= out->max_steps || arena->failed)
            break;
        for (ptrdiff_t k = 0; k < size; k++)
            linear[k] = task->linear[k] / mu;
        smooth.lambda2 = task->lambda2 * mu;
        /* P of the smooth problem is that of the hinge, over mu. */
        double near = NEAR_PATH * total * mu / fmax(point.primal, total * mu);
        solve_logistic_part(&smooth, part, path, near, out, arena);
        memcpy(point.a, path, size * sizeof(double));
        correlate(task, part, &point);
        measure(task, part, &point, arena);
        if (point.relative_gap < best) {
            best = point.relative_gap;
            found = 1;
            memcpy(a, path, size * sizeof(double));
        }
        mu *= LOWER;
    }
    if (found)
        clear_small(task, a);
    arena_release(arena, mark);
}
