"""The Lasso regression problem in standard form, with its implicit gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..exceptions import InvalidInputError
from ..implicit import implicit_root, solve_psd
from ..losses import Squared
from ..penalties import ElasticNet, Lasso
from ..solvers import Problem, Solution
from ._inputs import centred

Solver = Callable[[Problem], Solution]


@dataclass(frozen=True)
class LassoSettings:
    """Regularisation of a Lasso regression, as its docstring describes it."""

    lasso_reg: float | Tensor
    ridge_reg: float | Tensor
    relative: bool
    reg_gradient: bool
    fit_intercept: bool
    relative_ridge: bool = True


@dataclass(frozen=True)
class LassoData:
    """Centred data of a batch of tasks, row weights that sum to 1, strengths.

    `lambda1` has shape (n_tasks, n_outputs), `lambda2` (n_tasks,), the means
    (n_tasks, 1, n_features or n_outputs).
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    lambda1: Tensor
    lambda2: Tensor
    feature_mean: Tensor
    target_mean: Tensor

    def problem(self) -> Problem:
        """What a solver is given."""
        return _problem(
            self.features, self.targets, self.weights, self.lambda1, self.lambda2
        )

    def intercept(self, coef: Tensor) -> Tensor:
        """Intercepts (n_tasks, n_outputs) that belong to the weights."""
        return (self.target_mean - self.feature_mean @ coef)[:, 0]


def build_data(
    features: Tensor, targets: Tensor, weights: Tensor, settings: LassoSettings
) -> LassoData:
    """Centre the data and put the strengths in their units; differentiable.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_samples, n_features)
        Rows of the tasks.
    targets : Tensor of shape (n_tasks, n_samples, n_outputs)
        Targets.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.
    settings : LassoSettings
        Regularisation.

    Returns
    -------
    LassoData

    Raises
    ------
    InvalidInputError
        If a strength is negative or not finite, if a task has neither Lasso nor
        ridge, or if some tasks have a ridge and others have none.
    """
    weights = weights / weights.sum(-1, keepdim=True)
    feature_mean = features.new_zeros(len(features), 1, features.shape[-1])
    target_mean = targets.new_zeros(len(targets), 1, targets.shape[-1])
    if settings.fit_intercept:
        features, feature_mean = centred(features, weights)
        targets, target_mean = centred(targets, weights)
    lasso_reg = _strength(settings.lasso_reg, targets.new_ones(targets.shape[::2]))
    ridge_reg = _strength(settings.ridge_reg, targets.new_ones(len(targets)))
    _check_strengths(lasso_reg.detach(), ridge_reg.detach())
    if settings.relative:
        largest, squares = _units(features, targets, weights)
        if not settings.reg_gradient:
            largest, squares = largest.detach(), squares.detach()
        lasso_reg = lasso_reg * largest
        if settings.relative_ridge:
            ridge_reg = ridge_reg * squares
    return LassoData(
        features, targets, weights, lasso_reg, ridge_reg, feature_mean, target_mean
    )


def solve_layer(data: LassoData, solver: Solver) -> Tensor:
    """W of every task, differentiable in everything the problem holds.

    Returns
    -------
    Tensor of shape (n_tasks, n_features, n_outputs)
    """

    def solve(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        coef = solver(_problem(*inputs)).coef
        return coef, coef.detach()  # a state that is the root would hold itself

    return implicit_root(
        solve,
        lasso_adjoint,
        data.features,
        data.targets,
        data.weights,
        data.lambda1,
        data.lambda2,
    )


def lasso_adjoint(
    gradient: Tensor,
    coef: Tensor,
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    lambda1: Tensor,
    lambda2: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a loss in the data and strengths, given the gradient G in W.

    For an output with weights w, used features J and signs t, the optimality
    condition ``F_J'S(y - F w) - lambda1 t - lambda2 w_J = 0`` holds in a
    neighbourhood, unused weights stay 0, and its derivative gives, with ::

        (F_J'S F_J + lambda2 I) u_J = G_J,    u = 0 elsewhere,

        dF = S (y - F w) u' - S F u w',       dy = S F u,
        ds_i = (y - F w)_i (F u)_i,           dlambda1 = - t'u,   dlambda2 = - w'u

    Where used features are linearly dependent, w is one of many solutions; the
    least-norm u picks a finite gradient.

    Parameters
    ----------
    gradient, coef : Tensor of shape (n_tasks, n_features, n_outputs)
        Gradient G and solution W.
    features, targets, weights, lambda1, lambda2 : Tensor
        The problem that W solves.

    Returns
    -------
    tuple of Tensor
        Gradients in features, targets, weights, lambda1 and lambda2.
    """
    moved = _solve_on_support(gradient, coef, features, weights, lambda2)
    rows = weights[..., None]
    lacking, shift = targets - features @ coef, features @ moved
    d_targets = rows * shift
    d_features = (rows * lacking) @ moved.mT - d_targets @ coef.mT
    return (
        d_features,
        d_targets,
        (lacking * shift).sum(-1),
        -(coef.sign() * moved).sum(-2),
        -(coef * moved).sum((-2, -1)),
    )


def _solve_on_support(
    gradient: Tensor, coef: Tensor, features: Tensor, weights: Tensor, lambda2: Tensor
) -> Tensor:
    """u of `lasso_adjoint`, (n_tasks, n_features, n_outputs)."""
    n_tasks, _, n_outputs = coef.shape
    used = coef != 0
    size = max(1, int(used.sum(-2).max()))
    # Used features first; the rest of the shorter supports is masked.
    order = used.to(torch.int8).argsort(dim=-2, descending=True, stable=True)
    order = order[:, :size].mT  # (n_tasks, n_outputs, size)
    mask = used.mT.gather(-1, order).to(coef.dtype)
    task = torch.arange(n_tasks, device=order.device)[:, None, None]
    columns = features.mT[task, order] * mask[..., None]
    system = (columns * weights[:, None, None, :]) @ columns.mT
    diagonal = system.diagonal(dim1=-2, dim2=-1)
    diagonal += lambda2[:, None, None] * mask
    # Padding in the units of the rest, so that no part looks singular beside it.
    padding = diagonal.amax(-1, keepdim=True)
    diagonal += (1.0 - mask) * torch.where(padding > 0, padding, 1.0)
    right = gradient.mT.gather(-1, order) * mask
    found = solve_psd(system.flatten(0, 1), right.flatten(0, 1)) * mask.flatten(0, 1)
    found = found.view(n_tasks, n_outputs, size)
    return torch.zeros_like(gradient.mT).scatter(-1, order, found).mT


def _problem(
    features: Tensor, targets: Tensor, weights: Tensor, lambda1: Tensor, lambda2: Tensor
) -> Problem:
    ridge = bool((lambda2 > 0).all())
    penalty = ElasticNet(lambda1, lambda2) if ridge else Lasso(lambda1)
    return Problem(features, targets, weights, Squared(), penalty)


def _units(features: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """max_j |F_j'Sy| of every output and the mean squared row norm."""
    correlation = features.mT @ (weights[..., None] * targets)
    squares = (weights * features.square().sum(-1)).sum(-1)
    # A task without any signal keeps its unit, so that the ridge stays positive.
    squares = torch.where(squares > 0, squares, 1.0)
    return correlation.abs().amax(-2), squares


def _strength(value: float | Tensor, ones: Tensor) -> Tensor:
    """A number, or one a task, or one an output of every task, spread over `ones`."""
    strength = torch.as_tensor(value, dtype=ones.dtype, device=ones.device)
    per_task = strength.ndim == 1 and ones.ndim == 2
    return (strength[:, None] if per_task else strength) * ones


def _check_strengths(lasso_reg: Tensor, ridge_reg: Tensor) -> None:
    both = torch.cat([lasso_reg.flatten(), ridge_reg])
    if not bool(((both >= 0) & torch.isfinite(both)).all()):
        raise InvalidInputError(
            "lasso_reg and ridge_reg must be finite and >= 0. Got lasso_reg="
            f"{lasso_reg.flatten().tolist()}, ridge_reg={ridge_reg.tolist()}."
        )
    ridge = ridge_reg > 0
    if bool(ridge.any()) and not bool(ridge.all()):
        raise InvalidInputError(
            "ridge_reg must be 0 for all tasks or > 0 for all tasks. Got "
            f"{ridge_reg.tolist()}; give the others a small ridge."
        )
    if not bool(ridge.all()) and not bool((lasso_reg > 0).all()):
        raise InvalidInputError(
            "lasso_reg and ridge_reg must not both be 0, because least squares has "
            "no certificate of this kind. Got lasso_reg=0 and ridge_reg=0; make one "
            "of them > 0."
        )
