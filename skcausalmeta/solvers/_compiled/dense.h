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

/* L of A = L L' in place; 0, or the number of the first pivot that is not
   positive. pack of DEPTH WIDTH numbers. */
static ptrdiff_t FN(cholesky)(R *a, ptrdiff_t lda, ptrdiff_t size, R *pack)
{
    R inverse[PANEL];
    for (ptrdiff_t from = 0; from < size; from += PANEL) {
        ptrdiff_t wide = size - from < PANEL ? size - from : PANEL;
        R *corner = a + from * lda + from;
        for (ptrdiff_t j = 0; j < wide; j++) {
            R *row = corner + j * lda;
            for (ptrdiff_t q = 0; q < j; q++)
                row[q] = (row[q] - FN(dot)(row, corner + q * lda, q)) * inverse[q];
            R pivot = row[j] - FN(dot)(row, row, j);
            if (!(pivot > 0) || pivot > HUGE_REAL)
                return from + j + 1;
            row[j] = SQRT(pivot);
            inverse[j] = 1 / row[j];
        }
        for (ptrdiff_t i = from + wide; i < size; i += WIDTH) {
            ptrdiff_t rows = size - i < WIDTH ? size - i : WIDTH;
            R *below = a + i * lda + from;
            V *x = (V *)pack;
            for (ptrdiff_t q = 0; q < wide; q++)
                for (ptrdiff_t r = 0; r < WIDTH; r++)
                    pack[q * WIDTH + r] = r < rows ? below[r * lda + q] : 0;
            for (ptrdiff_t q = 0; q < wide; q++) {
                V first = x[2 * q], second = x[2 * q + 1];
                const R *row = corner + q * lda;
                for (ptrdiff_t p = 0; p < q; p++) {
                    first -= row[p] * x[2 * p];
                    second -= row[p] * x[2 * p + 1];
                }
                x[2 * q] = inverse[q] * first;
                x[2 * q + 1] = inverse[q] * second;
            }
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t q = 0; q < wide; q++)
                    below[r * lda + q] = pack[q * WIDTH + r];
        }
        ptrdiff_t rest = size - from - wide;
        if (rest > 0) {
            R *below = a + (from + wide) * lda + from;
            FN(add_square)(below + wide, lda, below, lda, rest, wide, -1, pack);
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
