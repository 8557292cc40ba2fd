/* The dual on a face of the simplices: its curvature, and its maximum as a
   quadratic, for one type R of numbers. */

/* F diag(1 - t/v) F' of the rows of a face into `base`, U U' into `h`. */
static void FN(bend)(const Task *task, const Part *part, const Face *face,
                     const double *v, const double *norms, R *base, ptrdiff_t ldr, R *h,
                     ptrdiff_t ldh, R *pack, Arena *arena)
{
    const ptrdiff_t n_rows = face->n_rows, size = face->size;
    Active active;
    if (!find_active(part, norms, &active, arena))
        return;
    const ptrdiff_t n_on = active.n_on, n_bent = active.n_bent;
    const ptrdiff_t ldo = PADDED(n_on > 0 ? n_on : 1);
    const ptrdiff_t ldu = PADDED(active.n_columns > 0 ? active.n_columns : 1);
    const int *on = active.on;
    R *scale = arena_take(arena, 2 * ldo * sizeof(R)), *root = scale + ldo;
    R *rows = arena_take(arena, n_rows * ldo * sizeof(R));
    R *bends = arena_take(arena, task->n_classes * ldo * sizeof(R));
    R *u = part->groups ? arena_zeros(arena, size * ldu * sizeof(R))
                        : arena_take(arena, size * ldu * sizeof(R));
    if (arena->failed)
        return;
    for (ptrdiff_t q = 0; q < n_on; q++) {
        ptrdiff_t g = part->groups ? part->groups[on[q]] : on[q];
        double ratio = q < n_bent ? part->thresholds[g] / norms[g] : 0;
        root[q] = (R)(q < n_bent ? sqrt(ratio) / norms[g] : 0);
        scale[q] = (R)sqrt(1 - ratio);
    }
    for (ptrdiff_t l = 0; l < task->n_classes; l++)
        for (ptrdiff_t q = 0; q < n_bent; q++)
            bends[l * ldo + q] = root[q] * (R)v[l * part->ldd + on[q]];
    for (ptrdiff_t r = 0; r < n_rows; r++)
        for (ptrdiff_t q = 0; q < n_on; q++)
            rows[r * ldo + q] = (R)part->rows[face->row[r] * part->ldd + on[q]];
    for (ptrdiff_t k = 0; k < size && n_bent > 0; k++) {
        int e = face->entry[k], r = face->slot_row[e];
        const R *row = rows + r * ldo, *to = bends + face->cls[e] * ldo;
        const R *from = bends + face->cls[face->pivot[r]] * ldo;
        R *out = u + k * ldu;
        if (part->groups)
            for (ptrdiff_t q = 0; q < n_bent; q++)
                out[active.column[part->groups[on[q]]]] += row[q] * (to[q] - from[q]);
        else
            for (ptrdiff_t q = 0; q < n_bent; q++)
                out[q] = row[q] * (to[q] - from[q]);
    }
    if (active.n_columns > 0)
        FN(add_square)(h, ldh, u, ldu, size, active.n_columns, 1, pack);
    for (ptrdiff_t r = 0; r < n_rows; r++)
        for (ptrdiff_t q = 0; q < n_on; q++)
            rows[r * ldo + q] *= scale[q];
    FN(add_square)(base, ldr, rows, ldo, n_rows, n_on, 1, pack);
}

/* Add base[r, r'] (e_l - e_p)'(e_j - e_p') to the lower triangle of H, and mirror it. */
static void FN(spread)(const Face *face, const R *base, ptrdiff_t ldr, R *h,
                       ptrdiff_t ldh, Arena *arena)
{
    const ptrdiff_t size = face->size;
    int *cls = arena_take(arena, 3 * ldh * sizeof(int));
    if (arena->failed)
        return;
    int *pivot = cls + ldh, *row = cls + 2 * ldh;
    for (ptrdiff_t k = 0; k < size; k++) {
        int e = face->entry[k];
        row[k] = face->slot_row[e];
        cls[k] = face->cls[e];
        pivot[k] = face->cls[face->pivot[row[k]]];
    }
    for (ptrdiff_t k = 0; k < size; k++) {
        const int l = cls[k], p = pivot[k];
        const R *restrict from = base + row[k] * ldr;
        R *restrict line = h + k * ldh;
        for (ptrdiff_t q = 0; q <= k; q++) {
            int same = (l == cls[q]) + (p == pivot[q]) - (l == pivot[q]) - (p == cls[q]);
            line[q] += (R)same * from[row[q]];
        }
    }
    /* Blocks, so that the lines that are written stay in the cache. */
    for (ptrdiff_t top = 0; top < size; top += 16)
        for (ptrdiff_t q = 0; q < size; q++) {
            ptrdiff_t last = top + 16 < size ? top + 16 : size;
            for (ptrdiff_t k = top > q ? top : q + 1; k < last; k++)
                h[q * ldh + k] = h[k * ldh + q];
        }
}

/* lambda2 times the negative Hessian of D in the coordinates e_l - e_pivot, both
   triangles, (size, ldh) with WIDTH spare numbers:

       H[(i,l),(k,j)] = (F_i diag(1 - t/v) F_k') (e_l - e_p)'(e_j - e_p') + U U'
       U[(i,l), g] = sqrt(t_g/v_g) / v_g (F_g V_g)_i (e_l - e_p),  v_g = ||V_g|| > t_g */
static void FN(hessian)(const Task *task, const Part *part, const Face *face,
                        const double *v, const double *norms, R *h, ptrdiff_t ldh,
                        Arena *arena)
{
    const ptrdiff_t n_rows = face->n_rows, ldr = PADDED(n_rows), size = face->size;
    Mark mark = arena_mark(arena);
    R *pack = arena_take(arena, DEPTH * WIDTH * sizeof(R));
    R *base = arena_zeros(arena, (n_rows * ldr + WIDTH) * sizeof(R));
    memset(h, 0, (size * ldh + WIDTH) * sizeof(R));
    if (arena->failed)
        return;
    if (part->gram) {
        for (ptrdiff_t r = 0; r < n_rows; r++)
            for (ptrdiff_t q = 0; q <= r; q++)
                base[r * ldr + q] = (R)part->rows[face->row[r] * part->ldd + face->row[q]];
    } else {
        FN(bend)(task, part, face, v, norms, base, ldr, h, ldh, pack, arena);
        if (arena->failed)
            return;
    }
    FN(spread)(face, base, ldr, h, ldh, arena);
    arena_release(arena, mark);
}

/* gradient - (H + damping) u of every entry, up to a constant of every row; every
   row has its own damping. */
static void FN(slope)(const Face *face, const R *h, ptrdiff_t ldh, const double *damping,
                      const double *gradient, const double *u, R *compact, double *out)
{
    for (ptrdiff_t k = 0; k < face->size; k++)
        compact[k] = (R)u[face->entry[k]];
    for (ptrdiff_t e = 0; e < face->n_entries; e++) {
        double value = gradient[e] - damping[face->slot_row[e]] * u[e];
        if (face->place[e] >= 0)
            value -= FN(dot)(h + face->place[e] * ldh, compact, face->size);
        out[e] = value;
    }
}

/* The curvature on the free coordinates (moves entry - pivot), lower triangle;
   `mixed` holds the size of the face + 1 numbers, `sides` twice `size`. */
static void FN(reduce)(const Face *face, const R *h, ptrdiff_t ldh,
                       const double *damping, const int *entry, const int *pivot,
                       ptrdiff_t size, R *mixed, int *sides, R *out, ptrdiff_t ldo)
{
    const ptrdiff_t whole = face->size;
    int *to = sides, *from = sides + size;
    memset(out, 0, (size * ldo + WIDTH) * sizeof(R));
    /* A pivot of the face has no coordinate: its moves are those of a last one, 0. */
    for (ptrdiff_t k = 0; k < size; k++) {
        int place = face->place[entry[k]], other = face->place[pivot[k]];
        to[k] = place >= 0 ? place : (int)whole;
        from[k] = other >= 0 ? other : (int)whole;
    }
    mixed[whole] = 0;
    for (ptrdiff_t k = 0, first = 0; k < size; k++) {
        const int row = face->slot_row[entry[k]];
        const R *plus = h + to[k] * ldh, *minus = h + from[k] * ldh;
        R *restrict line = out + k * ldo, own = (R)damping[row];
        first = face->slot_row[entry[first]] == row ? first : k;
        if (to[k] == whole)
            for (ptrdiff_t q = 0; q < whole; q++)
                mixed[q] = -minus[q];
        else if (from[k] == whole)
            memcpy(mixed, plus, whole * sizeof(R));
        else
            for (ptrdiff_t q = 0; q < whole; q++)
                mixed[q] = plus[q] - minus[q];
        const R *restrict moves = mixed;
        for (ptrdiff_t q = 0; q <= k; q++)
            line[q] = moves[to[q]] - moves[from[q]];
        for (ptrdiff_t q = first; q <= k; q++)
            line[q] += own;
        line[k] += own;
    }
}

/* Maximise g'u - u'(H + damping)u / 2 over a + u >= 0 with row sums of u equal to
   0, by a primal-dual active set with releases, which ends when it would move no more
   than `slack` entries. 1: solved; 0: x is only feasible; -1: no factor. */
static int FN(maximise)(const Face *face, const R *h, ptrdiff_t ldh,
                        const double *gradient, const double *a, const double *sums,
                        const double *damping, double margin, int max_rounds,
                        ptrdiff_t slack, double *x, int *n_factors, Arena *arena)
{
    const ptrdiff_t n_entries = face->n_entries, ldm = PADDED(face->size);
    Mark mark = arena_mark(arena);
    double *u = arena_take(arena, 2 * n_entries * sizeof(double));
    R *matrix = arena_take(arena, (face->size * ldm + WIDTH) * sizeof(R));
    R *pack = arena_take(arena, DEPTH * WIDTH * sizeof(R));
    R *right = arena_take(arena, (3 * ldm + WIDTH) * sizeof(R));
    int *entry = arena_take(arena, 4 * n_entries * sizeof(int));
    int *best = arena_take(arena, face->n_rows * sizeof(int));
    char *is_free = arena_take(arena, n_entries);
    if (arena->failed)
        return -1;
    double *slope = u + n_entries;
    R *compact = right + ldm, *mixed = right + 2 * ldm;
    int *pivot = entry + n_entries, *sides = entry + 2 * n_entries, solved = 0;
    memset(is_free, 1, n_entries);
    memcpy(x, a, n_entries * sizeof(double));
    for (int round = 0; round < max_rounds && !solved; round++) {
        ptrdiff_t size = 0;
        int fixed = 0, changed = 0;
        memset(u, 0, n_entries * sizeof(double));
        for (ptrdiff_t r = 0; r < face->n_rows; r++) {
            int from = face->first[r], to = face->first[r + 1], top = -1;
            for (int e = from; e < to; e++)
                if (is_free[e] && (top < 0 || x[e] > x[top]))
                    top = e;
            best[r] = top;
            for (int e = from; e < to; e++)
                if (!is_free[e]) {
                    u[e] -= a[e];
                    u[top] += a[e];
                    fixed |= a[e] > 0;
                } else if (e != top) {
                    entry[size] = e;
                    pivot[size++] = top;
                }
        }
        if (fixed)
            FN(slope)(face, h, ldh, damping, gradient, u, compact, slope);
        else
            memcpy(slope, gradient, n_entries * sizeof(double));
        for (ptrdiff_t k = 0; k < size; k++)
            right[k] = (R)(slope[entry[k]] - slope[pivot[k]]);
        FN(reduce)(face, h, ldh, damping, entry, pivot, size, mixed, sides, matrix,
                   ldm);
        ++*n_factors;
        if (FN(cholesky)(matrix, ldm, size, pack)) {
            arena_release(arena, mark);
            return -1;
        }
        FN(solve_factored)(matrix, ldm, size, right);
        for (ptrdiff_t k = 0; k < size; k++) {
            u[entry[k]] += right[k];
            u[pivot[k]] -= right[k];
        }
        for (ptrdiff_t e = 0; e < n_entries; e++)
            x[e] = a[e] + u[e];
        for (ptrdiff_t r = 0; r < face->n_rows; r++)
            for (int e = face->first[r]; e < face->first[r + 1]; e++)
                if (is_free[e] && x[e] < -1e-14 * sums[r]) {
                    is_free[e] = 0;
                    changed++;
                }
        /* No release in the last rounds, so that they only fix, and end. */
        if (round < max_rounds / 2) {
            FN(slope)(face, h, ldh, damping, gradient, u, compact, slope);
            for (ptrdiff_t r = 0; r < face->n_rows; r++) {
                double level = slope[best[r]] + margin;
                for (int e = face->first[r]; e < face->first[r + 1]; e++)
                    if (!is_free[e] && x[e] >= -1e-14 * sums[r] && slope[e] > level) {
                        is_free[e] = 1;
                        changed++;
                    }
            }
        }
        solved = changed <= slack;
        for (ptrdiff_t r = 0; r < face->n_rows && !solved; r++) {
            int any = 0, top = face->first[r];
            for (int e = face->first[r]; e < face->first[r + 1]; e++) {
                any |= is_free[e];
                if (x[e] > x[top])
                    top = e;
            }
            if (!any)
                is_free[top] = 1;
        }
    }
    for (ptrdiff_t r = 0; r < face->n_rows; r++) {
        double total = 0;
        for (int e = face->first[r]; e < face->first[r + 1]; e++) {
            x[e] = x[e] > 0 && is_free[e] ? x[e] : 0;
            total += x[e];
        }
        for (int e = face->first[r]; e < face->first[r + 1]; e++)
            x[e] = total > 0 && total < 1e300 ? x[e] * (sums[r] / total) : a[e];
    }
    arena_release(arena, mark);
    return solved;
}
