/* Products of thin matrices, for one type R of numbers; rows are padded to WIDTH. */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)

#ifdef __GNUC__
typedef R FN(Vec)
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(R)), may_alias));
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(R)))
#else
typedef R FN(Vec);
#define LANES 1
#endif
#define V FN(Vec)
#define WIDTH (2 * LANES)

/* out[l][j .. j + WIDTH) = sum_k a[l][k] x[k][j ..) for `size` classes l. */
static INLINE void FN(thin_block)(const int size, const R *a, ptrdiff_t lda,
                                  const R *x, ptrdiff_t ldx, const int *index,
                                  ptrdiff_t n_terms, R *out, ptrdiff_t ldo)
{
    V sum[8][2];
    for (int l = 0; l < size; l++)
        sum[l][0] = sum[l][1] = (V){0};
    for (ptrdiff_t q = 0; q < n_terms; q++) {
        ptrdiff_t k = index ? index[q] : q;
        const V *row = (const V *)(x + k * ldx);
        V first = row[0], second = row[1];
        for (int l = 0; l < size; l++) {
            R factor = a[l * lda + k];
            sum[l][0] += factor * first;
            sum[l][1] += factor * second;
        }
    }
    for (int l = 0; l < size; l++) {
        V *row = (V *)(out + l * ldo);
        row[0] = sum[l][0];
        row[1] = sum[l][1];
    }
}

/* out = A X over the terms k of `index` (NULL: all): A (classes, k), X (k, width). */
static void FN(thin)(const R *a, ptrdiff_t lda, ptrdiff_t n_classes, const R *x,
                     ptrdiff_t ldx, const int *index, ptrdiff_t n_terms,
                     ptrdiff_t width, R *out, ptrdiff_t ldo)
{
    for (ptrdiff_t j = 0; j < width; j += WIDTH)
        for (ptrdiff_t l = 0; l < n_classes; l += 8) {
            const R *factors = a + l * lda;
            R *to = out + l * ldo + j;
            ptrdiff_t left = n_classes - l;
#define CASE(size)                                                                  \
    case size:                                                                      \
        FN(thin_block)(size, factors, lda, x + j, ldx, index, n_terms, to, ldo);    \
        break;
            switch (left < 8 ? left : 8) {
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
            }
#undef CASE
        }
}

/* out[q][i] = rows[i][q] for i < n_rows and q < n_columns, and 0 up to ldo, a multiple of
   8; `index` names the columns that are read (NULL: all). Lines of the cache are filled
   at once. */
static void FN(transpose)(const R *rows, ptrdiff_t ldr, ptrdiff_t n_rows,
                          const int *index, ptrdiff_t n_columns, R *out, ptrdiff_t ldo)
{
    for (ptrdiff_t from = 0; from < ldo; from += 8) {
        const ptrdiff_t left = n_rows - from, tall = left < 8 ? (left > 0 ? left : 0) : 8;
        const R *read = rows + from * ldr;
        R *to = out + from;
        R line[8] = {0};
        for (ptrdiff_t q = 0; q < n_columns; q++) {
            const R *restrict column = read + (index ? index[q] : q);
            R *restrict full = to + q * ldo;
            if (tall == 8) {
                for (ptrdiff_t i = 0; i < 8; i++)
                    full[i] = column[i * ldr];
            } else {
                for (ptrdiff_t i = 0; i < tall; i++)
                    line[i] = column[i * ldr];
                memcpy(full, line, sizeof line);
            }
        }
    }
}

static R FN(dot)(const R *a, const R *b, ptrdiff_t size)
{
    R sum = 0;
    for (ptrdiff_t k = 0; k < size; k++)
        sum += a[k] * b[k];
    return sum;
}

/* Norm of every group of features of V (classes, features). */
static void FN(group_norms)(const R *v, ptrdiff_t ldv, ptrdiff_t n_classes,
                            ptrdiff_t n_features, const int *groups,
                            ptrdiff_t n_groups, R *restrict norms)
{
    for (ptrdiff_t g = 0; g < n_groups; g++)
        norms[g] = 0;
    for (ptrdiff_t l = 0; l < n_classes; l++) {
        const R *row = v + l * ldv;
        if (groups)
            for (ptrdiff_t j = 0; j < n_features; j++)
                norms[groups[j]] += row[j] * row[j];
        else
            for (ptrdiff_t j = 0; j < n_features; j++)
                norms[j] += row[j] * row[j];
    }
    for (ptrdiff_t g = 0; g < n_groups; g++)
        norms[g] = SQRT(norms[g]);
}

/* Rows a_i = sums[i] times the nearest point of the simplex (Michelot's iterations,
   all rows at once); A is (classes, rows). */
static void FN(project)(R *restrict a, ptrdiff_t lda, ptrdiff_t n_classes,
                        ptrdiff_t n_rows, const R *restrict sums, R *restrict work)
{
    R *level = work, *total = work + lda, *count = work + 2 * lda;
    for (ptrdiff_t i = 0; i < n_rows; i++)
        level[i] = -sums[i];
    for (ptrdiff_t l = 0; l < n_classes; l++)
        for (ptrdiff_t i = 0; i < n_rows; i++)
            level[i] += a[l * lda + i];
    for (ptrdiff_t i = 0; i < n_rows; i++)
        level[i] /= n_classes;
    /* Every round drops an entry of a row or is the last. */
    for (ptrdiff_t round = 1; round < n_classes; round++) {
        int moved = 0;
        for (ptrdiff_t i = 0; i < n_rows; i++)
            total[i] = -sums[i], count[i] = 0;
        for (ptrdiff_t l = 0; l < n_classes; l++)
            for (ptrdiff_t i = 0; i < n_rows; i++) {
                R entry = a[l * lda + i];
                R in = entry > level[i] ? (R)1 : (R)0;
                total[i] += in * entry;
                count[i] += in;
            }
        for (ptrdiff_t i = 0; i < n_rows; i++) {
            R next = total[i] / (count[i] > 0 ? count[i] : (R)1);
            next = count[i] > 0 ? next : level[i];
            moved |= next > level[i];
            level[i] = next;
        }
        if (!moved)
            break;
    }
    for (ptrdiff_t l = 0; l < n_classes; l++)
        for (ptrdiff_t i = 0; i < n_rows; i++) {
            R entry = a[l * lda + i] - level[i];
            a[l * lda + i] = entry > 0 ? entry : 0;
        }
}
