/* The rows' form of the system of a logistic loss, for one type R of numbers. */

/* y = (I + P A)^-1 P r with P the Jacobian of the softmax, times the row weights, and
   A = F M F'. With E the moves on the face, T = diag(sqrt(a)) and a_p the pivots,

       y = E T (I + T (1 1' / a_p + E'A E) T)^-1 T E'r,

   1 1' for coordinates of the same row: no eigenvalue is below 1. 0: no factor. */
static int FN(solve_rows)(const Task *task, const Part *part, const Face *face,
                          const double *a, const double *v, const double *norms,
                          const double *r, double *y, Arena *arena)
{
    const ptrdiff_t size = face->size, ldh = PADDED(size), ldn = task->ldn;
    Mark mark = arena_mark(arena);
    R *h = arena_take(arena, (size * ldh + PAD) * sizeof(R));
    R *pack = arena_take(arena, DEPTH * WIDTH * sizeof(R));
    R *right = arena_take(arena, 2 * ldh * sizeof(R)), *root = right + ldh;
    if (arena->failed)
        return 0;
    FN(hessian)(task, part, face, v, norms, h, ldh, arena);
    for (ptrdiff_t k = 0; k < size; k++) {
        int e = face->entry[k], row = face->slot_row[e];
        ptrdiff_t i = face->row[row], at = face->cls[e] * ldn + i;
        ptrdiff_t pivot = face->cls[face->pivot[row]] * ldn + i;
        root[k] = (R)sqrt(a[at]);
        right[k] = root[k] * (R)(r[at] - r[pivot]);
    }
    const R scale = (R)(1 / task->lambda2);
    for (ptrdiff_t k = 0; k < size; k++) {
        int row = face->slot_row[face->entry[k]];
        ptrdiff_t p = face->cls[face->pivot[row]] * ldn + face->row[row];
        R *line = h + k * ldh, shared = (R)(1 / a[p]);
        for (ptrdiff_t q = 0; q <= k; q++)
            line[q] *= scale;
        for (ptrdiff_t q = k; q >= 0 && face->slot_row[face->entry[q]] == row; q--)
            line[q] += shared;
        for (ptrdiff_t q = 0; q <= k; q++)
            line[q] *= root[k] * root[q];
        line[k] += 1;
    }
    int solved = FN(cholesky)(h, ldh, size, pack) == 0;
    if (solved)
        FN(solve_factored)(h, ldh, size, right);
    for (ptrdiff_t k = 0; k < size && solved; k++) {
        int e = face->entry[k], row = face->slot_row[e];
        ptrdiff_t i = face->row[row];
        double move = root[k] * right[k];
        y[face->cls[e] * ldn + i] += move;
        y[face->cls[face->pivot[row]] * ldn + i] -= move;
    }
    arena_release(arena, mark);
    return solved;
}
