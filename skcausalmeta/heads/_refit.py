"""A group Lasso that only chooses: its features once more, without its shrinkage."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..penalties import GroupLasso
from ..solvers import Problem


def on_chosen(problem: Problem, coef: Tensor) -> Problem:
    """The problem without group Lasso on the features that a solution of it uses.

    Features outside are 0 in the rows of a task, which a ridge leaves at weights of 0.
    Columns without a group penalty, such as that of the intercept, stay.

    Parameters
    ----------
    problem : Problem
        With the penalty `GroupLasso`.
    coef : Tensor of shape (n_tasks, n_features, n_classes)
        Solution of it.
    """
    used, penalty = (coef != 0).any(-1), problem.penalty
    if penalty.group_weights is not None:
        factors = penalty.group_weights.expand(len(used), -1)
        used = used | (penalty.per_feature(factors) == 0)
    features = problem.features * used[:, None].to(problem.features)
    ridge = GroupLasso(torch.zeros_like(penalty.lambda1), penalty.lambda2)
    return replace(problem, features=features, penalty=ridge)
