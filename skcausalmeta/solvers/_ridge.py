"""Ridge regression of many tasks at once, in closed form and differentiable."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..exceptions import InvalidInputError
from ..implicit import solve_psd


def solve_ridge(
    features: Tensor, targets: Tensor, weights: Tensor, lambda2: float | Tensor
) -> Tensor:
    """Weights of weighted ridge regressions without intercept.

    For features F (rows x_i), targets Y, S = diag(s) ::

        W = argmin_W  1/2 sum_i s_i ||W'x_i - y_i||^2 + lambda2 / 2 ||W||_F^2
          = (F'SF + lambda2 I)^-1 F'SY            if n_samples >= n_features
          = F' (FF' + lambda2 S^-1)^-1 Y          if n_samples <  n_features

    so the smaller of the two systems is solved, by Cholesky factors; one that is
    singular to rounding goes to `solve_psd`. The second form holds for weights of
    0 in the limit, which is what is computed. Differentiable any number of
    times in all four inputs, also at weights of 0.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_outputs)
        Targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights >= 0; a row of weight 0 is not there.
    lambda2 : float or Tensor of shape () or (n_tasks,)
        Strength of the ridge, > 0.

    Returns
    -------
    Tensor of shape (n_tasks, n_features, n_outputs)
        Weights W.

    Raises
    ------
    InvalidInputError
        If `lambda2` is not positive, or neither one number nor one per task.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.solvers import solve_ridge
    >>> features = torch.tensor([[[1.0], [2.0]]])
    >>> targets = torch.tensor([[[1.0], [4.0]]])
    >>> solve_ridge(features, targets, torch.ones(1, 2), 4.0)
    tensor([[[1.]]])
    """
    lambda2 = positive_per_task(lambda2, "lambda2", features)
    if features.shape[1] < features.shape[2]:
        gram = features @ features.mT
        return features.mT @ _DampedSolve.apply(gram, weights, lambda2, targets)
    weighted = weights[..., None] * features
    gram = features.mT @ weighted
    ones = torch.ones_like(gram[..., 0])
    return _DampedSolve.apply(gram, ones, lambda2, weighted.mT @ targets)


class RidgeCertificate(NamedTuple):
    """How far weights are from the optimum of their ridge regression.

    Parameters
    ----------
    dual : Tensor of shape (n_tasks, n_samples, n_outputs)
        Dual point R.
    primal : Tensor of shape (n_tasks,)
        P(W).
    gap : Tensor of shape (n_tasks,)
        P(W) - D(R).
    relative_gap : Tensor of shape (n_tasks,)
        ``gap / P(W)``.
    residual : Tensor of shape (n_tasks,)
        ``||lambda2 W - F'R||_F / (||S^1/2 F||_F ||S^1/2 Y||_F)``.

    See Also
    --------
    ridge_certificate : What computes it.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.solvers import RidgeCertificate, ridge_certificate
    >>> one = torch.ones(1, 1, 1)
    >>> found = ridge_certificate(one, one, torch.ones(1, 1), 1.0, one)
    >>> isinstance(found, RidgeCertificate), found.primal.item(), found.gap.item()
    (True, 0.5, 0.5)
    """

    dual: Tensor
    primal: Tensor
    gap: Tensor
    relative_gap: Tensor
    residual: Tensor


def ridge_certificate(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    lambda2: float | Tensor,
    coef: Tensor,
) -> RidgeCertificate:
    """Dual point, gap and residual of any weights W.

    The dual of ridge regression, over R with rows of 0 where s_i = 0, is ::

        max_R  <R, Y> - sum_i ||R_i||^2 / (2 s_i) - ||F'R||_F^2 / (2 lambda2)

    with W = F'R / lambda2 at the optimum. The residuals R = S (Y - FW) are
    feasible for it, and there the gap is a square, free of cancellation ::

        P(W) - D(R) = ||lambda2 W - F'R||_F^2 / (2 lambda2)

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_outputs)
        Targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights >= 0.
    lambda2 : float or Tensor of shape () or (n_tasks,)
        Strength of the ridge, > 0.
    coef : Tensor of shape (n_tasks, n_features, n_outputs)
        Weights W.

    Returns
    -------
    RidgeCertificate
        Tuple of ``dual``, ``primal``, ``gap``, ``relative_gap`` and ``residual``.

    Raises
    ------
    InvalidInputError
        If `lambda2` is not positive, or neither one number nor one per task.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.solvers import ridge_certificate
    >>> features = torch.tensor([[[1.0], [2.0]]])
    >>> targets = torch.tensor([[[1.0], [4.0]]])
    >>> weights = torch.ones(1, 2)
    >>> ridge_certificate(features, targets, weights, 4.0, torch.zeros(1, 1, 1)).gap
    tensor([10.1250])
    >>> ridge_certificate(features, targets, weights, 4.0, torch.ones(1, 1, 1)).gap
    tensor([0.])
    """
    lambda2 = positive_per_task(lambda2, "lambda2", features)
    column = weights[..., None]
    errors = targets - features @ coef
    dual = column * errors
    primal = (dual * errors).sum((-2, -1)) + lambda2 * coef.square().sum((-2, -1))
    stationarity = lambda2[:, None, None] * coef - features.mT @ dual
    squares = stationarity.square().sum((-2, -1))
    gap = squares / (2 * lambda2)
    terms = [(column * part.square()).sum((-2, -1)) for part in (features, targets)]
    tiny = torch.finfo(features.dtype).tiny
    return RidgeCertificate(
        dual,
        primal / 2,
        gap,
        gap / (primal / 2).clamp_min(tiny),
        squares.sqrt() / (terms[0].sqrt() * terms[1].sqrt()).clamp_min(tiny),
    )


def positive_per_task(value: float | Tensor, name: str, features: Tensor) -> Tensor:
    """A positive parameter as one number for every task.

    Parameters
    ----------
    value : float or Tensor of shape () or (n_tasks,)
        The parameter, > 0.
    name : str
        Its name, for the message.
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Features of the tasks, which tell their number, dtype and device.

    Returns
    -------
    Tensor of shape (n_tasks,)
        Differentiable in `value`.

    Raises
    ------
    InvalidInputError
        If a number is not positive, or there is neither one nor one per task.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.solvers import positive_per_task
    >>> positive_per_task(0.5, "ridge_reg", torch.zeros(3, 5, 2))
    tensor([0.5000, 0.5000, 0.5000])
    """
    numbers = torch.as_tensor(value, dtype=features.dtype, device=features.device)
    n_tasks = features.shape[0]
    if numbers.shape not in ((), (n_tasks,)) or not bool((numbers > 0).all()):
        raise InvalidInputError(
            f"{name} must be > 0: one number, or a tensor with one for every task. Got "
            f"{numbers.tolist()} for {n_tasks} tasks."
        )
    return numbers.expand(n_tasks)


class _DampedSolve(torch.autograd.Function):
    """X = (K + lambda2 S^-1)^-1 B for positive semi-definite K.

    Written as ``S^1/2 (S^1/2 K S^1/2 + lambda2 I)^-1 S^1/2 B`` it is symmetric and
    defined for weights of 0. The square root has no gradient there, but X has:
    with Z = (K + lambda2 S^-1)^-1 G for the incoming gradient G, ::

        dB = Z,   dK = -Z X',   ds_i = lambda2 <z_i / s_i, x_i / s_i>,
        dlambda2 = -<Z, S^-1 X>,   S^-1 X = (B - K X) / lambda2

    Z is a solution of the same kind, so the gradient has gradients in turn.
    """

    @staticmethod
    def forward(
        ctx: Any, gram: Tensor, weights: Tensor, lambda2: Tensor, right: Tensor
    ) -> Tensor:
        root = weights.sqrt()[..., None]
        matrix = root * gram * root.mT
        matrix.diagonal(dim1=-2, dim2=-1).add_(lambda2[:, None])
        solution = root * _solve_columns(matrix, root * right)
        ctx.save_for_backward(gram, weights, lambda2, right, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gram, weights, lambda2, right, solution = ctx.saved_tensors
        adjoint = _DampedSolve.apply(gram, weights, lambda2, gradient)
        solution_rows = _over_weights(gram, weights, lambda2, right, solution)
        adjoint_rows = _over_weights(gram, weights, lambda2, gradient, adjoint)
        return (
            -adjoint @ solution.mT,
            lambda2[:, None] * (adjoint_rows * solution_rows).sum(-1),
            -(adjoint * solution_rows).sum((-2, -1)),
            adjoint,
        )


def _over_weights(
    gram: Tensor, weights: Tensor, lambda2: Tensor, right: Tensor, solution: Tensor
) -> Tensor:
    """S^-1 X; by subtraction only where the weight is 0, for it cancels digits."""
    there = weights[..., None] > 0
    quotient = solution / torch.where(there, weights[..., None], 1.0)
    limit = (right - gram @ solution) / lambda2[:, None, None]
    return torch.where(there, quotient, limit)


def _solve_columns(matrix: Tensor, right: Tensor) -> Tensor:
    """A^-1 B for symmetric positive definite A, (n_tasks, m, n_columns)."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(right, factor)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    # A pivot that rounding has eaten leaves digits that mean nothing.
    pivots = factor.diagonal(dim1=-2, dim2=-1).square() / diagonal
    noise = 10 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
    singular = (info > 0) | ~(pivots > noise).all(-1)
    if bool(singular.any()):
        n_columns = right.shape[-1]
        columns = right[singular].mT.flatten(0, 1)
        repeated = matrix[singular].repeat_interleave(n_columns, dim=0)
        found = solve_psd(repeated, columns).unflatten(0, (-1, n_columns)).mT
        solution[singular] = found
    return solution
