/* The logistic loss in the place of the hinge: Newton steps on the scores.

   With u = log b, B = softmax(u), the optimum is where u = C + F W(A) up to a constant
   in every row, C the offset; `point->g` holds the right-hand side. */

#define MOST_EASED_STEPS 100
#define MOST_IDLE 20
/* Lengths of a step that are tried, and the share of its slope that D must rise by for
   the full one to be taken without trying the others. */
static const double LENGTHS[] = {1, 0.5, 0.2, 0.05, 0.01};
#define N_LENGTHS 5
#define GOOD_RISE 0.25
/* A linear step takes at most this share of a probability away. */
#define MOST_SHRINKAGE 0.99
/* Factors on the ridge after a short and after a long step. */
#define STRONGER 3.0
#define WEAKER 0.3

/* u - log sum exp(u) in place, and A = S exp(u). */
static void normalise(const Task *task, double *u, double *a)
{
    const ptrdiff_t ldn = task->ldn, size = task->n_classes * ldn;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double top = -HUGE_VAL, rest = 0;
        ptrdiff_t winner = i;
        for (ptrdiff_t k = i; k < size; k += ldn)
            if (u[k] > top) {
                top = u[k];
                winner = k;
            }
        for (ptrdiff_t k = i; k < size; k += ldn)
            rest += k == winner ? 0 : exp(u[k] - top);
        double level = log1p(rest);
        for (ptrdiff_t k = i; k < size; k += ldn) {
            u[k] = (u[k] - top) - level;
            a[k] = task->sums[i] * exp(u[k]);
        }
    }
}

/* The gap is the divergence of B from the softmax of C + F W, whose terms
   b log(b / p) + p - b are all positive. */
static void measure_logistic(const Task *task, const Part *part, const double *u,
                             Point *point, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, size = task->n_classes * ldn;
    double primal = answer(task, part, point, arena), gap = 0, rounding = 0;
    /* Columns without a threshold are on, whatever their weight. */
    point->n_on = 0;
    for (ptrdiff_t j = 0; j < part->d && !part->gram; j++) {
        ptrdiff_t g = part->groups ? part->groups[j] : j;
        if (point->norms[g] > part->thresholds[g] || part->thresholds[g] == 0)
            point->on[point->n_on++] = (int)j;
    }
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double top = -HUGE_VAL, rest = 0, largest = 0, lack = 0;
        ptrdiff_t winner = i;
        for (ptrdiff_t k = i; k < size; k += ldn) {
            point->g[k] = task->linear[k] + point->z[k];
            largest = fmax(largest, fabs(point->g[k]));
            if (point->g[k] > top) {
                top = point->g[k];
                winner = k;
            }
        }
        for (ptrdiff_t k = i; k < size; k += ldn)
            rest += k == winner ? 0 : exp(point->g[k] - top);
        double level = log1p(rest);
        for (ptrdiff_t k = i; k < size; k += ldn) {
            double loss = level + (top - point->g[k]), share = exp(-loss);
            double own = point->a[k] / task->sums[i], apart = u[k] + loss;
            if (fabs(apart) < 0.02)
                lack += own * apart * apart *
                        (1.0 / 2 - apart * (1.0 / 6 - apart * (1.0 / 24 - apart / 120)));
            else
                lack += (own > 0 ? own * apart : 0) + share - own;
            primal += task->fixed[k] * loss;
        }
        gap += task->sums[i] * lack;
        rounding += task->sums[i] * (1 + largest);
    }
    point->gap = gap > 0 ? gap : 0;
    point->primal = primal;
    point->relative_gap = gap == gap ? point->gap / fmax(fabs(primal), 2.3e-308)
                                     : HUGE_VAL;
    point->rounding = 2 * 2.220446049250313e-16 * rounding;
}

/* log B, of rows that sum to 1, from A = S B. */
static void take_logs(const Task *task, const double *a, double *u)
{
    for (ptrdiff_t i = 0; i < task->n; i++)
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn; k += task->ldn) {
            double share = a[k] / task->sums[i];
            u[k] = log(share > 1e-300 ? share : 1e-300);
        }
}

/* All that V tells of a point, for the loss of the task. */
static void certify(const Task *task, const Part *part, Point *point, Arena *arena)
{
    Mark mark = arena_mark(arena);
    double *u = NULL;
    if (task->logistic) {
        u = arena_zeros(arena, task->n_classes * task->ldn * sizeof(double));
        if (arena->failed)
            return;
        take_logs(task, point->a, u);
        measure_logistic(task, part, u, point, arena);
    } else {
        measure(task, part, point, arena);
    }
    arena_release(arena, mark);
}

/* What the search for a step needs; matrices of entries and of columns. */
typedef struct {
    double *u, *r, *y, *move; /* (classes, ldn): scores, residual, solution, direction */
    double *tried, *kept, *a, *residual; /* (classes, ldn) */
    double *v, *norms;                   /* (classes, ldd), (n_groups,) */
    double easing;
} Search;

static int new_search(const Task *task, const Part *part, Search *search, Arena *arena)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    double *numbers = arena_zeros(arena, 8 * size * sizeof(double));
    search->v = arena_zeros(arena, task->n_classes * part->ldd * sizeof(double));
    search->norms = arena_zeros(arena, part->n_groups * sizeof(double));
    if (arena->failed)
        return 0;
    search->u = numbers;
    search->r = numbers + size;
    search->y = numbers + 2 * size;
    search->move = numbers + 3 * size;
    search->tried = numbers + 4 * size;
    search->kept = numbers + 5 * size;
    search->a = numbers + 6 * size;
    search->residual = numbers + 7 * size;
    search->easing = 1;
    return 1;
}

/* D of the eased problem at the scores in `tried`, which are normalised. */
static double dual_value(const Task *task, const Part *part, Search *search)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    double value = 0, conjugate = 0;
    normalise(task, search->tried, search->a);
    for (ptrdiff_t k = 0; k < size; k++) {
        search->residual[k] = task->fixed[k] - search->a[k];
        value -= search->residual[k] * task->linear[k];
        value -= search->a[k] > 0 ? search->a[k] * search->tried[k] : 0;
    }
    thin_f64(search->residual, task->ldn, task->n_classes, part->rows, part->ldd, NULL,
             task->n, part->ldd, search->v, part->ldd);
    if (part->gram) {
        conjugate = dot_f64(search->residual, search->v, size);
    } else {
        group_norms_f64(search->v, part->ldd, task->n_classes, part->d, part->groups,
                        part->n_groups, search->norms);
        for (ptrdiff_t g = 0; g < part->n_groups; g++) {
            double excess = search->norms[g] - part->thresholds[g];
            conjugate += excess > 0 ? excess * excess : 0;
        }
    }
    value -= conjugate / (2 * task->lambda2 * search->easing);
    return value > -HUGE_VAL && value < HUGE_VAL ? value : -HUGE_VAL;
}

/* D a step along the direction: straight in B, or in the scores. */
static double try_length(const Task *task, const Part *part, double t, int in_scores,
                         Search *search)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    for (ptrdiff_t k = 0; k < size; k++) {
        double step = t * search->move[k];
        if (!in_scores)
            step = log1p(fmax(step, -MOST_SHRINKAGE));
        search->tried[k] = search->u[k] + step;
    }
    return dual_value(task, part, search);
}

/* The best point by D on both curves takes the place of u; the length to it. */
static double search_curves(const Task *task, const Part *part, double slope,
                            Search *search)
{
    const size_t bytes = task->n_classes * task->ldn * sizeof(double);
    double value, best, length = 0, slack;
    memcpy(search->tried, search->u, bytes);
    double base = best = dual_value(task, part, search);
    memcpy(search->kept, search->tried, bytes);
    /* Differences at the level of rounding must not stop the last full steps. */
    slack = 4 * 2.220446049250313e-16 * fabs(base);
    best -= slack;
    for (int q = 0; q < N_LENGTHS; q++) {
        for (int in_scores = 0; in_scores < 2; in_scores++) {
            value = try_length(task, part, LENGTHS[q], in_scores, search);
            if (value > best + (length > 0 ? slack : 0)) {
                best = value;
                length = LENGTHS[q];
                memcpy(search->kept, search->tried, bytes);
            }
        }
        if (best - base >= GOOD_RISE * LENGTHS[q] * slope)
            break;
    }
    memcpy(search->u, search->kept, bytes);
    return length;
}

/* One step for the eased ridge; its length, -1 where the system is not solved. */
static double logistic_step(const Task *task, const Part *part, Point *point,
                            Face *face, ptrdiff_t *order, int coarse, Search *search,
                            Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, n_classes = task->n_classes;
    const ptrdiff_t size = n_classes * ldn;
    Mark mark = arena_mark(arena);
    Task eased = *task;
    double *dv = arena_take(arena, 2 * n_classes * part->ldd * sizeof(double));
    double *inner = arena_take(arena, part->n_groups * sizeof(double));
    double *move = search->move, slope = 0;
    if (arena->failed)
        return -1;
    double *through = dv + n_classes * part->ldd;
    eased.lambda2 *= search->easing;
    for (ptrdiff_t k = 0; k < size; k++)
        search->r[k] = task->linear[k] + point->z[k] / search->easing - search->u[k];
    if (solve_softmax(&eased, part, point, face, order, search->r, coarse, search->y,
                      arena) != 1) {
        arena_release(arena, mark);
        return -1;
    }
    /* dZ = r - A y */
    thin_f64(search->y, ldn, n_classes, part->rows, part->ldd, NULL, task->n, part->ldd,
             dv, part->ldd);
    if (part->gram) {
        for (ptrdiff_t k = 0; k < size; k++)
            move[k] = search->r[k] - dv[k] / eased.lambda2;
    } else {
        apply_jacobian(&eased, part, point, dv, inner, through);
        thin_f64(through, part->ldd, n_classes, part->cols, ldn, point->on, point->n_on,
                 ldn, move, ldn);
        for (ptrdiff_t k = 0; k < size; k++)
            move[k] = search->r[k] - move[k];
    }
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double mean = 0;
        for (ptrdiff_t k = i; k < size; k += ldn)
            mean += point->a[k] * move[k] / task->sums[i];
        for (ptrdiff_t k = i; k < size; k += ldn) {
            move[k] -= mean;
            slope += search->r[k] * search->y[k];
        }
    }
    arena_release(arena, mark);
    if (!(slope >= 0) || !(slope < 1e200))
        return -1;
    double t = search_curves(task, part, slope, search);
    search->easing *= t >= 0.5 ? WEAKER : t <= 0.05 ? STRONGER : 1;
    search->easing = search->easing > 1 ? search->easing : 1;
    return t;
}

/* Newton steps on a part until its gap is at most `tol`; A in place. */
static void solve_logistic_part(const Task *task, const Part *part, double *a, double tol,
                                Forward *out, Arena *arena)
{
    const size_t bytes = task->n_classes * task->ldn * sizeof(double);
    Mark mark = arena_mark(arena);
    Point point;
    Face face;
    Search search;
    double best = HUGE_VAL;
    ptrdiff_t *order = arena_take(arena, 2 * (task->n + 1) * sizeof(ptrdiff_t));
    int coarse = tol >= COARSE_TOL && task->lambda2 > LEAST_SCALE &&
                 task->lambda2 < MOST_SCALE;
    int idle = 0, first = out->n_steps;
    if (!new_point(&point, task, part->ldd, part->n_groups, arena) ||
        !new_face(&face, task, arena) || !new_search(task, part, &search, arena))
        return;
    take_logs(task, a, search.u);
    while (1) {
        normalise(task, search.u, point.a);
        correlate(task, part, &point);
        measure_logistic(task, part, search.u, &point, arena);
        idle = point.relative_gap < 0.9 * best ? 0 : idle + 1;
        coarse = coarse && idle <= COARSE_STEPS;
        if (point.relative_gap < best) {
            best = point.relative_gap;
            memcpy(a, point.a, bytes);
        }
        if (best <= tol || idle > MOST_IDLE || out->n_steps >= out->max_steps ||
            out->n_steps - first >= MOST_EASED_STEPS || arena->failed)
            break;
        out->n_steps++;
        out->n_factors++;
        double t = logistic_step(task, part, &point, &face, order, coarse, &search, arena);
        if (t < 0 && !coarse)
            break;
        coarse = coarse && t >= 0;
    }
    arena_release(arena, mark);
}
