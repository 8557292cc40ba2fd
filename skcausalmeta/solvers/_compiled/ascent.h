/* Accelerated projected gradient steps, for one type R of numbers. */

/* Numbers of columns whose group is on, W(V) in place of V; the number of them. */
static ptrdiff_t FN(shrink)(const Task *task, const Part *part, R *v, R *norms,
                            R *factors, const R *thresholds, int *on)
{
    const ptrdiff_t d = part->d;
    const R scale = (R)(1 / task->lambda2);
    ptrdiff_t n_on = 0;
    FN(group_norms)(v, part->ldd, task->n_classes, d, part->groups, part->n_groups,
                    norms);
    for (ptrdiff_t g = 0; g < part->n_groups; g++) {
        R excess = norms[g] - thresholds[g];
        R safe = norms[g] > TINY ? norms[g] : TINY;
        factors[g] = excess > 0 ? scale * (excess / safe) : 0;
    }
    /* Without a branch, which would be guessed wrongly half of the time. */
    for (ptrdiff_t j = 0; j < d; j++) {
        on[n_on] = (int)j;
        n_on += factors[part->groups ? part->groups[j] : j] > 0;
    }
    for (ptrdiff_t l = 0; l < task->n_classes; l++) {
        R *row = v + l * part->ldd;
        if (part->groups)
            for (ptrdiff_t j = 0; j < d; j++)
                row[j] *= factors[part->groups[j]];
        else
            for (ptrdiff_t j = 0; j < d; j++)
                row[j] *= factors[j];
    }
    return n_on;
}

/* An estimate of sigma_max(F)^2 from below, with a margin. */
static double FN(curvature)(const Task *task, const Part *part, const R *rows,
                            const R *cols, Arena *arena)
{
    Mark mark = arena_mark(arena);
    R *x = arena_zeros(arena, task->ldn * sizeof(R));
    R *v = arena_take(arena, part->ldd * sizeof(R));
    double size = 0;
    if (arena->failed)
        return 1;
    /* Not orthogonal to anything in particular. */
    for (ptrdiff_t i = 0; i < task->n; i++)
        x[i] = 1 + (R)0.25 * (R)(i % 3);
    for (int round = 0; round < 8; round++) {
        if (part->gram) {
            FN(thin)(x, task->ldn, 1, rows, part->ldd, NULL, task->n, part->ldd, v,
                     part->ldd);
            memcpy(x, v, task->ldn * sizeof(R));
        } else {
            FN(thin)(x, task->ldn, 1, rows, part->ldd, NULL, task->n, part->ldd, v,
                     part->ldd);
            FN(thin)(v, part->ldd, 1, cols, task->ldn, NULL, part->d, task->ldn, x,
                     task->ldn);
        }
        size = sqrt((double)FN(dot)(x, x, task->n));
        if (!(size > 0) || !(size < 1e30))
            break;
        for (ptrdiff_t i = 0; i < task->n; i++)
            x[i] /= (R)size;
    }
    arena_release(arena, mark);
    return size > 0 && size < 1e30 ? 1.05 * size : 1;
}

/* Rows of A with the sums of the task, entries >= 0; 0 if there is no such row. */
static int FN(take_over)(const Task *task, const R *from, double *a)
{
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double sum = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            sum += from[l * task->ldn + i];
        if (!(sum > 0) || !(sum < 1e300))
            return 0;
    }
    for (ptrdiff_t i = 0; i < task->n; i++) {
        double sum = 0;
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            sum += from[l * task->ldn + i];
        for (ptrdiff_t l = 0; l < task->n_classes; l++)
            a[l * task->ldn + i] = from[l * task->ldn + i] * (task->sums[i] / sum);
    }
    return 1;
}

/* FISTA with adaptive restart (O'Donoghue and Candes) from A, in place. */
static void FN(ascend)(const Task *task, const Part *part, const R *rows,
                       const R *cols, double curvature, int n_steps, double *a,
                       Arena *arena)
{
    const ptrdiff_t ldn = task->ldn, n_classes = task->n_classes;
    const ptrdiff_t size = n_classes * ldn, ldd = part->ldd;
    const R step = (R)(task->lambda2 / curvature);
    Mark mark = arena_mark(arena);
    R *numbers = arena_zeros(arena, (6 * size + 5 * ldn) * sizeof(R));
    R *v = arena_take(arena, n_classes * ldd * sizeof(R));
    R *norms = arena_take(arena, 3 * part->n_groups * sizeof(R));
    int *on = arena_take(arena, part->d * sizeof(int));
    if (arena->failed)
        return;
    R *current = numbers, *ahead = numbers + size, *next = numbers + 2 * size;
    R *linear = numbers + 3 * size, *fixed = numbers + 4 * size;
    R *z = numbers + 5 * size, *sums = numbers + 6 * size, *work = sums + ldn;
    R *factors = norms + part->n_groups, *thresholds = factors + part->n_groups;
    double theta = 1;
    for (ptrdiff_t k = 0; k < size; k++) {
        current[k] = ahead[k] = (R)a[k];
        linear[k] = (R)task->linear[k];
        fixed[k] = (R)task->fixed[k];
    }
    for (ptrdiff_t i = 0; i < ldn; i++)
        sums[i] = (R)task->sums[i];
    for (ptrdiff_t g = 0; g < part->n_groups; g++)
        thresholds[g] = (R)part->thresholds[g];
    for (int round = 0; round < n_steps; round++) {
        for (ptrdiff_t k = 0; k < size; k++)
            next[k] = fixed[k] - ahead[k];
        if (part->gram) {
            FN(thin)(next, ldn, n_classes, rows, ldd, NULL, task->n, ldn, z, ldn);
            for (ptrdiff_t k = 0; k < size; k++)
                z[k] *= (R)(1 / task->lambda2);
        } else {
            FN(thin)(next, ldn, n_classes, rows, ldd, NULL, task->n, ldd, v, ldd);
            ptrdiff_t n_on = FN(shrink)(task, part, v, norms, factors, thresholds, on);
            FN(thin)(v, ldd, n_classes, cols, ldn, on, n_on, ldn, z, ldn);
        }
        for (ptrdiff_t k = 0; k < size; k++)
            next[k] = ahead[k] + step * (linear[k] + z[k]);
        FN(project)(next, ldn, n_classes, task->n, sums, work);
        R against = 0;
        for (ptrdiff_t k = 0; k < size; k++)
            against += (ahead[k] - next[k]) * (next[k] - current[k]);
        if (against > 0)
            theta = 1;
        double following = (1 + sqrt(1 + 4 * theta * theta)) / 2;
        R inertia = against > 0 ? 0 : (R)((theta - 1) / following);
        theta = following;
        for (ptrdiff_t k = 0; k < size; k++) {
            ahead[k] = next[k] + inertia * (next[k] - current[k]);
            current[k] = next[k];
        }
    }
    FN(take_over)(task, current, a);
    arena_release(arena, mark);
}
