/* The Lasso or elastic net of one output of one task, in the Gram matrix.

       min_w  1/2 sum_i s_i (y_i - x_i'w)^2 + lambda1 ||w||_1 + lambda2 / 2 ||w||^2

   Sweeps over the coordinates find the signs, an exact solution on the support follows,
   and a step towards it ends where a sign would change (H. Lee et al., 2006). */

/* A Gram matrix beyond this size is left to working sets. */
#define MOST_COLUMNS 512
#define SWEEPS 5
#define MOST_SEARCHES 60
/* What may lack to optimality, relative to the largest |F_j'S y|. */
#define LASSO_ROUNDING 1e-13

typedef struct {
    ptrdiff_t d, ldd;
    double *gram, *linear, *w, *slope; /* (d, ldd), (ldd,): slope = linear - gram w */
    double lambda1;
} Columns;

/* Move coordinate j to `value`. */
static void move_to(Columns *columns, ptrdiff_t j, double value)
{
    const double *row = columns->gram + j * columns->ldd, move = value - columns->w[j];
    if (move == 0)
        return;
    columns->w[j] = value;
    for (ptrdiff_t k = 0; k < columns->d; k++)
        columns->slope[k] -= move * row[k];
}

static void sweep(Columns *columns)
{
    for (ptrdiff_t j = 0; j < columns->d; j++) {
        double curvature = columns->gram[j * columns->ldd + j];
        double pull = columns->slope[j] + curvature * columns->w[j];
        double excess = fabs(pull) - columns->lambda1;
        move_to(columns, j, excess > 0 && curvature > 0
                                ? copysign(excess / curvature, pull)
                                : 0);
    }
}

/* To the exact solution for the signs at hand; coordinates that reach 0 stay there.
   0: the support is dependent. */
static int solve_signs(Columns *columns, int *support, double *factor, double *right,
                       double *pack)
{
    const ptrdiff_t ldd = columns->ldd;
    for (ptrdiff_t rounds = 0; rounds <= columns->d; rounds++) {
        ptrdiff_t size = 0, out = -1;
        double length = 1;
        for (ptrdiff_t j = 0; j < columns->d; j++)
            if (columns->w[j] != 0)
                support[size++] = (int)j;
        if (size == 0)
            return 1;
        memset(factor, 0, (size * ldd + PAD) * sizeof(double));
        for (ptrdiff_t k = 0; k < size; k++) {
            ptrdiff_t j = support[k];
            for (ptrdiff_t q = 0; q <= k; q++)
                factor[k * ldd + q] = columns->gram[j * ldd + support[q]];
            right[k] = columns->linear[j] - copysign(columns->lambda1, columns->w[j]);
        }
        if (cholesky_f64(factor, ldd, size, pack))
            return 0;
        for (ptrdiff_t k = 0; k < size; k++) {
            double pivot = factor[k * ldd + k];
            if (pivot * pivot <
                1e-9 * columns->gram[support[k] * ldd + support[k]])
                return 0;
        }
        solve_factored_f64(factor, ldd, size, right);
        for (ptrdiff_t k = 0; k < size; k++) {
            double from = columns->w[support[k]], to = right[k];
            if (from * to <= 0 && from / (from - to) < length) {
                length = from / (from - to);
                out = k;
            }
        }
        for (ptrdiff_t k = 0; k < size; k++) {
            double from = columns->w[support[k]];
            columns->w[support[k]] = out < 0    ? right[k]
                                     : k == out ? 0
                                                : from + length * (right[k] - from);
        }
        if (out < 0)
            return 1;
    }
    return 1;
}

/* Slopes afresh; whether they fit the weights. */
static int is_optimal(Columns *columns, double rounding)
{
    int optimal = 1;
    for (ptrdiff_t j = 0; j < columns->d; j++) {
        const double *row = columns->gram + j * columns->ldd;
        columns->slope[j] = columns->linear[j] - dot_f64(row, columns->w, columns->d);
        double w = columns->w[j], slope = columns->slope[j];
        double lack = w == 0 ? fabs(slope) - columns->lambda1
                             : fabs(slope - copysign(columns->lambda1, w));
        optimal &= lack <= rounding;
    }
    return optimal;
}

static int solve_columns(LassoTask *task, Arena *arena)
{
    const ptrdiff_t n = task->n_rows, d = task->n_features;
    const ptrdiff_t ldn = PADDED(n), ldd = PADDED(d);
    Columns columns = {d, ldd, NULL, NULL, NULL, NULL, task->lambda1};
    double largest = 0;
    int failures = 0;
    task->n_steps = 0;
    if (d > MOST_COLUMNS)
        return REFUSED;
    double *rows = arena_zeros(arena, (d + 1) * ldn * sizeof(double));
    double *target = arena_zeros(arena, ldn * sizeof(double));
    double *pack = arena_take(arena, DEPTH * PAD * sizeof(double));
    double *factor = arena_take(arena, (d * ldd + PAD) * sizeof(double));
    int *support = arena_take(arena, (d + 1) * sizeof(int));
    columns.gram = arena_zeros(arena, (d * ldd + PAD) * sizeof(double));
    columns.linear = arena_zeros(arena, 4 * ldd * sizeof(double));
    if (arena->failed)
        return NO_MEMORY;
    columns.w = columns.linear + ldd;
    columns.slope = columns.linear + 2 * ldd;
    double *right = columns.linear + 3 * ldd;
    for (ptrdiff_t i = 0; i < n; i++) {
        double root = sqrt(number(task->weights, task->single, i));
        for (ptrdiff_t j = 0; j < d && root > 0; j++)
            rows[j * ldn + i] = root * number(task->features, task->single, i * d + j);
        target[i] = root > 0 ? root * number(task->targets, task->single, i) : 0;
    }
    add_square_f64(columns.gram, ldd, rows, ldn, d, ldn, 1, pack);
    for (ptrdiff_t j = 0; j < d; j++) {
        for (ptrdiff_t k = 0; k < j; k++)
            columns.gram[k * ldd + j] = columns.gram[j * ldd + k];
        columns.gram[j * ldd + j] += task->lambda2;
        columns.linear[j] = columns.slope[j] = dot_f64(rows + j * ldn, target, n);
        largest = fmax(largest, fabs(columns.linear[j]));
    }
    if (!(largest < 1e150))
        return REFUSED;
    int solved = is_optimal(&columns, LASSO_ROUNDING * largest);
    for (int search = 0; search < MOST_SEARCHES && !solved && failures < 5; search++) {
        for (int k = 0; k < SWEEPS; k++)
            sweep(&columns);
        task->n_steps++;
        failures += !solve_signs(&columns, support, factor, right, pack);
        solved = is_optimal(&columns, LASSO_ROUNDING * largest);
    }
    for (ptrdiff_t j = 0; j < d; j++)
        put(task->coef, task->single, j, columns.w[j]);
    return solved ? SOLVED : STUCK;
}

static int lasso(LassoTask *task)
{
    Arena arena = {NULL, 0};
    int status = solve_columns(task, &arena);
    if (arena.failed)
        status = NO_MEMORY;
    arena_free(&arena);
    return status;
}
