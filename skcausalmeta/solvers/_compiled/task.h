/* What the phases of a solution share: a task without its rows of weight 0, some
   columns of it, and a face of its simplices. Matrices of classes times rows are
   classes first, so that loops run over rows. */

#ifndef SKCM_TASK_H
#define SKCM_TASK_H

#define PAD 32 /* numbers; a multiple of every WIDTH */
#define PADDED(size) (((size) + PAD - 1) / PAD * PAD)

typedef struct {
    ptrdiff_t n, ldn, n_classes; /* rows, their padded number */
    int *row;                    /* numbers of the rows in the data */
    double *sums;                /* s, (ldn,) */
    double usual;                /* the geometric mean of s */
    double *linear, *fixed;      /* C and SY, (classes, ldn) */
    double lambda2;              /* in units of `unit`^2, as thresholds of `unit` */
    double unit;                 /* a power of 2: rows / unit have norms near 1 */
    int logistic;                /* the loss; else the hinge */
} Task;

/* Systems are formed in single precision, unless the tolerance is below the first
   value or lambda2 outside of the others. */
#define COARSE_TOL 1e-8
#define LEAST_SCALE 1e-8
#define MOST_SCALE 1e8
/* Largest face at first and at last; beyond it, the rows that lack most go first, and
   gradient steps for all rows follow. */
#define LARGEST_FACE 700
#define LARGEST_OF_ALL 1400
/* Newton steps without progress before systems are formed in double precision. */
#define COARSE_STEPS 2

/* Columns in use. With `gram`, rows is F F' (n, ldn) and there are no columns. */
typedef struct {
    ptrdiff_t d, ldd, n_groups;
    int gram;
    const int *groups;        /* (d,), NULL: every column is a group */
    const double *thresholds; /* (n_groups,) */
    double *rows, *cols;      /* (n, ldd) and (d, ldn) */
} Part;

/* Entries of A that may move, row by row; the largest of every row is its pivot. */
typedef struct {
    ptrdiff_t n_rows, n_entries, size; /* size = n_entries - n_rows */
    int *row, *first, *pivot;          /* (n_rows), (n_rows + 1), (n_rows) */
    int *slot_row, *cls;               /* (n_entries): number in `row`, class */
    int *place;                        /* (n_entries): coordinate, -1: a pivot */
    int *entry;                        /* (size): entry of a coordinate */
} Face;

/* Columns that are on: those with a threshold, which bend W(V), then the free ones. */
typedef struct {
    int *on;
    ptrdiff_t n_on, n_bent, n_columns; /* n_columns: groups of the bent ones */
    int *column;                       /* (n_groups,): number among them; with groups */
} Active;

static int find_active(const Part *part, const double *norms, Active *active,
                           Arena *arena)
{
    const double *thresholds = part->thresholds;
    int *on = arena_take(arena, (part->d + 1) * sizeof(int));
    ptrdiff_t n_on = 0, n_columns = 0;
    active->on = on;
    active->column = arena_take(arena, part->n_groups * sizeof(int));
    if (arena->failed)
        return 0;
    if (part->groups) {
        for (ptrdiff_t g = 0; g < part->n_groups; g++)
            active->column[g] = norms[g] > thresholds[g] && thresholds[g] > 0
                                    ? (int)n_columns++
                                    : -1;
        for (ptrdiff_t j = 0; j < part->d; j++)
            if (active->column[part->groups[j]] >= 0)
                on[n_on++] = (int)j;
    } else {
        for (ptrdiff_t j = 0; j < part->d; j++) {
            on[n_on] = (int)j;
            n_on += (norms[j] > thresholds[j]) & (thresholds[j] > 0);
        }
        n_columns = n_on;
    }
    active->n_bent = n_on;
    active->n_columns = n_columns;
    for (ptrdiff_t j = 0; j < part->d; j++) {
        on[n_on] = (int)j;
        n_on += thresholds[part->groups ? part->groups[j] : j] == 0;
    }
    active->n_on = n_on;
    return 1;
}

#endif
