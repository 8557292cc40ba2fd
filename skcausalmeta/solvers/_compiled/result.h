/* The first point, and the last one as the caller gets it. */

/* The first B, (n_rows, n_classes): the given one, or what is optimal if every feature
   is off: uniform over the classes of the largest linear term, or its softmax. */
static void first_dual(const Data *data, const Forward *out)
{
    const ptrdiff_t n_classes = data->n_classes;
    for (ptrdiff_t from = 0; from < data->n_rows * n_classes; from += n_classes) {
        double top = -HUGE_VAL, total = 0;
        int n_best = 0;
        for (ptrdiff_t k = from; k < from + n_classes; k++) {
            double value = number(data->linear, data->single, k);
            n_best = value > top ? 1 : n_best + (value == top);
            top = value > top ? value : top;
        }
        for (ptrdiff_t k = from; k < from + n_classes && data->logistic; k++)
            total += exp(number(data->linear, data->single, k) - top);
        for (ptrdiff_t k = from; k < from + n_classes; k++) {
            double value = number(data->linear, data->single, k);
            double share = value == top ? 1.0 / n_best : 0;
            if (data->logistic)
                share = exp(value - top) / total;
            put(out->dual, data->single, k,
                out->start ? number(out->start, data->single, k) : share);
        }
    }
}

/* Entries that a gradient step would take to 0, taken there: the face of the
   solution is where entries are positive. 0 if there are none. */
static int tidy(const Task *task, const Point *point, double step, double *a)
{
    int moved = 0;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double top = -HUGE_VAL, freed = 0;
        ptrdiff_t largest = i;
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn; k += task->ldn) {
            top = point->g[k] > top ? point->g[k] : top;
            largest = point->a[k] > point->a[largest] ? k : largest;
        }
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn; k += task->ldn) {
            a[k] = point->a[k];
            if (k != largest && a[k] > 0 && a[k] < step * (top - point->g[k])) {
                freed += a[k];
                a[k] = 0;
                moved = 1;
            }
        }
        a[largest] += freed;
    }
    return moved;
}

/* Rows of weight 0 answer as they would at the least weight: by the classes of the
   largest slope, or by the softmax. The derivative in their weight needs it. */
static void answer_absent(const Data *data, const Task *task, const Part *all,
                          const Point *point, double *slopes, const Forward *out)
{
    const ptrdiff_t n_classes = data->n_classes, d = data->n_features;
    for (ptrdiff_t i = 0; i < data->n_rows; i++) {
        double top = -HUGE_VAL, total = 0;
        ptrdiff_t best = 0;
        if (number(data->weights, data->single, i) > 0)
            continue;
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            double slope = number(data->linear, data->single, i * n_classes + l);
            for (ptrdiff_t q = 0; q < point->n_on; q++)
                slope += number(data->features, data->single, i * d + point->on[q]) /
                         task->unit * point->w[l * all->ldd + point->on[q]];
            best = slope > top ? l : best;
            top = slope > top ? slope : top;
            slopes[l] = slope;
        }
        for (ptrdiff_t l = 0; l < n_classes && task->logistic; l++)
            total += exp(slopes[l] - top);
        for (ptrdiff_t l = 0; l < n_classes; l++)
            put(out->dual, data->single, i * n_classes + l,
                task->logistic ? exp(slopes[l] - top) / total : l == best);
    }
}

/* A as the caller gets it, in the precision of B. */
static void round_dual(const Data *data, const Task *task, Forward *out, double *a)
{
    for (ptrdiff_t i = 0; i < task->n; i++)
        for (ptrdiff_t l = 0; l < task->n_classes; l++) {
            ptrdiff_t k = task->row[i] * task->n_classes + l, q = l * task->ldn + i;
            put(out->dual, data->single, k, a[q] / task->sums[i]);
            a[q] = task->sums[i] * number(out->dual, data->single, k);
        }
}

static void finish(const Data *data, const Task *task, const Part *all, Point *point,
                   Forward *out, Arena *arena)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    double *a = arena_zeros(arena, size * sizeof(double));
    double *before = arena_take(arena, size * sizeof(double));
    double *slopes = arena_take(arena, task->n_classes * sizeof(double));
    if (arena->failed)
        return;
    round_dual(data, task, out, point->a);
    /* The last round has measured A; in double precision it is rounded no further. */
    if (!point->fresh || data->single) {
        correlate(task, all, point);
        certify(task, all, point, arena);
    }
    double gap = point->relative_gap;
    /* ||F||^2 is at most the sum of the squared row norms, which are near 1. */
    if (!task->logistic &&
        tidy(task, point, task->lambda2 / (double)(task->n > 0 ? task->n : 1), a)) {
        memcpy(before, point->a, size * sizeof(double));
        memcpy(point->a, a, size * sizeof(double));
        round_dual(data, task, out, point->a);
        correlate(task, all, point);
        measure(task, all, point, arena);
        if (!(point->relative_gap <= gap || point->relative_gap <= out->tol)) {
            memcpy(point->a, before, size * sizeof(double));
            round_dual(data, task, out, point->a);
            correlate(task, all, point);
            measure(task, all, point, arena);
        }
    }
    for (ptrdiff_t l = 0; l < task->n_classes; l++)
        for (ptrdiff_t q = 0; q < point->n_on; q++) {
            ptrdiff_t j = point->on[q];
            put(out->coef, data->single, j * task->n_classes + l,
                point->w[l * all->ldd + j] / task->unit);
        }
    answer_absent(data, task, all, point, slopes, out);
    out->gap = point->gap;
    out->relative_gap = point->relative_gap;
    out->rounding = point->rounding;
}
