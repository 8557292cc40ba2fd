/* Gradients of a loss of the solution, given the one in W.

   With M the Jacobian of V -> W(V), E the moves on the face of A and G the gradient
   in W, U = E u solves the adjoint system, and the gradients follow (for a logistic
   loss, U = (I + P A)^-1 P F M G):

       (E'F M F'E) u = E'F M G,        N = G - F'U,  Q = M N
       dF = R Q' - U W',  dC = -U,     ds_i = <y_i - b_i, (F Q)_i>
       dlambda1 = - sum_g w_g <N_g, V_g> / (lambda2 ||V_g||),  dlambda2 = - <N, W> / lambda2 */

/* The square of a pivot below which rounding alone would decide a direction. */
#define SMALL_PIVOT 1.5e-8

/* x of A x = b: Cholesky with the diagonal scaled to 1; where a pivot is small, the
   solution for which `measure` x has the least norm. A, full, is overwritten. */
static int solve_psd(double *matrix, ptrdiff_t ldm, ptrdiff_t size, const double *measure,
                     Eigen eigen, double *b, Arena *arena)
{
    double *scale = arena_take(arena, size * sizeof(double));
    double *factor = arena_take(arena, (size * ldm + PAD) * sizeof(double));
    double *pack = arena_take(arena, DEPTH * PAD * sizeof(double));
    if (arena->failed)
        return 0;
    for (ptrdiff_t k = 0; k < size; k++) {
        double diagonal = matrix[k * ldm + k];
        scale[k] = 1 / sqrt(diagonal > 1e-300 ? diagonal : 1e-300);
    }
    for (ptrdiff_t k = 0; k < size; k++)
        for (ptrdiff_t q = 0; q <= k; q++)
            factor[k * ldm + q] = scale[k] * scale[q] * matrix[k * ldm + q];
    memset(factor + size * ldm, 0, PAD * sizeof(double));
    int singular = cholesky_f64(factor, ldm, size, pack) != 0;
    for (ptrdiff_t k = 0; k < size && !singular; k++)
        singular = !(factor[k * ldm + k] * factor[k * ldm + k] > SMALL_PIVOT);
    if (!singular) {
        for (ptrdiff_t k = 0; k < size; k++)
            b[k] *= scale[k];
        solve_factored_f64(factor, ldm, size, b);
        for (ptrdiff_t k = 0; k < size; k++)
            b[k] *= scale[k];
        return 1;
    }
    int order = (int)size, info = 0, one = -1, length, whole;
    double *values = arena_take(arena, 2 * size * sizeof(double));
    double best_length = 0;
    if (arena->failed)
        return 0;
    for (ptrdiff_t k = 0; k < size; k++)
        for (ptrdiff_t q = 0; q < size; q++)
            factor[k * size + q] = measure[k] * measure[q] * matrix[k * ldm + q];
    eigen("V", "L", &order, factor, &order, values, &best_length, &one, &whole, &one,
          &info);
    length = (int)best_length + 1;
    double *work = arena_take(arena, length * sizeof(double));
    int *whole_work = arena_take(arena, (whole + 1) * sizeof(int));
    if (arena->failed)
        return 0;
    eigen("V", "L", &order, factor, &order, values, work, &length, whole_work, &whole,
          &info);
    if (info != 0)
        return 0;
    double cutoff = values[size - 1] * (double)size * 2.220446049250313e-16 * 10;
    double *shares = values + size;
    for (ptrdiff_t k = 0; k < size; k++)
        b[k] *= measure[k];
    for (ptrdiff_t k = 0; k < size; k++)
        shares[k] = values[k] > cutoff
                        ? dot_f64(factor + k * size, b, size) / values[k]
                        : 0;
    memset(b, 0, size * sizeof(double));
    for (ptrdiff_t k = 0; k < size; k++)
        for (ptrdiff_t q = 0; q < size; q++)
            b[q] += shares[k] * factor[k * size + q];
    for (ptrdiff_t k = 0; k < size; k++)
        b[k] *= measure[k];
    return 1;
}

/* U of the adjoint system, (classes, ldn), from F M G in `pull`. */
static int adjoint_move(const Task *task, const Part *part, Point *point, Face *face,
                        ptrdiff_t *order, const double *pull, Eigen eigen, double *u,
                        Arena *arena)
{
    const ptrdiff_t ldn = task->ldn;
    /* With equal slopes, the face is that of the positive entries. */
    memset(point->g, 0, task->n_classes * ldn * sizeof(double));
    find_face(task, point, PTRDIFF_MAX, face, order);
    const ptrdiff_t size = face->size, ldh = PADDED(size);
    if (size == 0)
        return 1;
    Mark mark = arena_mark(arena);
    double *h = arena_take(arena, (size * ldh + PAD) * sizeof(double));
    double *right = arena_take(arena, 2 * ldh * sizeof(double)), *measure = right + ldh;
    if (arena->failed)
        return 0;
    hessian_f64(task, part, face, point->v, point->norms, h, ldh, arena);
    for (ptrdiff_t k = 0; k < size; k++) {
        int e = face->entry[k], r = face->slot_row[e];
        ptrdiff_t i = face->row[r];
        right[k] = task->lambda2 * (pull[face->cls[e] * ldn + i] -
                                    pull[face->cls[face->pivot[r]] * ldn + i]);
        measure[k] = task->sums[i];
    }
    int solved = solve_psd(h, ldh, size, measure, eigen, right, arena);
    for (ptrdiff_t k = 0; k < size && solved; k++) {
        int e = face->entry[k], r = face->slot_row[e];
        ptrdiff_t i = face->row[r];
        u[face->cls[e] * ldn + i] += right[k];
        u[face->cls[face->pivot[r]] * ldn + i] -= right[k];
    }
    arena_release(arena, mark);
    return solved;
}

/* Numbers of the columns with a weight or a free threshold. */
static int in_use(const Part *all, const Point *point, char *mask, int *index)
{
    int d = 0;
    for (ptrdiff_t j = 0; j < all->d; j++) {
        ptrdiff_t g = all->groups ? all->groups[j] : j;
        mask[j] = point->norms[g] > all->thresholds[g] || all->thresholds[g] == 0;
        if (mask[j])
            index[d++] = (int)j;
    }
    return d;
}

/* ds_i of the rows of weight 0. */
static void absent_rows(const Data *data, const Task *task, const Part *part,
                        const int *index, const double *through, const Adjoint *out)
{
    const ptrdiff_t n_classes = data->n_classes;
    for (ptrdiff_t i = 0; i < data->n_rows; i++) {
        double total = 0;
        if (number(data->weights, data->single, i) > 0)
            continue;
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            ptrdiff_t k = i * n_classes + l;
            double lacks = number(data->targets, data->single, k) -
                           number(out->dual, data->single, k);
            for (ptrdiff_t q = 0; q < part->d && lacks != 0; q++)
                total += lacks * through[l * part->ldd + q] *
                         number(data->features, data->single,
                                i * data->n_features + index[q]) /
                         task->unit;
        }
        put(out->d_weights, data->single, i, total);
    }
}

static int differentiate(const Data *data, Adjoint *out, Arena *arena)
{
    const ptrdiff_t n_classes = data->n_classes, d = data->n_features;
    const size_t wide = data->single ? sizeof(float) : sizeof(double);
    Task task;
    Part all, part;
    Point whole, point;
    Face face;
    memset(out->d_features, 0, data->n_rows * d * wide);
    memset(out->d_linear, 0, data->n_rows * n_classes * wide);
    memset(out->d_weights, 0, data->n_rows * wide);
    out->d_lambda1 = out->d_lambda2 = 0;
    if (!read_task(data, &task, &all, arena))
        return REFUSED;
    if (!new_point(&whole, &task, all.ldd, all.n_groups, arena))
        return NO_MEMORY;
    char *mask = arena_take(arena, d + 1);
    int *index = arena_take(arena, (d + 1) * sizeof(int));
    if (arena->failed)
        return NO_MEMORY;
    const ptrdiff_t ldn = task.ldn;
    for (ptrdiff_t i = 0; i < task.n; i++)
        for (ptrdiff_t l = 0; l < n_classes; l++)
            whole.a[l * ldn + i] =
                task.sums[i] *
                number(out->dual, data->single, task.row[i] * n_classes + l);
    correlate(&task, &all, &whole);
    group_norms_f64(whole.v, all.ldd, n_classes, d, all.groups, all.n_groups,
                    whole.norms);
    if (task.n == 0 || in_use(&all, &whole, mask, index) == 0)
        return SOLVED;
    if (!gather(&task, &all, mask, &part, arena) ||
        !new_point(&point, &task, part.ldd, part.n_groups, arena) ||
        !new_face(&face, &task, arena))
        return NO_MEMORY;
    const ptrdiff_t ldd = part.ldd;
    double *numbers = arena_zeros(arena, 2 * n_classes * (ldn + ldd) * sizeof(double));
    double *inner = arena_take(arena, part.n_groups * sizeof(double));
    double *left = arena_take(arena, 2 * n_classes * task.n * sizeof(double));
    double *right = arena_zeros(arena, 2 * n_classes * ldd * sizeof(double));
    double *product = arena_take(arena, task.n * ldd * sizeof(double));
    ptrdiff_t *order = arena_take(arena, 2 * (task.n + 1) * sizeof(ptrdiff_t));
    if (arena->failed)
        return NO_MEMORY;
    double *pull = numbers, *u = pull + n_classes * ldn, *g = u + n_classes * ldn;
    double *through = g + n_classes * ldd;
    memcpy(point.a, whole.a, n_classes * ldn * sizeof(double));
    correlate(&task, &part, &point);
    certify(&task, &part, &point, arena);
    for (ptrdiff_t l = 0; l < n_classes; l++)
        for (ptrdiff_t q = 0; q < part.d; q++)
            g[l * ldd + q] =
                number(out->gradient, data->single, index[q] * n_classes + l) / task.unit;
    apply_jacobian(&task, &part, &point, g, inner, through);
    thin_f64(through, ldd, n_classes, part.cols, ldn, NULL, part.d, ldn, pull, ldn);
    if (!(task.logistic ? solve_softmax(&task, &part, &point, &face, order, pull, 0, u,
                                        arena) == 1
                        : adjoint_move(&task, &part, &point, &face, order, pull,
                                       out->eigen, u, arena)))
        return arena->failed ? NO_MEMORY : STUCK;
    /* N in place of G, Q in place of M G. */
    thin_f64(u, ldn, n_classes, part.rows, ldd, NULL, task.n, ldd, right, ldd);
    for (ptrdiff_t k = 0; k < n_classes * ldd; k++) {
        g[k] -= right[k];
        out->d_lambda2 -= g[k] * point.w[k] / task.lambda2;
    }
    apply_jacobian(&task, &part, &point, g, inner, through);
    for (ptrdiff_t q = 0, seen = -1; q < part.d; q++) {
        ptrdiff_t k = part.groups ? part.groups[q] : q;
        if (k <= seen || !(point.norms[k] > 0))
            continue;
        seen = k;
        ptrdiff_t named = data->groups ? data->groups[index[q]] : index[q];
        double weight = out->group_weights ? out->group_weights[named] : 1;
        out->d_lambda1 -= weight * (inner[k] / point.norms[k]) / task.lambda2;
    }
    out->d_lambda1 /= task.unit;
    out->d_lambda2 /= task.unit * task.unit;
    thin_f64(through, ldd, n_classes, part.cols, ldn, NULL, part.d, ldn, pull, ldn);
    for (ptrdiff_t i = 0; i < task.n; i++) {
        double weight = 0;
        for (ptrdiff_t l = 0; l < n_classes; l++) {
            ptrdiff_t k = l * ldn + i;
            weight += point.residual[k] / task.sums[i] * pull[k];
            put(out->d_linear, data->single, task.row[i] * n_classes + l, -u[k]);
            left[2 * i * n_classes + l] = point.residual[k];
            left[(2 * i + 1) * n_classes + l] = -u[k];
        }
        put(out->d_weights, data->single, task.row[i], weight);
    }
    absent_rows(data, &task, &part, index, through, out);
    memcpy(right, through, n_classes * ldd * sizeof(double));
    memcpy(right + n_classes * ldd, point.w, n_classes * ldd * sizeof(double));
    thin_f64(left, 2 * n_classes, task.n, right, ldd, NULL, 2 * n_classes, ldd, product,
             ldd);
    for (ptrdiff_t i = 0; i < task.n; i++)
        for (ptrdiff_t q = 0; q < part.d; q++)
            put(out->d_features, data->single, (ptrdiff_t)task.row[i] * d + index[q],
                product[i * ldd + q] / task.unit);
    return SOLVED;
}

static int adjoint(const Data *data, Adjoint *out)
{
    Arena arena = {NULL, 0};
    int status = differentiate(data, out, &arena);
    if (arena.failed)
        status = NO_MEMORY;
    arena_free(&arena);
    return status;
}
