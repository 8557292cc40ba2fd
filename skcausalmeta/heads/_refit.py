"""A group Lasso that only chooses: its features once more, without its shrinkage."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..penalties import GroupLasso
from ..solvers import Problem


def on_chosen(problem: Problem, coef: Tensor, intercept: bool) -> Problem:
    """The problem without group Lasso on the features that a solution of it uses.

    Features outside are 0 in the rows of a task, which a ridge leaves at weights of 0.

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
    features = problem.features * used[:, None].to(problem.features)
    nothing = torch.zeros_like(problem.penalty.lambda1)
    ridge = GroupLasso(nothing, problem.penalty.lambda2)
    return replace(problem, features=features, penalty=ridge)
