/* The solution of one task: features near their thresholds are gathered, a few
   gradient steps find the face, Newton steps on it solve the problem. */

/* Features from this number on are narrowed to those at these shares of their
   threshold: before and after the first gradient steps. */
#define NARROW_FROM 128
#define FIRST_MARGIN 0.7
#define MARGIN 0.8
#define MOST_ROUNDS 20
/* Gradient steps before the first Newton step, by the entries of A. */
#define FEW_STEPS 12
/* Newton steps without progress before a task counts as stuck, and before systems are
   formed in double precision; progress is a share of what D has left to rise. */
#define IDLE_STEPS 8
#define COARSE_STEPS 2
#define PROGRESS 0.02
/* Largest system at first and at last; beyond it, the rows that lack most go first,
   and gradient steps for all rows follow. */
#define LARGEST_FACE 700
#define LARGEST_OF_ALL 1400
#define STEPS_BETWEEN 20
/* The damping of a Newton step, relative to the largest curvature. */
#define FIRST_DAMPING 1e-2
#define SMALL_DAMPING 1e-8
#define LEAST_DAMPING 1e-13
#define LEAST_COARSE 1e-7
#define COARSE_DAMPING 1e-6 /* of many entries */
/* Systems are formed in single precision, unless the tolerance is below the first
   value or lambda2 outside of the others. */
#define COARSE_TOL 1e-8
#define LEAST_SCALE 1e-8
#define MOST_SCALE 1e8

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
    double gap, primal, relative_gap, rounding;
} Point;

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

/* All that V tells of a point; columns are taken from `rows` where there are no
   `cols`. */
static void measure(const Task *task, const Part *part, Point *point, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, n_classes = task->n_classes;
    double penalty = 0, gap = 0, primal = 0, rounding = 0;
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
            if (excess > 0)
                penalty += excess * (excess / 2 + part->thresholds[g]) / task->lambda2;
        }
        if (part->cols) {
            thin_f64(point->w, part->ldd, n_classes, part->cols, ldn, point->on,
                     point->n_on, ldn, point->z, ldn);
        } else {
            Mark mark = arena_mark(arena);
            ptrdiff_t n_on = point->n_on, ldo = PADDED(n_on > 0 ? n_on : 1);
            double *cols = arena_zeros(arena, (n_on + 1) * ldn * sizeof(double));
            double *w = arena_take(arena, n_classes * ldo * sizeof(double));
            if (arena->failed)
                return;
            for (ptrdiff_t i = 0; i < task->n; i++)
                for (ptrdiff_t q = 0; q < n_on; q++)
                    cols[q * ldn + i] = part->rows[i * part->ldd + point->on[q]];
            for (ptrdiff_t l = 0; l < n_classes; l++)
                for (ptrdiff_t q = 0; q < n_on; q++)
                    w[l * ldo + q] = point->w[l * part->ldd + point->on[q]];
            thin_f64(w, ldo, n_classes, cols, ldn, NULL, n_on, ldn, point->z, ldn);
            arena_release(arena, mark);
        }
    }
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

/* Rows of positive weight, in units in which they have norms near 1. 0: refused. */
static int read_task(const Data *data, Task *task, Part *all, Arena *arena)
{
    const ptrdiff_t d = data->n_features, n_classes = data->n_classes;
    double largest = 0, squares = 0, usual = 0;
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
    task->sums = arena_zeros(arena, ldn * sizeof(double));
    task->linear = arena_zeros(arena, 2 * n_classes * ldn * sizeof(double));
    all->rows = arena_zeros(arena, (n > 0 ? n : 1) * ldd * sizeof(double));
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
        for (ptrdiff_t j = 0; j < d; j++)
            largest = fabs(row[j]) > largest ? fabs(row[j]) : largest;
        task->sums[i] = weight;
        usual += log(weight);
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            ptrdiff_t k = from * n_classes + l;
            task->linear[l * ldn + i] = number(data->linear, data->single, k);
            task->fixed[l * ldn + i] = weight * number(data->targets, data->single, k);
        }
    }
    if (!(largest < 1e300))
        return 0;
    task->usual = n > 0 ? exp(usual / (double)n) : 1;
    int exponent = 0;
    if (largest > 0) {
        frexp(largest, &exponent);
        double scale = ldexp(1, -exponent);
        for (ptrdiff_t k = 0; k < n * ldd; k++)
            squares += (scale * all->rows[k]) * (scale * all->rows[k]);
        exponent += (int)floor(0.5 + 0.5 * log2(squares / (double)n));
    }
    task->unit = ldexp(1, exponent);
    for (ptrdiff_t k = 0; k < n * ldd && exponent != 0; k++)
        all->rows[k] /= task->unit;
    task->lambda2 = data->lambda2 / task->unit / task->unit;
    if (!(task->lambda2 > 1e-30) || !(task->lambda2 < 1e30))
        return 0;
    for (ptrdiff_t g = 0; g < data->n_groups; g++) {
        thresholds[g] = data->thresholds[g] / task->unit;
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

/* Entries of rows that can gain: those that are positive or whose slope is above
   the mean of their row. Rows that lack most go first where not all find place: 0. */
static int find_face(const Task *task, const Point *point, ptrdiff_t largest,
                     Face *face, ptrdiff_t *order)
{
    const ptrdiff_t ldn = task->ldn;
    ptrdiff_t n_entries = 0, n_rows = 0, n_kept = task->n;
    ptrdiff_t *count = order + task->n;
    ptrdiff_t total = 0;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double level = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            level += point->a[l * ldn + i] * point->g[l * ldn + i];
        level /= task->sums[i];
        ptrdiff_t found = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            found += point->a[l * ldn + i] > 0 || point->g[l * ldn + i] > level;
        count[i] = found;
        total += found > 1 ? found - 1 : 0;
        order[i] = i;
    }
    if (total > largest) {
        /* Shell sort by what the rows lack, largest first. */
        for (ptrdiff_t gap = task->n / 2; gap > 0; gap /= 2)
            for (ptrdiff_t k = gap; k < task->n; k++) {
                ptrdiff_t row = order[k], q = k;
                for (; q >= gap && point->lack[order[q - gap]] < point->lack[row];
                     q -= gap)
                    order[q] = order[q - gap];
                order[q] = row;
            }
        total = 0;
        for (n_kept = 0; n_kept < task->n; n_kept++) {
            ptrdiff_t found = count[order[n_kept]];
            total += found > 1 ? found - 1 : 0;
            if (total > largest && n_kept > 0)
                break;
        }
    }
    for (ptrdiff_t k = 0; k < n_kept; k++) {
        ptrdiff_t i = order[k];
        if (count[i] < 2)
            continue;
        double level = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            level += point->a[l * ldn + i] * point->g[l * ldn + i];
        level /= task->sums[i];
        int top = -1;
        face->row[n_rows] = (int)i;
        face->first[n_rows] = (int)n_entries;
        for (ptrdiff_t l = 0; l < task->n_classes; l++) {
            double entry = point->a[l * ldn + i];
            if (!(entry > 0 || point->g[l * ldn + i] > level))
                continue;
            face->slot_row[n_entries] = (int)n_rows;
            face->cls[n_entries] = (int)l;
            if (top < 0 || entry > point->a[face->cls[top] * ldn + i])
                top = (int)n_entries;
            n_entries++;
        }
        face->pivot[n_rows++] = top;
    }
    face->first[n_rows] = (int)n_entries;
    face->n_rows = n_rows;
    face->n_entries = n_entries;
    face->size = 0;
    for (ptrdiff_t e = 0; e < n_entries; e++) {
        int is_pivot = face->pivot[face->slot_row[e]] == e;
        face->place[e] = is_pivot ? -1 : (int)face->size;
        if (!is_pivot)
            face->entry[face->size++] = (int)e;
    }
    return n_kept == task->n;
}

static int new_face(Face *face, const Task *task, Arena *arena)
{
    ptrdiff_t n_rows = task->n + 1, n_entries = task->n * task->n_classes + 1;
    int *numbers = arena_take(arena, (3 * n_rows + 4 * n_entries) * sizeof(int));
    if (arena->failed)
        return 0;
    face->row = numbers;
    face->first = numbers + n_rows;
    face->pivot = numbers + 2 * n_rows;
    face->slot_row = numbers + 3 * n_rows;
    face->cls = face->slot_row + n_entries;
    face->place = face->cls + n_entries;
    face->entry = face->place + n_entries;
    return 1;
}

/* Where D stops to rise on [0, 1] along a direction of this slope, to a tenth of
   the slope: ||V + t dV|| is the root of a quadratic in t. */
static double line_search(const Task *task, const Part *part, const Point *point,
                          const double *move, const double *direction, double slope,
                          Arena *arena)
{
    const ptrdiff_t n_groups = part->n_groups, ldn = task->ldn, ldd = part->ldd;
    Mark mark = arena_mark(arena);
    double *cross = arena_zeros(arena, 2 * n_groups * sizeof(double));
    double *square = cross + n_groups;
    double straight = 0, low = 0, high = 1, at_low = slope, at_high = 0, t = 1;
    if (arena->failed)
        return 0;
    if (part->gram) {
        double curvature = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            curvature -= dot_f64(move + l * ldd, direction + l * ldn, task->n);
        curvature /= task->lambda2;
        arena_release(arena, mark);
        return curvature > slope ? slope / curvature : 1;
    }
    for (ptrdiff_t l = 0; l < task->n_classes; l++) {
        const double *v = point->v + l * ldd, *dv = move + l * ldd;
        if (part->groups)
            for (ptrdiff_t j = 0; j < part->d; j++) {
                cross[part->groups[j]] += v[j] * dv[j];
                square[part->groups[j]] += dv[j] * dv[j];
            }
        else
            for (ptrdiff_t j = 0; j < n_groups; j++) {
                cross[j] += v[j] * dv[j];
                square[j] += dv[j] * dv[j];
            }
        straight += dot_f64(task->linear + l * ldn, direction + l * ldn, task->n);
    }
    for (int round = 0; round < 12; round++) {
        double falling = 0, norm2, norm;
        for (ptrdiff_t g = 0; g < n_groups; g++) {
            norm2 = point->norms[g] * point->norms[g] +
                    t * (2 * cross[g] + t * square[g]);
            norm = sqrt(norm2 > 1e-300 ? norm2 : 1e-300);
            double kept = 1 - part->thresholds[g] / norm;
            falling += (kept > 0 ? kept : 0) * (cross[g] + t * square[g]);
        }
        double rising = straight - falling / task->lambda2;
        /* At the end of the step entries reach 0 exactly: it is worth a little. */
        if (round == 0 ? rising >= -0.3 * slope : fabs(rising) < 0.02 * slope)
            break;
        if (rising > 0) {
            low = t;
            at_low = rising;
        } else {
            high = t;
            at_high = rising;
        }
        double share = at_low / (at_low - at_high);
        share = share > 0.1 ? (share < 0.9 ? share : 0.9) : 0.1;
        t = low + share * (high - low);
    }
    arena_release(arena, mark);
    return t;
}

/* What the quadratic model of D on a face is made of. */
typedef struct {
    double *gradient, *from, *x; /* (n_entries,): lambda2 times the slope, A, maximum */
    double *sums, *damping;      /* (n_rows,) */
    double scale;                /* largest gradient */
} Model;

/* The maximum of the model, as `maximise` tells; its curvature in single precision if
   coarse. */
static int maximise_model(const Task *task, const Part *part, const Point *point,
                          const Face *face, Model *model, int coarse, double damping,
                          Forward *out, Arena *arena)
{
    Mark mark = arena_mark(arena);
    const ptrdiff_t ldh = PADDED(face->size);
    const int rounds = face->n_entries < 400 ? 16 : 8;
    size_t wide = coarse ? sizeof(float) : sizeof(double);
    void *h = arena_take(arena, (face->size * ldh + PAD) * wide);
    double top = 0;
    int found;
    if (arena->failed)
        return -1;
    if (coarse)
        hessian_f32(task, part, face, point->v, point->norms, h, ldh, arena);
    else
        hessian_f64(task, part, face, point->v, point->norms, h, ldh, arena);
    for (ptrdiff_t k = 0; k < face->size; k++) {
        double entry = coarse ? ((float *)h)[k * ldh + k] : ((double *)h)[k * ldh + k];
        top = entry > top ? entry : top;
    }
    top = top > 0 ? top : 1;
    if (coarse && damping < (face->n_entries > 250 ? COARSE_DAMPING : LEAST_COARSE))
        damping = face->n_entries > 250 ? COARSE_DAMPING : LEAST_COARSE;
    /* Rows of more than the usual weight have further to go. */
    for (ptrdiff_t r = 0; r < face->n_rows; r++)
        model->damping[r] = damping * top * fmin(1, task->usual / model->sums[r]);
    if (coarse)
        found = maximise_f32(face, h, ldh, model->gradient, model->from, model->sums,
                             model->damping, 1e-6 * model->scale, rounds, model->x,
                             &out->n_factors, arena);
    else
        found = maximise_f64(face, h, ldh, model->gradient, model->from, model->sums,
                             model->damping, 1e-12 * model->scale, rounds, model->x,
                             &out->n_factors, arena);
    arena_release(arena, mark);
    return found;
}

/* One Newton step from a measured point; the length of it, 0 where it fails. */
static double newton_step(const Task *task, const Part *part, Point *point, Face *face,
                          int coarse, double damping, Forward *out, Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, ldd = part->ldd, n_entries = face->n_entries;
    Mark mark = arena_mark(arena);
    Model model;
    double *numbers =
        arena_take(arena, (3 * n_entries + 2 * face->n_rows) * sizeof(double));
    double *direction = arena_zeros(arena, task->n_classes * ldn * sizeof(double));
    double *move = arena_take(arena, task->n_classes * ldd * sizeof(double));
    if (arena->failed)
        return 0;
    model.gradient = numbers;
    model.from = numbers + n_entries;
    model.x = numbers + 2 * n_entries;
    model.sums = numbers + 3 * n_entries;
    model.damping = model.sums + face->n_rows;
    model.scale = 0;
    for (ptrdiff_t r = 0; r < face->n_rows; r++) {
        ptrdiff_t i = face->row[r], p = face->cls[face->pivot[r]] * ldn + i;
        model.sums[r] = task->sums[i];
        for (int e = face->first[r]; e < face->first[r + 1]; e++) {
            ptrdiff_t k = face->cls[e] * ldn + i;
            model.gradient[e] = task->lambda2 * (point->g[k] - point->g[p]);
            model.from[e] = point->a[k];
            model.scale = fmax(model.scale, fabs(model.gradient[e]));
        }
    }
    int found =
        maximise_model(task, part, point, face, &model, coarse, damping, out, arena);
    if (found < 0 && coarse)
        found = maximise_model(task, part, point, face, &model, 0, damping, out, arena);
    double slope = 0, t = 0;
    for (ptrdiff_t e = 0; e < n_entries && found >= 0; e++) {
        ptrdiff_t k = face->cls[e] * ldn + face->row[face->slot_row[e]];
        direction[k] = model.x[e] - model.from[e];
        slope += model.gradient[e] * direction[k];
    }
    slope /= task->lambda2;
    if (!(slope > 0) || !(slope < 1e200) || arena->failed) {
        arena_release(arena, mark);
        return 0;
    }
    thin_f64(direction, ldn, task->n_classes, part->rows, ldd, NULL, task->n, ldd, move,
             ldd);
    for (ptrdiff_t k = 0; k < task->n_classes * ldd; k++)
        move[k] = -move[k];
    t = line_search(task, part, point, move, direction, slope, arena);
    for (ptrdiff_t k = 0; k < task->n_classes * ldd; k++)
        point->v[k] += t * move[k];
    for (ptrdiff_t e = 0; e < n_entries; e++) {
        ptrdiff_t k = face->cls[e] * ldn + face->row[face->slot_row[e]];
        double start = model.from[e], end = model.x[e];
        point->a[k] = fmax(0, t == 1 ? end : start + t * (end - start));
    }
    arena_release(arena, mark);
    return t;
}

static double next_damping(double damping, double t)
{
    double factor = t >= 0.9 ? 0.03 : t > 0.4 ? 0.2 : t >= 0.1 ? 1 : 10;
    damping *= factor;
    return damping < LEAST_DAMPING ? LEAST_DAMPING : damping > 1 ? 1 : damping;
}

/* Newton steps on a part until its gap is at most `tol`; A in place. */
static void solve_part(const Task *task, const Part *part, double *a, double tol,
                       double curvature, double damping, Forward *out, Arena *arena)
{
    const ptrdiff_t size = task->n_classes * task->ldn;
    Mark mark = arena_mark(arena);
    Point point;
    Face face;
    double best = HUGE_VAL, highest = -HUGE_VAL, lowest = HUGE_VAL;
    double *best_a = arena_take(arena, size * sizeof(double));
    ptrdiff_t *order = arena_take(arena, 2 * (task->n + 1) * sizeof(ptrdiff_t));
    int coarse = tol >= COARSE_TOL && task->lambda2 > LEAST_SCALE &&
                 task->lambda2 < MOST_SCALE;
    int idle = 0, whole = 1;
    ptrdiff_t largest = LARGEST_FACE;
    if (!new_point(&point, task, part->ldd, part->n_groups, arena) ||
        !new_face(&face, task, arena))
        return;
    memcpy(point.a, a, size * sizeof(double));
    memcpy(best_a, a, size * sizeof(double));
    correlate(task, part, &point);
    while (1) {
        measure(task, part, &point, arena);
        /* D rises with every step; P, and the gap with it, may rise too. */
        double dual = point.primal - point.gap;
        lowest = fmin(lowest, point.primal);
        int rises = dual - highest > PROGRESS * (lowest - highest);
        idle = point.relative_gap < 0.9 * best || rises ? 0 : idle + 1;
        highest = fmax(highest, dual);
        if (idle > 2 * COARSE_STEPS && !whole && largest < LARGEST_OF_ALL) {
            largest *= 2;
            idle = 0;
        } else if (idle > COARSE_STEPS && coarse && whole) {
            coarse = idle = 0;
        }
        if (point.relative_gap < best) {
            best = point.relative_gap;
            memcpy(best_a, point.a, size * sizeof(double));
        }
        if (best <= tol || idle > IDLE_STEPS || out->n_steps >= out->max_steps ||
            arena->failed)
            break;
        whole = find_face(task, &point, largest, &face, order);
        out->n_steps++;
        double t = face.size > 0 ? newton_step(task, part, &point, &face, coarse,
                                               damping, out, arena)
                                 : 0;
        damping = t > 0 ? next_damping(damping, t) : fmin(100 * damping, 1);
        if (t == 0 || !whole) {
            int n_steps = whole ? 5 : STEPS_BETWEEN;
            ascend_f64(task, part, part->rows, part->cols, curvature, n_steps, point.a,
                       arena);
            out->n_gradient_steps += n_steps;
            correlate(task, part, &point);
        }
    }
    memcpy(a, best_a, size * sizeof(double));
    arena_release(arena, mark);
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
    part->rows = arena_zeros(arena, task->n * ldd * sizeof(double));
    part->cols = arena_zeros(arena, (d > 0 ? d : 1) * ldn * sizeof(double));
    int *groups = NULL, *renumbered = NULL;
    if (all->groups) {
        groups = arena_take(arena, (d + 1) * sizeof(int));
        renumbered = arena_take(arena, all->n_groups * sizeof(int));
    }
    if (arena->failed)
        return 0;
    d = 0;
    for (ptrdiff_t j = 0; j < all->d; j++)
        if (mask[j])
            index[d++] = (int)j;
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
            part->cols[q * ldn + i] = to[q] = from[index[q]];
    }
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

/* Gradient steps in single precision where that will do; the curvature of F. */
static double warm_up(const Task *task, const Part *part, int n_steps, double *a,
                      Arena *arena)
{
    Mark mark = arena_mark(arena);
    const ptrdiff_t n_rows = task->n * part->ldd;
    const ptrdiff_t n_cols = part->cols ? part->d * task->ldn : 0;
    double curvature;
    if (task->lambda2 > LEAST_SCALE && task->lambda2 < MOST_SCALE) {
        float *rows = arena_take(arena, (n_rows + n_cols) * sizeof(float));
        if (arena->failed)
            return 1;
        float *cols = rows + n_rows;
        for (ptrdiff_t k = 0; k < n_rows; k++)
            rows[k] = (float)part->rows[k];
        for (ptrdiff_t k = 0; k < n_cols; k++)
            cols[k] = (float)part->cols[k];
        curvature = curvature_f32(task, part, rows, cols, arena);
        if (n_steps > 0)
            ascend_f32(task, part, rows, cols, curvature, n_steps, a, arena);
    } else {
        curvature = curvature_f64(task, part, part->rows, part->cols, arena);
        if (n_steps > 0)
            ascend_f64(task, part, part->rows, part->cols, curvature, n_steps, a, arena);
    }
    arena_release(arena, mark);
    return curvature;
}

static int first_steps(const Task *task, const Part *part)
{
    ptrdiff_t entries = task->n * task->n_classes;
    if (entries >= 1000)
        return 100;
    if (entries > 300)
        return 60;
    return entries > part->d ? 30 : FEW_STEPS;
}

/* Mark the features whose groups are at a share of their threshold, or free. */
static void mark_near(const Part *all, const double *norms, double margin, char *mask)
{
    for (ptrdiff_t j = 0; j < all->d; j++) {
        ptrdiff_t g = all->groups ? all->groups[j] : j;
        mask[j] |= norms[g] >= margin * all->thresholds[g];
    }
}

static int has_lasso(const Part *part)
{
    for (ptrdiff_t g = 0; g < part->n_groups; g++)
        if (part->thresholds[g] > 0)
            return 1;
    return 0;
}

static void solve_lasso(const Task *task, const Part *all, Point *point, int warm,
                        Forward *out, Arena *arena)
{
    double best = HUGE_VAL, curvature = 0;
    double damping = warm ? SMALL_DAMPING : FIRST_DAMPING;
    const ptrdiff_t size = task->n_classes * task->ldn;
    double *best_a = arena_take(arena, size * sizeof(double));
    char *mask = arena_zeros(arena, all->d + 1);
    if (arena->failed)
        return;
    memcpy(best_a, point->a, size * sizeof(double));
    for (int round = 0; round < MOST_ROUNDS && !arena->failed; round++) {
        Mark mark = arena_mark(arena);
        Part part;
        correlate(task, all, point);
        measure(task, all, point, arena);
        int better = point->relative_gap < best;
        if (better) {
            best = point->relative_gap;
            memcpy(best_a, point->a, size * sizeof(double));
        }
        if (best <= out->tol || out->n_steps >= out->max_steps || (round > 0 && !better))
            break;
        out->n_rounds++;
        if (all->d < NARROW_FROM)
            memset(mask, 1, all->d);
        else
            mark_near(all, point->norms, round || warm ? MARGIN : FIRST_MARGIN, mask);
        if (!gather(task, all, mask, &part, arena))
            break;
        if (round == 0) {
            int n_steps = warm ? 0 : first_steps(task, &part);
            curvature = warm_up(task, &part, n_steps, point->a, arena);
            out->n_gradient_steps += n_steps;
            if (all->d >= NARROW_FROM && !warm) {
                arena_release(arena, mark);
                correlate(task, all, point);
                group_norms_f64(point->v, all->ldd, task->n_classes, all->d, all->groups,
                                all->n_groups, point->norms);
                memset(mask, 0, all->d);
                mark_near(all, point->norms, MARGIN, mask);
                if (!gather(task, all, mask, &part, arena))
                    break;
            }
        }
        solve_part(task, &part, point->a, 0.9 * out->tol, curvature, damping, out, arena);
        damping = SMALL_DAMPING;
        arena_release(arena, mark);
    }
    memcpy(point->a, best_a, size * sizeof(double));
}

static void solve_ridge(const Task *task, const Part *all, Point *point, int warm,
                        Forward *out, Arena *arena)
{
    Mark mark = arena_mark(arena);
    char *mask = arena_take(arena, all->d + 1);
    Part part;
    if (arena->failed)
        return;
    memset(mask, 1, all->d);
    int small = task->n <= all->d;
    if (!(small ? gram(task, all, &part, arena)
                : gather(task, all, mask, &part, arena)))
        return;
    int n_steps = warm ? 0 : first_steps(task, all);
    double curvature = warm_up(task, &part, n_steps, point->a, arena);
    out->n_gradient_steps += n_steps;
    out->n_rounds++;
    solve_part(task, &part, point->a, 0.9 * out->tol, curvature, SMALL_DAMPING, out,
               arena);
    arena_release(arena, mark);
}

/* The first B, (n_rows, n_classes): the given one, or uniform over the classes of the
   largest linear term, which is optimal if every feature is off. */
static void first_dual(const Data *data, const Forward *out)
{
    const ptrdiff_t n_classes = data->n_classes;
    for (ptrdiff_t from = 0; from < data->n_rows * n_classes; from += n_classes) {
        double top = -HUGE_VAL;
        int n_best = 0;
        for (ptrdiff_t k = from; k < from + n_classes; k++) {
            double value = number(data->linear, data->single, k);
            n_best = value > top ? 1 : n_best + (value == top);
            top = value > top ? value : top;
        }
        for (ptrdiff_t k = from; k < from + n_classes; k++) {
            int best = number(data->linear, data->single, k) == top;
            double share = best ? 1.0 / n_best : 0;
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
   largest slope. The derivative in their weight needs it. */
static void answer_absent(const Data *data, const Task *task, const Part *all,
                          const Point *point, const Forward *out)
{
    const ptrdiff_t n_classes = data->n_classes, d = data->n_features;
    for (ptrdiff_t i = 0; i < data->n_rows; i++) {
        double top = -HUGE_VAL;
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
        }
        for (ptrdiff_t l = 0; l < n_classes; l++)
            put(out->dual, data->single, i * n_classes + l, l == best);
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
    if (arena->failed)
        return;
    round_dual(data, task, out, point->a);
    correlate(task, all, point);
    measure(task, all, point, arena);
    double gap = point->relative_gap;
    /* ||F||^2 is at most the sum of the squared row norms, which are near 1. */
    if (tidy(task, point, task->lambda2 / (double)(task->n > 0 ? task->n : 1), a)) {
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
    answer_absent(data, task, all, point, out);
    out->gap = point->gap;
    out->relative_gap = point->relative_gap;
    out->rounding = point->rounding;
}

static int solve(const Data *data, Forward *out, Arena *arena)
{
    const ptrdiff_t n_classes = data->n_classes;
    const size_t wide = data->single ? sizeof(float) : sizeof(double);
    Task task;
    Part all;
    Point point;
    out->n_steps = out->n_gradient_steps = out->n_factors = out->n_rounds = 0;
    out->gap = out->relative_gap = HUGE_VAL;
    out->rounding = 0;
    memset(out->coef, 0, data->n_features * n_classes * wide);
    first_dual(data, out);
    if (!read_task(data, &task, &all, arena))
        return REFUSED;
    if (!new_point(&point, &task, all.ldd, all.n_groups, arena))
        return NO_MEMORY;
    for (ptrdiff_t i = 0; i < task.n; i++)
        for (ptrdiff_t l = 0; l < n_classes; l++)
            point.a[l * task.ldn + i] =
                task.sums[i] * number(out->dual, data->single, task.row[i] * n_classes + l);
    if (task.n > 0) {
        if (has_lasso(&all))
            solve_lasso(&task, &all, &point, out->start != NULL, out, arena);
        else
            solve_ridge(&task, &all, &point, out->start != NULL, out, arena);
    }
    finish(data, &task, &all, &point, out, arena);
    if (out->relative_gap <= out->tol)
        return SOLVED;
    return out->n_steps >= out->max_steps ? OUT_OF_STEPS : STUCK;
}

static int forward(const Data *data, Forward *out)
{
    Arena arena = {NULL, 0};
    int status = solve(data, out, &arena);
    if (arena.failed)
        status = NO_MEMORY;
    arena_free(&arena);
    return status;
}
