"""A group Lasso that only chooses: its features once more, without its shrinkage."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..penalties import GroupLasso
from ..solvers import Problem


class Chosen(NamedTuple):
    """A problem on some of the features of another one."""

    problem: Problem
    columns: Tensor | None  # (n_columns,), which they are; None: all
    n_features: int = 0  # of the other problem

    def spread(self, coef: Tensor) -> Tensor:
        """Weights of all features, 0 for those that are left out."""
        if self.columns is None:
            return coef
        n_tasks, _, n_classes = coef.shape
        zeros = coef.new_zeros(n_tasks, self.n_features, n_classes)
        return zeros.index_copy(1, self.columns, coef)


def on_chosen(problem: Problem, coef: Tensor, intercept: bool) -> Chosen:
    """The problem without group Lasso on the features that a solution of it uses.

    Features outside are 0 in the rows of a task, which a ridge leaves at weights of
    0; those that no task uses are left out.

    Parameters
    ----------
    problem : Problem
        With the penalty `GroupLasso`.
    coef : Tensor of shape (n_tasks, n_features, n_classes)
        Solution of it.
    intercept : bool
        Whether the last column carries the intercept, which is always kept.
    """
    used = (coef != 0).any(-1)
    if intercept:
        used[:, -1] = True
    columns = used.any(0).nonzero()[:, 0]
    if len(columns) == 0:  # a problem needs a column
        columns = torch.zeros(1, dtype=torch.int64, device=used.device)
    kept = used[:, columns].to(problem.features)
    features = problem.features[:, :, columns] * kept[:, None]
    rest = replace(without_lasso(problem), features=features)
    return Chosen(rest, columns, used.shape[1])


def without_lasso(problem: Problem) -> Problem:
    """The problem with its ridge alone."""
    nothing = torch.zeros_like(problem.penalty.lambda1)
    return replace(problem, penalty=GroupLasso(nothing, problem.penalty.lambda2))
