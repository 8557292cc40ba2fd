/* The linear system that Newton's step and the adjoint of a logistic loss share. */

/* A system beyond this size is left to others. */
#define LARGEST_SYSTEM 1500

/* N with N N' = M on the columns that are on, classes first: sqrt(1 - t/||V_g||) across
   V_g, 1 along it, times 1/sqrt(lambda2). */
typedef struct {
    ptrdiff_t n_on, n_groups, n_classes;
    const int *on;
    int *group;                    /* (n_on,) */
    double *scale, *along, *inner; /* (n_on,), (classes, n_on), (n_groups,) */
    double top;
} Root;

static int new_root(const Task *task, const Part *part, const Point *point, Root *root,
                    Arena *arena)
{
    const ptrdiff_t n_on = point->n_on, n_classes = task->n_classes;
    int *number_of = arena_take(arena, (part->n_groups + 1) * sizeof(int));
    root->group = arena_take(arena, (n_on + 1) * sizeof(int));
    root->scale = arena_zeros(arena, (n_classes + 2) * (n_on + 1) * sizeof(double));
    if (arena->failed)
        return 0;
    root->along = root->scale + n_on;
    root->inner = root->along + n_classes * n_on;
    root->on = point->on;
    root->n_on = n_on;
    root->n_classes = n_classes;
    root->n_groups = 0;
    root->top = 1 / sqrt(task->lambda2);
    for (ptrdiff_t g = 0; g < part->n_groups; g++)
        number_of[g] = -1;
    for (ptrdiff_t q = 0; q < n_on; q++) {
        ptrdiff_t j = point->on[q], g = part->groups ? part->groups[j] : j;
        double norm = point->norms[g], threshold = part->thresholds[g];
        if (number_of[g] < 0)
            number_of[g] = (int)root->n_groups++;
        root->group[q] = number_of[g];
        root->scale[q] = root->top * sqrt(threshold > 0 ? 1 - threshold / norm : 1);
        for (ptrdiff_t l = 0; l < n_classes && threshold > 0; l++)
            root->along[l * n_on + q] = point->v[l * part->ldd + j] / norm;
    }
    return 1;
}

/* N x in place, x (classes, n_on). */
static void apply_root(const Root *root, double *x)
{
    const ptrdiff_t n_on = root->n_on;
    memset(root->inner, 0, root->n_groups * sizeof(double));
    for (ptrdiff_t l = 0; l < root->n_classes; l++)
        for (ptrdiff_t q = 0; q < n_on; q++)
            root->inner[root->group[q]] += root->along[l * n_on + q] * x[l * n_on + q];
    for (ptrdiff_t l = 0; l < root->n_classes; l++)
        for (ptrdiff_t q = 0; q < n_on; q++) {
            double inner = root->inner[root->group[q]] * root->along[l * n_on + q];
            double *entry = x + l * n_on + q;
            *entry = root->scale[q] * *entry + (root->top - root->scale[q]) * inner;
        }
}

/* P x of every row, P = diag(a) - a a' / s. */
static void soften(const Task *task, const double *a, const double *x, double *out)
{
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double mean = 0;
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn; k += task->ldn)
            mean += a[k] * x[k];
        mean /= task->sums[i];
        for (ptrdiff_t k = i; k < task->n_classes * task->ldn; k += task->ldn)
            out[k] = a[k] * (x[k] - mean);
    }
}

/* F'P F of the columns that are on, (classes, n_on) squared, both triangles. */
static void soft_gram(const Task *task, const Part *part, const Point *point,
                      double *matrix, ptrdiff_t ldm, Arena *arena)
{
    const ptrdiff_t n = task->n, ldn = task->ldn, n_on = point->n_on;
    const ptrdiff_t ldo = PADDED(n_on);
    Mark mark = arena_mark(arena);
    double *rows = arena_zeros(arena, n * ldo * sizeof(double));
    double *weighted = arena_take(arena, n_on * ldn * sizeof(double));
    double *block = arena_take(arena, n_on * ldo * sizeof(double));
    double *share = arena_take(arena, ldn * sizeof(double));
    if (arena->failed)
        return;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t q = 0; q < n_on; q++)
            rows[i * ldo + q] = part->rows[i * part->ldd + point->on[q]];
    for (ptrdiff_t l = 0; l < task->n_classes; l++)
        for (ptrdiff_t m = 0; m <= l; m++) {
            const double *one = point->a + l * ldn, *other = point->a + m * ldn;
            for (ptrdiff_t i = 0; i < n; i++)
                share[i] = (l == m) * one[i] - one[i] * other[i] / task->sums[i];
            for (ptrdiff_t q = 0; q < n_on; q++)
                for (ptrdiff_t i = 0; i < n; i++)
                    weighted[q * ldn + i] =
                        share[i] * part->cols[point->on[q] * ldn + i];
            thin_f64(weighted, ldn, n_on, rows, ldo, NULL, n, ldo, block, ldo);
            for (ptrdiff_t q = 0; q < n_on; q++)
                for (ptrdiff_t k = 0; k < n_on; k++) {
                    double value = block[q * ldo + k];
                    matrix[(l * n_on + q) * ldm + m * n_on + k] = value;
                    matrix[(m * n_on + k) * ldm + l * n_on + q] = value;
                }
        }
    arena_release(arena, mark);
}

/* y as `solve_rows`, in the coefficients that are on:

       y = P r - P F N (I + N'F'P F N)^-1 N'F'P r */
static int solve_coefs(const Task *task, const Part *part, const Point *point,
                       const double *r, double *y, Arena *arena)
{
    const ptrdiff_t n_classes = task->n_classes, n_on = point->n_on, ldn = task->ldn;
    const ptrdiff_t size = n_on * n_classes, ldm = PADDED(size);
    Mark mark = arena_mark(arena);
    Root root;
    double *matrix = arena_zeros(arena, (size * ldm + PAD) * sizeof(double));
    double *x = arena_zeros(arena, (size + PAD) * sizeof(double));
    double *pack = arena_take(arena, DEPTH * PAD * sizeof(double));
    double *coef = arena_zeros(arena, n_classes * part->ldd * sizeof(double));
    double *z = arena_take(arena, n_classes * ldn * sizeof(double));
    if (arena->failed || !new_root(task, part, point, &root, arena))
        return 0;
    soften(task, point->a, r, y);
    for (ptrdiff_t l = 0; l < n_classes; l++)
        for (ptrdiff_t q = 0; q < n_on; q++)
            x[l * n_on + q] =
                dot_f64(part->cols + point->on[q] * ldn, y + l * ldn, task->n);
    apply_root(&root, x);
    soft_gram(task, part, point, matrix, ldm, arena);
    for (int side = 0; side < 2; side++) {
        for (ptrdiff_t k = 0; k < size; k++)
            apply_root(&root, matrix + k * ldm);
        for (ptrdiff_t k = 0; k < size && side == 0; k++)
            for (ptrdiff_t q = 0; q < k; q++) {
                double above = matrix[q * ldm + k];
                matrix[q * ldm + k] = matrix[k * ldm + q];
                matrix[k * ldm + q] = above;
            }
    }
    for (ptrdiff_t k = 0; k < size; k++)
        matrix[k * ldm + k] += 1;
    int solved = !arena->failed && cholesky_f64(matrix, ldm, size, pack) == 0;
    if (solved) {
        solve_factored_f64(matrix, ldm, size, x);
        apply_root(&root, x);
        for (ptrdiff_t l = 0; l < n_classes; l++)
            for (ptrdiff_t q = 0; q < n_on; q++)
                coef[l * part->ldd + point->on[q]] = x[l * n_on + q];
        thin_f64(coef, part->ldd, n_classes, part->cols, ldn, point->on, n_on, ldn, z,
                 ldn);
        soften(task, point->a, z, z);
        for (ptrdiff_t k = 0; k < n_classes * ldn; k++)
            y[k] -= z[k];
    }
    arena_release(arena, mark);
    return solved;
}

/* 1: y = (I + P A)^-1 P r in the smaller form; 0: no factor; -1: too large. */
static int solve_softmax(const Task *task, const Part *part, const Point *point,
                         Face *face, ptrdiff_t *order, const double *r, int coarse,
                         double *y, Arena *arena)
{
    const ptrdiff_t rows = task->n * (task->n_classes - 1);
    const ptrdiff_t coefs = point->n_on * task->n_classes;
    memset(y, 0, task->n_classes * task->ldn * sizeof(double));
    if (!part->gram && coefs == 0) {
        soften(task, point->a, r, y);
        return 1;
    }
    if (!part->gram && coefs < rows)
        return coefs > LARGEST_SYSTEM ? -1
                                      : solve_coefs(task, part, point, r, y, arena);
    if (rows > LARGEST_SYSTEM)
        return -1;
    /* With equal slopes, the face is that of the positive entries. */
    memset(point->g, 0, task->n_classes * task->ldn * sizeof(double));
    find_face(task, point, PTRDIFF_MAX, face, order);
    if (face->size == 0)
        return 1;
    if (coarse && solve_rows_f32(task, part, face, point->a, point->v, point->norms, r,
                                 y, arena))
        return 1;
    return solve_rows_f64(task, part, face, point->a, point->v, point->norms, r, y,
                          arena);
}
