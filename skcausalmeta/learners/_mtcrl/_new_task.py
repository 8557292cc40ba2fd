"""A new task solved on the features of trained modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from ...exceptions import InvalidInputError
from ...heads import GroupLassoSettings, build_group_lasso_problem
from ...losses import Logistic, Squared
from ...solvers import Problem, Solution, solve_auto, solve_proximal_gradient
from .._solved_task import SolvedTask
from .._task_batches import by_way
from ._targets import TargetKind, known_labels, read_kind

# Relative strength of the ridge that makes the problem strictly convex.
_RIDGE = 0.1
# Value of the constant feature: large, so that the ridge hardly shrinks its weight.
_INTERCEPT = 3.0
_TOL = 1e-10
_MAX_ITER = 20_000
# Rows times classes from which on gradient steps are cheaper than Newton's.
_LARGE = 2000


class ModuleFeatures(NamedTuple):
    """Features of modules in the units of a new task.

    Modules are scaled as wholes, so that a rotation of the features of a module
    changes nothing.
    """

    center: NDArray[np.float64]  # (n_modules * h,)
    scale: NDArray[np.float64]  # (n_modules,)

    @classmethod
    def of(cls, features: NDArray[np.float64], n_modules: int) -> ModuleFeatures:
        """Take centre and root mean square of training features (n, n_modules * h)."""
        center = features.mean(axis=0)
        squares = ((features - center) ** 2).mean(axis=0)
        scale = np.sqrt(squares.reshape(n_modules, -1).mean(axis=1))
        return cls(center, np.where(scale > 0, scale, 1.0))

    @property
    def groups(self) -> NDArray[np.int64]:
        """Module of every feature."""
        width = len(self.center) // len(self.scale)
        return np.repeat(np.arange(len(self.scale)), width)

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return features of any rows in these units."""
        return (features - self.center) / self.scale[self.groups]


@dataclass(frozen=True, eq=False, kw_only=True)
class RoutedTask(SolvedTask):
    """A task solved on the features of the frozen modules.

    Attributes
    ----------
    kind : TargetKind
        Kind of its targets.
    coef : ndarray of shape (n_features_out, n_outputs)
        Weights of the centred and scaled features of the modules.
    intercept : ndarray of shape (n_outputs,)
        Intercepts.
    routing : ndarray of shape (n_modules,)
        Norm of the weights of every module; 0 where it is left out.
    gap : float
        Objective minus its lower bound at the returned point.
    """

    kind: TargetKind
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    routing: NDArray[np.float64]
    gap: float

    def scores(self, learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
        """Return scores of classes (n, n_classes), or targets (n,); then the pixels."""
        outputs = self.outputs(learner._unit_features(rows))
        regression = self.classes is None
        found = self.kind.decode(outputs) if regression else self.kind.scores(outputs)
        return found.reshape(*found.shape[:-1], *learner.targets_.pixels)

    def outputs(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return outputs (..., n_outputs) as those of the heads of training tasks.

        Parameters
        ----------
        features : ndarray of shape (..., n_features_out)
            Features in the units of `ModuleFeatures`.
        """
        scores = features @ self.coef + self.intercept
        if self.kind.name == "binary":
            return scores[..., 1:] - scores[..., :1]
        return scores

    @property
    def dual_gap(self) -> float:
        """Certificate: objective minus its lower bound."""
        return self.gap

    @property
    def sparsity(self) -> float:
        """Share of the modules that the task leaves out."""
        return float((self.routing == 0).mean())


def read_new(
    values: NDArray[Any],
    type_name: str,
    task: Any,
    *,
    may_miss: bool,
    weights: NDArray[Any] | None = None,
) -> tuple[TargetKind, NDArray[np.float32]]:
    """Read the targets of a new task: their kind, and encoded (n_rows * n_pixels,).

    Parameters
    ----------
    values : ndarray
        Its targets.
    type_name : str
        Type of the task, of `TASK_TYPES`.
    task : object
        Its number, for errors.
    may_miss : bool
        Whether some targets may be missing.
    weights : ndarray of shape (n_rows * n_pixels,), default=None
        Weights of the targets. None: 1.

    Raises
    ------
    InvalidInputError
        If a label is missing that must not, or the labels are no task.
    """
    values = values.reshape(-1)
    known = known_labels(values)
    if not (known.all() or may_miss):
        raise InvalidInputError(
            "Input y contains NaN. A new task needs a label in every support row; "
            "drop the rows without one."
        )
    kind = read_kind(values, known, type_name, task, weights)
    return kind, kind.encode(values, known)


def solve_tasks(
    features: NDArray[np.float64],
    encoded: NDArray[np.float32],
    kinds: list[TargetKind],
    groups: NDArray[np.int64],
    group_reg: float,
    weights: NDArray[np.float64] | None = None,
    module_weights: NDArray[np.float64] | None = None,
) -> list[RoutedTask]:
    """Solve tasks of any kinds: those with as many classes go together.

    With modules as the groups g of the weights W, ::

        min_{W, b}  sum_i loss(W'x_i + b, y_i)
                    + lambda1 sum_g u_g ||W_g||_F + lambda2 / 2 ||W||_F^2

    for the logistic or the squared loss, where lambda1 is the share `group_reg` of
    the smallest value that leaves every module out.

    Parameters
    ----------
    features : ndarray of shape (n_tasks, n, n_features)
        Support features in the units of `ModuleFeatures`.
    encoded : ndarray of shape (n_tasks, n)
        Class numbers or standardised values, NaN where nothing is known.
    kinds : list of TargetKind
        Kinds of the targets of the tasks.
    groups : ndarray of shape (n_features,)
        Module of every feature.
    group_reg : float
        Strength of the group Lasso, relative.
    weights : ndarray of shape (n_tasks, n), default=None
        Weights of the rows. None: 1.
    module_weights : ndarray of shape (n_tasks, n_modules), default=None
        Factors u_g of lambda1, > 0. None: 1 for all.

    Returns
    -------
    list of RoutedTask
    """
    solved: dict[int, RoutedTask] = {}
    for part in by_way(np.array([kind.n_classes for kind in kinds])):
        some = [kinds[k] for k in part]
        own = None if weights is None else weights[part]
        u = None if module_weights is None else torch.from_numpy(module_weights[part])
        settings = GroupLassoSettings(
            group_reg=group_reg,
            ridge_reg=_RIDGE,
            relative=True,
            intercept=_INTERCEPT,
            groups=torch.from_numpy(groups),
            group_weights=u,
        )
        found = _solve_alike(features[part], encoded[part], some, settings, own)
        solved.update(zip(part.tolist(), found, strict=True))
    return [solved[k] for k in range(len(kinds))]


def _solve_alike(
    features: NDArray[np.float64],
    encoded: NDArray[np.float32],
    kinds: list[TargetKind],
    settings: GroupLassoSettings,
    weights: NDArray[np.float64] | None,
) -> list[RoutedTask]:
    """Solve tasks of one number of classes, all at once."""
    n_classes = kinds[0].n_classes
    known = np.isfinite(encoded)
    counted = known.astype(np.float64) * (1.0 if weights is None else weights)
    given = torch.from_numpy(np.where(known, encoded, 0.0).astype(np.float64))
    problem, constant = build_group_lasso_problem(
        torch.from_numpy(features),
        one_hot(given.long(), n_classes).double() if n_classes else given[..., None],
        torch.from_numpy(counted),
        Logistic() if n_classes else Squared(),
        settings,
    )
    solution = _solve(problem)
    intercepts = solution.coef[:, -1] * constant[:, None]
    coef = solution.coef[:, :-1].contiguous()
    norms = _group_norms(coef, problem.penalty.groups[:-1])
    parts = (coef.numpy(), intercepts.numpy(), norms.numpy(), solution.gap.tolist())
    return [
        RoutedTask(
            classes=kind.classes,
            kind=kind,
            coef=matrix,
            intercept=intercept,
            routing=routing,
            gap=gap,
        )
        for kind, matrix, intercept, routing, gap in zip(kinds, *parts, strict=True)
    ]


def _solve(problem: Problem) -> Solution:
    _, n_rows, n_classes = problem.targets.shape
    smooth = isinstance(problem.loss, Squared) or n_rows * n_classes > _LARGE
    solver: Any = solve_proximal_gradient if smooth else solve_auto
    found: Solution = solver(problem, tol=_TOL, max_iter=_MAX_ITER)
    return found


def _group_norms(coef: Tensor, groups: Tensor) -> Tensor:
    squares = coef.square().sum(dim=2)  # (n_tasks, n_features)
    totals = squares.new_zeros(len(coef), int(groups.max()) + 1)
    return totals.index_add_(1, groups, squares).sqrt()
