"""A Lasso that only chooses: ridge regression on its features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..solvers import Solution, ridge_certificate, solve_ridge
from ._lasso_problem import LassoData

# In units of the mean squared row norm: least squares alone have no certificate.
_LEAST_RIDGE = 1e-10


class SolvedAgain(NamedTuple):
    """Solution on the chosen features, and its objective, all outputs together."""

    solution: Solution
    primal: Tensor


def ridge_on_chosen(data: LassoData, coef: Tensor) -> Tensor:
    """Ridge regression on the features that a solution uses, differentiable.

    Every output is a problem by itself. Features that it does not use are 0 in its
    rows, which a ridge leaves at weights of 0.

    Parameters
    ----------
    data : LassoData
        Problem; without a ridge the second one has a small one.
    coef : Tensor of shape (n_tasks, n_features, n_outputs)
        Solution of it.

    Returns
    -------
    Tensor of shape (n_tasks, n_features, n_outputs)
    """
    return _together(solve_ridge(*_outputs(data, coef)), coef)


def solve_again(data: LassoData, coef: Tensor) -> SolvedAgain:
    """What `ridge_on_chosen` returns, with its certificate."""
    outputs = _outputs(data, coef)
    found = solve_ridge(*outputs)
    proof = ridge_certificate(*outputs, found)
    n_tasks, _, n_outputs = coef.shape
    gaps, primals = (
        part.view(n_tasks, n_outputs) for part in (proof.gap, proof.primal)
    )
    tiny = torch.finfo(gaps.dtype).tiny
    solution = Solution(
        _together(found, coef),
        _together(proof.dual, coef),
        gaps.sum(-1),
        (gaps / primals.clamp_min(tiny)).amax(-1),
        torch.ones(n_tasks, dtype=torch.int64, device=coef.device),
    )
    return SolvedAgain(solution, primals.sum())


def _outputs(data: LassoData, coef: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Problems of one output each, task by task, on the features that it uses."""
    n_outputs = coef.shape[-1]
    used = (coef != 0).mT.to(data.features)  # (n_tasks, n_outputs, n_features)
    features = data.features[:, None] * used[:, :, None]
    targets = data.targets.mT[..., None]
    squares = (data.weights * data.features.square().sum(-1)).sum(-1)
    least = _LEAST_RIDGE * torch.where(squares > 0, squares, 1.0)
    ridge = torch.maximum(data.lambda2, least)
    weights, lambda2 = (
        part.repeat_interleave(n_outputs, dim=0) for part in (data.weights, ridge)
    )
    return features.flatten(0, 1), targets.flatten(0, 1), weights, lambda2


def _together(parts: Tensor, coef: Tensor) -> Tensor:
    """Columns of problems of one output each, as those of their tasks."""
    n_tasks, _, n_outputs = coef.shape
    return parts.view(n_tasks, n_outputs, -1).mT
