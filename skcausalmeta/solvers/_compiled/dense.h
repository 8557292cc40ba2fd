/* Symmetric products and Cholesky factors of dense matrices, lower triangles. */

#define TALL (VECTOR_BYTES == 64 ? 8 : 4)
#define DEPTH 256
#define PANEL 32

static INLINE void FN(tile)(const int tall, const R *a, ptrdiff_t lda, const R *pack,
                            ptrdiff_t depth, R sign, R *c, ptrdiff_t ldc)
{
    V sum[8][2];
    for (int r = 0; r < tall; r++)
        sum[r][0] = sum[r][1] = (V){0};
    for (ptrdiff_t k = 0; k < depth; k++) {
        V first = *(const V *)(pack + k * WIDTH);
        V second = *(const V *)(pack + k * WIDTH + LANES);
        for (int r = 0; r < tall; r++) {
            R factor = a[r * lda + k];
            sum[r][0] += factor * first;
            sum[r][1] += factor * second;
        }
    }
    for (int r = 0; r < tall; r++) {
        V *row = (V *)(c + r * ldc);
        row[0] += sign * sum[r][0];
        row[1] += sign * sum[r][1];
    }
}

/* C += sign A A' on and below the diagonal (and on some of what is above it): C
   (size, size) with WIDTH spare numbers behind it, A (size, depth), pack of DEPTH
   WIDTH numbers. */
static void FN(add_square)(R *c, ptrdiff_t ldc, const R *a, ptrdiff_t lda,
                           ptrdiff_t size, ptrdiff_t depth, R sign, R *pack)
{
    for (ptrdiff_t from = 0; from < depth; from += DEPTH) {
        ptrdiff_t terms = depth - from < DEPTH ? depth - from : DEPTH;
        for (ptrdiff_t j = 0; j < size; j += WIDTH) {
            ptrdiff_t columns = size - j < WIDTH ? size - j : WIDTH;
            for (ptrdiff_t q = 0; q < WIDTH; q++)
                for (ptrdiff_t k = 0; k < terms; k++)
                    pack[k * WIDTH + q] =
                        q < columns ? a[(j + q) * lda + from + k] : 0;
            for (ptrdiff_t i = j / TALL * TALL; i < size; i += TALL) {
                const R *rows = a + i * lda + from;
                R *to = c + i * ldc + j;
                ptrdiff_t left = size - i < TALL ? size - i : TALL;
#define CASE(tall)                                                                  \
    case tall:                                                                      \
        FN(tile)(tall, rows, lda, pack, terms, sign, to, ldc);                      \
        break;
                switch (left) {
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
                }
#undef CASE
            }
        }
    }
}

/* L of a corner of at most PANEL rows, in place, and the inverse of its diagonal, by
   columns, which vectors hold. 0, or the number of the first pivot that is not
   positive. */
static ptrdiff_t FN(factor_corner)(R *corner, ptrdiff_t lda, ptrdiff_t wide, R *inverse)
{
    R column[PANEL][PANEL];
    memset(column, 0, sizeof column);
    for (ptrdiff_t i = 0; i < wide; i++)
        for (ptrdiff_t j = 0; j <= i; j++)
            column[j][i] = corner[i * lda + j];
    for (ptrdiff_t j = 0; j < wide; j++) {
        R pivot = column[j][j];
        if (!(pivot > 0) || pivot > HUGE_REAL)
            return j + 1;
        R root = SQRT(pivot), share = 1 / root;
        inverse[j] = share;
        for (ptrdiff_t i = 0; i < PANEL; i++)
            column[j][i] *= share;
        column[j][j] = root;
        /* What is above the diagonal is changed as well, and never read. */
        for (ptrdiff_t q = j + 1; q < wide; q++) {
            const R factor = column[j][q];
            for (ptrdiff_t i = 0; i < PANEL; i++)
                column[q][i] -= factor * column[j][i];
        }
    }
    for (ptrdiff_t i = 0; i < wide; i++)
        for (ptrdiff_t j = 0; j <= i; j++)
            corner[i * lda + j] = column[j][i];
    return 0;
}

/* L of A = L L' in place; 0, or the number of the first pivot that is not
   positive. pack of DEPTH WIDTH numbers. */
static ptrdiff_t FN(cholesky)(R *a, ptrdiff_t lda, ptrdiff_t size, R *pack)
{
    R inverse[PANEL];
    for (ptrdiff_t from = 0; from < size; from += PANEL) {
        ptrdiff_t wide = size - from < PANEL ? size - from : PANEL;
        R *corner = a + from * lda + from;
        ptrdiff_t bad = FN(factor_corner)(corner, lda, wide, inverse);
        if (bad)
            return from + bad;
        for (ptrdiff_t i = from + wide; i < size; i += WIDTH) {
            ptrdiff_t rows = size - i < WIDTH ? size - i : WIDTH;
            R *below = a + i * lda + from;
            V *x = (V *)pack;
            for (ptrdiff_t q = 0; q < wide; q++)
                for (ptrdiff_t r = 0; r < WIDTH; r++)
                    pack[q * WIDTH + r] = r < rows ? below[r * lda + q] : 0;
            for (ptrdiff_t q = 0; q < wide; q++) {
                V first = x[2 * q], second = x[2 * q + 1];
                V more = (V){0}, rest = (V){0}; /* sums that need not wait */
                const R *row = corner + q * lda;
                for (ptrdiff_t p = 0; p + 1 < q; p += 2) {
                    first -= row[p] * x[2 * p];
                    second -= row[p] * x[2 * p + 1];
                    more += row[p + 1] * x[2 * p + 2];
                    rest += row[p + 1] * x[2 * p + 3];
                }
                if (q % 2) {
                    first -= row[q - 1] * x[2 * q - 2];
                    second -= row[q - 1] * x[2 * q - 1];
                }
                x[2 * q] = inverse[q] * (first - more);
                x[2 * q + 1] = inverse[q] * (second - rest);
            }
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t q = 0; q < wide; q++)
                    below[r * lda + q] = pack[q * WIDTH + r];
        }
        ptrdiff_t below_it = size - from - wide;
        if (below_it > 0) {
            R *below = a + (from + wide) * lda + from;
            FN(add_square)(below + wide, lda, below, lda, below_it, wide, -1, pack);
        }
    }
    return 0;
}

/* x of L L' x = b, in place. */
static void FN(solve_factored)(const R *a, ptrdiff_t lda, ptrdiff_t size, R *b)
{
    for (ptrdiff_t i = 0; i < size; i++)
        b[i] = (b[i] - FN(dot)(a + i * lda, b, i)) / a[i * lda + i];
    for (ptrdiff_t i = size - 1; i >= 0; i--) {
        const R *row = a + i * lda;
        R value = b[i] / row[i];
        b[i] = value;
        for (ptrdiff_t j = 0; j < i; j++)
            b[j] -= row[j] * value;
    }
}
