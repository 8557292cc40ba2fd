/* The solution of one task: features near their thresholds are gathered, a few
   gradient steps find the face, Newton steps on it solve the problem. */

/* Features from this number on are narrowed to those at these shares of their
   threshold: before and after the first gradient steps. */
#define NARROW_FROM 128
#define FIRST_MARGIN 0.7
#define MARGIN 0.8
#define WIDE_MARGIN 0.6
#define MOST_ROUNDS 20
/* Gradient steps before the first Newton step, by the entries of A. */
#define FEW_STEPS 24
/* Newton steps without progress before a task counts as stuck; progress is a share of
   what D has left to rise. */
#define IDLE_STEPS 8
#define PROGRESS 0.02
#define STEPS_BETWEEN 20
/* The damping of a Newton step, relative to the largest curvature. */
#define FIRST_DAMPING 1e-2
#define SMALL_DAMPING 1e-8

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
    if (is_tall(task, part))
        follow_path(task, part, a, tol, out, arena);
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
        if (n_cols > 0)
            transpose_f32(rows, part->ldd, task->n, NULL, part->d, cols, task->ldn);
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

static int any_on(const Part *part, const double *norms)
{
    int any = 0;
    for (ptrdiff_t g = 0; g < part->n_groups; g++)
        any |= norms[g] > part->thresholds[g];
    return any;
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
        int known = round > 0 || warm;
        if (!known) {
            /* A first point with a feature on is not the solution. */
            group_norms_f64(point->v, all->ldd, task->n_classes, all->d, all->groups,
                            all->n_groups, point->norms);
            known = !any_on(all, point->norms);
        }
        if (known)
            certify(task, all, point, arena);
        int better = known && point->relative_gap < best;
        point->fresh = better;
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
        if (round == 0 && !task->logistic) {
            int n_steps = warm ? 0 : first_steps(task, &part);
            curvature = warm_up(task, &part, n_steps, point->a, arena);
            out->n_gradient_steps += n_steps;
            if (all->d >= NARROW_FROM && !warm) {
                arena_release(arena, mark);
                correlate(task, all, point);
                group_norms_f64(point->v, all->ldd, task->n_classes, all->d, all->groups,
                                all->n_groups, point->norms);
                memset(mask, 0, all->d);
                mark_near(all, point->norms, n_steps > FEW_STEPS ? MARGIN : WIDE_MARGIN,
                          mask);
                if (!gather(task, all, mask, &part, arena))
                    break;
            }
        }
        if (task->logistic)
            solve_logistic_part(task, &part, point->a, 0.9 * out->tol, out, arena);
        else
            solve_part(task, &part, point->a, 0.9 * out->tol, curvature, damping, out,
                       arena);
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
    out->n_rounds++;
    if (task->logistic) {
        solve_logistic_part(task, &part, point->a, 0.9 * out->tol, out, arena);
    } else {
        int n_steps = warm ? 0 : first_steps(task, all);
        double curvature = warm_up(task, &part, n_steps, point->a, arena);
        out->n_gradient_steps += n_steps;
        solve_part(task, &part, point->a, 0.9 * out->tol, curvature, SMALL_DAMPING, out,
                   arena);
    }
    arena_release(arena, mark);
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
