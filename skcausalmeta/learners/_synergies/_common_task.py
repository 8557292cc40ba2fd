"""A task that deviates from what all tasks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...training import Strengths, deviating_scores, in_parts
from .._checks import check_task_rows
from .._task_batches import TASKS_PER_SOLVE
from ._head_task import HeadTask


@dataclass(frozen=True, eq=False, kw_only=True)
class CommonTask(HeadTask):
    """A task solved around the common predictor; without labels, that alone.

    Its scores are those of `skcausalmeta.training.Strengths`.

    Attributes
    ----------
    head : estimator or None
        Solved on the support rows; None where there are none.
    amount : float
        What the labels of the task are worth, `Strengths.amount`.
    trust : float
        Share of the intercept of the head that counts.
    support_targets, support_weights : ndarray of shape (n,) or None
        Of the rows given to `adapt`: class numbers or standardised targets, and
        weights where there are some.
    """

    head: Any = None
    amount: float = 0.0
    trust: float = 1.0
    support_targets: NDArray[Any] | None = None
    support_weights: NDArray[Any] | None = None

    def scores(self, learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of the classes (n, n_classes), or targets (n,)."""
        known = learner.common_.scores(rows)
        if self.head is not None:
            strengths = learner.net_.module_.strengths
            hooked = learner.net_.module_.hooked
            features = hooked.features_of(learner._features(rows), self.code)
            one, known = head_inputs(strengths, features, known, self.amount)
            known = known + self._deviation(one)
        if self.classes is None:
            return learner._in_units(known[:, 0])
        return shifted(known, learner)

    def _deviation(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Return what the head adds to the common scores, (n, n_scores)."""
        nothing = np.zeros((1, inputs.shape[1]))
        intercept = answer(self.head, nothing)
        return answer(self.head, inputs) - (1.0 - self.trust) * intercept

    def deviation(self, learner: Any) -> NDArray[Any]:
        """Return its weights in the units of the features, (n_scores, n_features)."""
        strengths = learner.net_.module_.strengths
        size = len(strengths.center)
        if self.head is None:
            return np.zeros((len(strengths.score_center), size))
        with torch.no_grad():
            at = strengths.center.new_tensor([self.amount], dtype=torch.float64)
            scale = strengths.scale(at)[0, :size] / strengths.spread
        weights = np.atleast_2d(self.head.coef_)[:, :size] * scale.cpu().numpy()
        return weights * (1.0 if self.classes is not None else learner.target_scale_)

    def gain(self, learner: Any) -> NDArray[Any]:
        """Return G (n_scores, n_scores): scores are G c(x) + deviation f(x) + const."""
        strengths = learner.net_.module_.strengths
        n_scores, size = len(strengths.score_center), len(strengths.center)
        unit = np.eye(n_scores)
        if self.head is None:
            return unit
        with torch.no_grad():
            center = strengths.score_center.double()
            at = center.new_tensor([self.amount])
            scale = strengths.scale(at)[0, size:].cpu().numpy()
            ones = torch.eye(n_scores).to(center)
            gain = (strengths.offset(center + ones[None], at) - center)[0].cpu().numpy()
        own = np.array([[-1.0, 1.0]]) if n_scores == 2 else unit
        return gain + (np.atleast_2d(self.head.coef_)[:, size:] * scale) @ own

    def support_features(self, learner: Any) -> NDArray[Any]:
        """Numbers of the features in which the task deviates."""
        return np.flatnonzero((self.deviation(learner) != 0).any(axis=0))

    def differing_features(self, learner: Any, least: float) -> NDArray[Any]:
        """Numbers of the features that deviate by some share of the largest one."""
        spread = learner.net_.module_.strengths.spread.cpu().numpy()
        sizes = np.linalg.norm(self.deviation(learner), axis=0) * spread
        return np.flatnonzero((sizes > 0) & (sizes >= least * sizes.max(initial=0.0)))

    def sparsity(self, learner: Any) -> float:
        """Share of the features in which the task does not deviate."""
        size = len(learner.net_.module_.strengths.center)
        return 1.0 - len(self.support_features(learner)) / size

    @property
    def dual_gap(self) -> float:
        """Certificate of the head; nothing was solved without labels."""
        return 0.0 if self.head is None else float(self.head.dual_gap_)


def answer(head: Any, inputs: NDArray[Any]) -> NDArray[Any]:
    """Return the scores (n, n_classes) of a fitted head, or its targets (n, 1)."""
    if not hasattr(head, "classes_"):
        return np.asarray(head.predict(inputs)).reshape(len(inputs), 1)
    found = head.decision_function(inputs)
    if found.ndim == 1:  # the score of the second class minus the first
        return np.stack([-found / 2, found / 2], axis=1)
    return np.asarray(found)


def shifted(scores: NDArray[Any], learner: Any) -> NDArray[Any]:
    """Return scores (..., n_classes) with what weights of classes add."""
    shift = learner._class_shift
    return scores if shift is None else scores + shift


def head_inputs(
    strengths: Strengths,
    features: NDArray[Any],
    known: NDArray[Any],
    amount: float,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what a head gets of rows: scaled features, and the offset of scores."""
    device = strengths.center.device
    with torch.no_grad():
        at = torch.tensor([amount], dtype=torch.float64, device=device)
        scores = torch.as_tensor(np.ascontiguousarray(known), device=device)[None]
        rows = torch.as_tensor(features, device=device)[None]
        one = strengths.inputs(rows, scores, at)
        offset = strengths.offset(scores, at)
    return one[0].cpu().numpy(), offset[0].cpu().numpy()


def solve_common_task(
    strengths: Strengths,
    head: Any,
    features: NDArray[Any],
    targets: NDArray[Any],
    known: NDArray[Any],
    keywords: dict[str, Any],
) -> dict[str, Any]:
    """Solve a head around the common scores of its support rows.

    Parameters
    ----------
    strengths : Strengths
    head : estimator
        Not fitted.
    features : ndarray of shape (n_support, n_features)
    targets : ndarray of shape (n_support,)
        Class numbers, or standardised real targets.
    known : ndarray of shape (n_support, n_scores)
        Common scores.
    keywords : dict
        ``sample_weight`` of the rows, where they have weights.

    Returns
    -------
    dict
        Fields of `CommonTask`.
    """
    with torch.no_grad():
        device = strengths.center.device
        given = torch.as_tensor(np.asarray(targets), device=device)[None]
        weights = keywords.get("sample_weight")
        counted = (
            None if weights is None else torch.as_tensor(weights, device=device)[None]
        )
        worth = strengths.amount(given, counted)
        trust = float(strengths.trust_of(worth, strengths.balanced(given, counted)))
    amount = float(worth)
    inputs, offset = head_inputs(strengths, features, known, amount)
    if strengths.n_classes:
        classes = np.arange(strengths.n_classes)
        head.fit(inputs, targets, offset=offset, classes=classes, **keywords)
    else:
        head.fit(inputs, targets, offset=offset[:, 0], **keywords)
    return {"head": head, "amount": amount, "trust": trust}


def score_tasks(
    learner: Any,
    head: Any,
    support: NDArray[Any],
    targets: NDArray[Any],
    query: NDArray[Any],
) -> NDArray[Any]:
    """Solve a batch of tasks of rows and return the scores of their query rows.

    Parameters
    ----------
    learner : estimator
        Fitted around a common predictor.
    head : estimator
        Not fitted, with numbers for its strengths.
    support : ndarray of shape (n_tasks, n_support, ...)
    targets : ndarray of shape (n_tasks, n_support)
        Class numbers, or standardised real targets.
    query : ndarray of shape (n_tasks, n_query, ...)

    Returns
    -------
    ndarray of shape (n_tasks, n_query, n_classes), or (n_tasks, n_query)
    """
    module = learner.net_.module_
    one, two = learner._task_features(support), learner._task_features(query)
    n_classes = module.strengths.n_classes
    ways = np.full(len(targets), n_classes)
    one, two = module.hooked.episodes_of(one, targets, two, ways)
    known, asked = _known(learner, support), _known(learner, query)
    device, found = module.strengths.center.device, []
    for part in in_parts(len(targets), TASKS_PER_SOLVE):
        parts = (one[part], targets[part], known[part], two[part], asked[part])
        with torch.no_grad():
            tensors = [torch.as_tensor(each, device=device) for each in parts]
            scores = deviating_scores(head, module.strengths, *tensors)
        found.append(scores.cpu().numpy())
    asked_for = np.concatenate(found)
    return shifted(asked_for, learner) if n_classes else asked_for


def _known(learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the common scores (n_tasks, n_rows, n_scores) of rows of tasks."""
    return np.stack(
        [learner.common_.scores(task) for task in check_task_rows(learner, rows)]
    )
