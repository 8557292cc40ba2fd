/* The group-Lasso SVM or logistic regression of one task, and the gradients of a loss of
   its solution.

   With rows x_i of F, targets y_i, row weights s_i, the linear term c_i = 1 - y_i + o_i
   (o the offset of the scores) and thresholds t_g = lambda1 w_g:

       max_A  <C, A> - 1/(2 lambda2) ||BST(V, t)||^2,   V = F'(SY - A),
       a_i in the simplex of size s_i,                  A = S B

   Logistic regression has C = O and, in D, s_i times the entropy of b_i in addition.

   Arrays of the caller are row-major and hold `float` if `single`, else `double`. */

#ifndef SKCM_KERNEL_H
#define SKCM_KERNEL_H

#include <stddef.h>

enum { SOLVED = 0, STUCK = 1, OUT_OF_STEPS = 2, REFUSED = 3, NO_MEMORY = 4 };

/* LAPACK's dsyevd, of which the caller owns the address. */
typedef void (*Eigen)(char *, char *, int *, double *, int *, double *, double *,
                      int *, int *, int *, int *);

typedef struct {
    ptrdiff_t n_rows, n_features, n_classes, n_groups;
    int single, logistic;
    const void *features; /* (n_rows, n_features) */
    const void *targets;  /* (n_rows, n_classes) */
    const void *linear;   /* (n_rows, n_classes) */
    const void *weights;  /* (n_rows,) */
    const double *thresholds; /* (n_groups,) */
    const int *groups;        /* (n_features,); NULL: every feature is a group */
    double lambda2;
} Data;

typedef struct {
    const void *start; /* (n_rows, n_classes) or NULL */
    double tol;
    int max_steps;
    void *coef; /* (n_features, n_classes) */
    void *dual; /* (n_rows, n_classes) */
    double gap, relative_gap, rounding;
    int n_steps, n_gradient_steps, n_factors, n_rounds;
} Forward;

typedef struct {
    const void *gradient; /* (n_features, n_classes) */
    const void *dual;     /* (n_rows, n_classes) */
    Eigen eigen;
    void *d_features;     /* (n_rows, n_features) */
    void *d_linear;       /* (n_rows, n_classes) */
    void *d_weights;      /* (n_rows,) */
    double d_lambda1, d_lambda2;
    const double *group_weights; /* (n_groups,) or NULL */
} Adjoint;

/* One output of a regression with a Lasso and a ridge. */
typedef struct {
    ptrdiff_t n_rows, n_features;
    int single;
    const void *features; /* (n_rows, n_features) */
    const void *targets;  /* (n_rows,) */
    const void *weights;  /* (n_rows,) */
    double lambda1, lambda2;
    void *coef; /* (n_features,) */
    int n_steps;
} LassoTask;

#define DECLARE(isa)                                                                \
    int forward_##isa(const Data *, Forward *);                                     \
    int adjoint_##isa(const Data *, Adjoint *);                                     \
    int lasso_##isa(LassoTask *);

DECLARE(base)
DECLARE(avx2)
DECLARE(avx512)

#endif
