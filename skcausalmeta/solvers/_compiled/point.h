/* A task as it is read, its columns, and what one pass over them tells of a point. */

/* A point and all that one pass over the columns tells of it. */
typedef struct {
    double *a;           /* (classes, ldn) */
    double *v, *w;       /* V and W(V), (classes, ldd) */
    double *norms, *factors; /* (n_groups,) */
    double *z, *g;       /* F W and C + F W, (classes, ldn) */
    double *lack;        /* (ldn,): share of every row in the gap */
    double *residual;    /* SY - A */
    int *on;
    ptrdiff_t n_on;
    int fresh; /* all of this belongs to A */
    double gap, primal, relative_gap, rounding;
} Point;

/* A relative difference that the order of a sum makes. */
#define ROUNDED 4e-15

static double number(const void *array, int single, ptrdiff_t k)
{
    return single ? (double)((const float *)array)[k] : ((const double *)array)[k];
}

static void put(void *array, int single, ptrdiff_t k, double value)
{
    if (single)
        ((float *)array)[k] = (float)value;
    else
        ((double *)array)[k] = value;
}

static int new_point(Point *point, const Task *task, ptrdiff_t ldd, ptrdiff_t n_groups,
                     Arena *arena)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    double *numbers = arena_zeros(arena, (4 * size + task->ldn) * sizeof(double));
    point->v = arena_zeros(arena, 2 * task->n_classes * ldd * sizeof(double));
    point->norms = arena_zeros(arena, 2 * n_groups * sizeof(double));
    point->on = arena_take(arena, ldd * sizeof(int));
    if (arena->failed)
        return 0;
    point->fresh = 0;
    point->a = numbers;
    point->z = numbers + size;
    point->g = numbers + 2 * size;
    point->residual = numbers + 3 * size;
    point->lack = numbers + 4 * size;
    point->w = point->v + task->n_classes * ldd;
    point->factors = point->norms + n_groups;
    return 1;
}

/* V = F'(SY - A); Z = K (SY - A) / lambda2 in the Gram space. */
static void correlate(const Task *task, const Part *part, Point *point)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    for (ptrdiff_t k = 0; k < size; k++)
        point->residual[k] = task->fixed[k] - point->a[k];
    thin_f64(point->residual, task->ldn, task->n_classes, part->rows, part->ldd, NULL,
             task->n, part->ldd, point->v, part->ldd);
}

/* W(V) and Z = F W, and the penalty of W; columns are taken from `rows` where there are
   no `cols`. */
static double answer(const Task *task, const Part *part, Point *point, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, n_classes = task->n_classes;
    double penalty = 0;
    if (part->gram) {
        for (ptrdiff_t k = 0; k < n_classes * ldn; k++) {
            point->z[k] = point->v[k] / task->lambda2;
            penalty += point->z[k] * (task->fixed[k] - point->a[k]) / 2;
        }
    } else {
        memcpy(point->w, point->v, n_classes * part->ldd * sizeof(double));
        point->n_on = shrink_f64(task, part, point->w, point->norms, point->factors,
                                 part->thresholds, point->on);
        for (ptrdiff_t g = 0; g < part->n_groups; g++) {
            double excess = point->norms[g] - part->thresholds[g];
            excess = excess > 0 ? excess : 0;
            penalty += excess * (excess / 2 + part->thresholds[g]);
        }
        penalty /= task->lambda2;
        if (part->cols) {
            thin_f64(point->w, part->ldd, n_classes, part->cols, ldn, point->on,
                     point->n_on, ldn, point->z, ldn);
        } else {
            Mark mark = arena_mark(arena);
            ptrdiff_t n_on = point->n_on, ldo = PADDED(n_on > 0 ? n_on : 1);
            double *cols = arena_take(arena, (n_on + 1) * ldn * sizeof(double));
            double *w = arena_take(arena, n_classes * ldo * sizeof(double));
            if (arena->failed)
                return 0;
            transpose_f64(part->rows, part->ldd, task->n, point->on, n_on, cols, ldn);
            for (ptrdiff_t l = 0; l < n_classes; l++)
                for (ptrdiff_t q = 0; q < n_on; q++)
                    w[l * ldo + q] = point->w[l * part->ldd + point->on[q]];
            thin_f64(w, ldo, n_classes, cols, ldn, NULL, n_on, ldn, point->z, ldn);
            arena_release(arena, mark);
        }
    }
    return penalty;
}

/* All that V tells of a point of the hinge. */
static void measure(const Task *task, const Part *part, Point *point, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, n_classes = task->n_classes;
    double penalty = answer(task, part, point, arena);
    double gap = 0, primal = 0, rounding = 0;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double top = -HUGE_VAL, size = 0, lack = 0, own = 0;
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            double z = point->z[l * ldn + i], g = task->linear[l * ldn + i] + z;
            point->g[l * ldn + i] = g;
            top = g > top ? g : top;
            size = fabs(z) > size ? fabs(z) : size;
        }
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            double g = point->g[l * ldn + i];
            lack += point->a[l * ldn + i] * (top - g);
            own += task->fixed[l * ldn + i] * (top - g);
        }
        point->lack[i] = lack;
        gap += lack;
        primal += own;
        rounding += task->sums[i] * (1 + size);
    }
    primal += penalty;
    point->gap = gap > 0 ? gap : 0;
    point->primal = primal;
    point->relative_gap = point->gap / fmax(fabs(primal), 2.3e-308);
    if (!(gap == gap))
        point->relative_gap = HUGE_VAL;
    point->rounding = 2 * 2.220446049250313e-16 * rounding;
}

/* M X for X (classes, ldd), M the Jacobian of V -> W(V), and <V_g, X_g> of every
   group. */
static void apply_jacobian(const Task *task, const Part *part, const Point *point,
                           const double *x, double *inner, double *out)
{
    memset(inner, 0, part->n_groups * sizeof(double));
    for (ptrdiff_t l = 0; l < task->n_classes; l++)
        for (ptrdiff_t j = 0; j < part->d; j++)
            inner[part->groups ? part->groups[j] : j] +=
                point->v[l * part->ldd + j] * x[l * part->ldd + j];
    for (ptrdiff_t j = 0; j < part->d; j++) {
        ptrdiff_t g = part->groups ? part->groups[j] : j;
        double t = part->thresholds[g], norm = point->norms[g];
        double ratio = t > 0 ? (norm > t ? t / norm : 1) : 0;
        double bend = t > 0 && norm > t ? ratio / norm * (inner[g] / norm) : 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++) {
            ptrdiff_t k = l * part->ldd + j;
            out[k] = ((1 - ratio) * x[k] + bend * point->v[k]) / task->lambda2;
        }
    }
}

/* The power of 2 next to the root mean square of row norms, whose squares sum to
   `squares` where that can be represented. 0: a number is not finite. */
static int find_exponent(const double *rows, ptrdiff_t size, double squares, ptrdiff_t n,
                         int *exponent)
{
    double largest = 0;
    int shift = 0;
    if (!(squares > 1e-250 && squares < 1e250)) {
        for (ptrdiff_t k = 0; k < size; k++) {
            if (!(fabs(rows[k]) < 1e300))
                return 0;
            largest = fmax(largest, fabs(rows[k]));
        }
        *exponent = 0;
        if (largest == 0)
            return 1;
        frexp(largest, &shift);
        squares = 0;
        for (ptrdiff_t k = 0; k < size; k++)
            squares += ldexp(rows[k], -shift) * ldexp(rows[k], -shift);
    }
    *exponent = shift + (int)floor(0.5 + 0.5 * log2(squares / (double)n));
    return 1;
}

/* Rows of positive weight, in units in which they have norms near 1. 0: refused. */
static int read_task(const Data *data, Task *task, Part *all, Arena *arena)
{
    const ptrdiff_t d = data->n_features, n_classes = data->n_classes;
    double squares = 0, usual = 0;
    ptrdiff_t n = 0;
    task->row = arena_take(arena, (data->n_rows + 1) * sizeof(int));
    if (arena->failed)
        return 0;
    for (ptrdiff_t i = 0; i < data->n_rows; i++) {
        double weight = number(data->weights, data->single, i);
        if (weight > 0 && weight < 1e150)
            task->row[n++] = (int)i;
        else if (!(weight == 0))
            return 0;
    }
    const ptrdiff_t ldn = PADDED(n > 0 ? n : 1), ldd = PADDED(d);
    task->n = n;
    task->ldn = ldn;
    task->n_classes = n_classes;
    task->logistic = data->logistic;
    task->sums = arena_zeros(arena, ldn * sizeof(double));
    task->linear = arena_zeros(arena, 2 * n_classes * ldn * sizeof(double));
    all->rows = arena_take(arena, (n > 0 ? n : 1) * ldd * sizeof(double));
    double *thresholds = arena_take(arena, data->n_groups * sizeof(double));
    if (arena->failed)
        return 0;
    task->fixed = task->linear + n_classes * ldn;
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t from = (ptrdiff_t)task->row[i];
        double *row = all->rows + i * ldd;
        double weight = number(data->weights, data->single, from);
        if (data->single)
            for (ptrdiff_t j = 0; j < d; j++)
                row[j] = ((const float *)data->features)[from * d + j];
        else
            memcpy(row, (const double *)data->features + from * d, d * sizeof(double));
        memset(row + d, 0, (ldd - d) * sizeof(double));
        squares += dot_f64(row, row, d);
        task->sums[i] = weight;
        usual += log(weight);
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            ptrdiff_t k = from * n_classes + l;
            task->linear[l * ldn + i] = number(data->linear, data->single, k);
            task->fixed[l * ldn + i] = weight * number(data->targets, data->single, k);
        }
    }
    task->usual = n > 0 ? exp(usual / (double)n) : 1;
    int exponent = 0;
    if (n > 0 && !find_exponent(all->rows, n * ldd, squares, n, &exponent))
        return 0;
    task->unit = ldexp(1, exponent);
    double shrunk = ldexp(1, -exponent);
    for (ptrdiff_t k = 0; k < n * ldd && exponent != 0; k++)
        all->rows[k] *= shrunk;
    task->lambda2 = data->lambda2 / task->unit / task->unit;
    if (!(task->lambda2 > 1e-30) || !(task->lambda2 < 1e30))
        return 0;
    for (ptrdiff_t g = 0; g < data->n_groups; g++) {
        /* What rounding alone puts above its threshold is off. */
        thresholds[g] = (1 + ROUNDED) * data->thresholds[g] / task->unit;
        if (!(thresholds[g] >= 0) || !(thresholds[g] < 1e150))
            return 0;
    }
    all->d = d;
    all->ldd = ldd;
    all->n_groups = data->n_groups;
    all->gram = 0;
    all->groups = data->groups;
    all->thresholds = thresholds;
    all->cols = NULL;
    return 1;
}

/* The columns j with mask[j], and their groups renumbered. */
static int gather(const Task *task, const Part *all, const char *mask, Part *part,
                  Arena *arena)
{
    ptrdiff_t d = 0, n_groups = 0;
    for (ptrdiff_t j = 0; j < all->d; j++)
        d += mask[j] != 0;
    const ptrdiff_t ldd = PADDED(d > 0 ? d : 1), ldn = task->ldn;
    int *index = arena_take(arena, (d + 1) * sizeof(int));
    double *thresholds = arena_take(arena, (d + 1) * sizeof(double));
    part->rows = arena_take(arena, task->n * ldd * sizeof(double));
    part->cols = arena_take(arena, (d > 0 ? d : 1) * ldn * sizeof(double));
    int *groups = NULL, *renumbered = NULL;
    if (all->groups) {
        groups = arena_take(arena, (d + 1) * sizeof(int));
        renumbered = arena_take(arena, all->n_groups * sizeof(int));
    }
    if (arena->failed)
        return 0;
    d = 0;
    for (ptrdiff_t j = 0; j < all->d; j++) {
        index[d] = (int)j;
        d += mask[j] != 0;
    }
    for (ptrdiff_t g = 0; renumbered && g < all->n_groups; g++)
        renumbered[g] = -1;
    for (ptrdiff_t q = 0; q < d; q++) {
        int g = all->groups ? all->groups[index[q]] : index[q];
        if (!renumbered || renumbered[g] < 0) {
            thresholds[n_groups] = all->thresholds[g];
            if (renumbered)
                renumbered[g] = (int)n_groups;
            n_groups++;
        }
        if (groups)
            groups[q] = renumbered[g];
    }
    for (ptrdiff_t i = 0; i < task->n; i++) {
        const double *from = all->rows + i * all->ldd;
        double *to = part->rows + i * ldd;
        for (ptrdiff_t q = 0; q < d; q++)
            to[q] = from[index[q]];
        memset(to + d, 0, (ldd - d) * sizeof(double));
    }
    transpose_f64(part->rows, ldd, task->n, NULL, d, part->cols, ldn);
    if (d == 0)
        memset(part->cols, 0, ldn * sizeof(double));
    part->d = d;
    part->ldd = ldd;
    part->n_groups = n_groups;
    part->gram = 0;
    part->groups = groups;
    part->thresholds = thresholds;
    return 1;
}

/* The Gram matrix in the place of the columns: a pure ridge needs no more. */
static int gram(const Task *task, const Part *all, Part *part, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn;
    double *pack = arena_take(arena, DEPTH * PAD * sizeof(double));
    part->rows = arena_zeros(arena, (task->n * ldn + PAD) * sizeof(double));
    double *threshold = arena_zeros(arena, sizeof(double));
    if (arena->failed)
        return 0;
    add_square_f64(part->rows, ldn, all->rows, all->ldd, task->n, all->d, 1, pack);
    for (ptrdiff_t i = 0; i < task->n; i++) {
        for (ptrdiff_t k = 0; k < i; k++)
            part->rows[k * ldn + i] = part->rows[i * ldn + k];
        /* Blocks reach beyond the diagonal, and beyond the last row. */
        for (ptrdiff_t k = task->n; k < ldn; k++)
            part->rows[i * ldn + k] = 0;
    }
    part->d = task->n;
    part->ldd = ldn;
    part->n_groups = 1;
    part->gram = 1;
    part->groups = NULL;
    part->thresholds = threshold;
    part->cols = NULL;
    return 1;
}
