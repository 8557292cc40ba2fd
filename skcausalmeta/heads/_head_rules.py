"""Rules of the contract of heads: offsets, classes of few rows, moved features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from ._head_trial import N_QUERY, N_ROWS, Trial, array, far

# Rows of the larger and of the smaller class, and what share must be right.
_MANY, _FEW, _RIGHT = 20, 4, 0.9


def _knows_offsets(trial: Trial) -> Iterator[str]:
    """An offset must be part of the problem and of the answers, or be refused."""
    if not (trial.ask_has("support_offset") and trial.fit_has("offset")):
        return
    task, (own, seen) = trial.tasks.only(0), _offsets(trial)
    given = {"sample_weight": None, "support_offset": own, "query_offset": seen}
    try:
        both = trial.answer(task, **given)
    except ValueError as error:
        if "offset" not in str(error):
            raise
        return
    plain = trial.answer(task, sample_weight=None)
    alone = trial.answer(task, sample_weight=None, query_offset=seen)
    yield from far(alone, plain + seen, "answers with an offset of the query rows")
    nothing = torch.zeros_like(own)
    same = trial.answer(task, sample_weight=None, support_offset=nothing)
    yield from far(same, plain, "answers with an offset of zeros")
    fitted = trial.fitted(offset=array(own[0]))
    found = trial.ask(fitted, trial.tasks.arrays()[2], offset=array(seen[0]))
    yield from far(found, both[0], "answers of a head that was fitted with an offset")
    if trial.regression:
        less = task._replace(targets=task.targets - own)
        expected = trial.answer(less, sample_weight=None) + seen
        yield from far(both, expected, "predictions beside those for y - offset")
    if getattr(trial.head, "inexact_gradient", ""):
        return

    def answer(own: Tensor, seen: Tensor) -> Tensor:
        return trial.answer(task, tol=1e-13, support_offset=own, query_offset=seen)

    inputs = [part.clone().requires_grad_() for part in (own, seen)]
    try:
        gradcheck(answer, inputs, eps=1e-5, atol=1e-3, rtol=1e-3, fast_mode=True)
    except GradcheckError as error:
        yield str(error).strip().split("\n\n")[0]


def _offsets(trial: Trial) -> tuple[Tensor, Tensor]:
    """Offsets of the support and of the query rows of one task."""
    rng = np.random.RandomState(1)
    outputs = () if trial.regression else (trial.tasks.n_classes,)
    own, seen = (rng.standard_normal((1, n, *outputs)) for n in (N_ROWS, N_QUERY))
    return torch.from_numpy(own), torch.from_numpy(seen)


def _answers_absent_classes(trial: Trial) -> Iterator[str]:
    """A class without rows in a task must be answered, with finite gradients."""
    if trial.regression:
        return
    for n_present in (1, 2):
        tasks = trial.tasks._replace(targets=trial.tasks.targets % n_present)
        support = tasks.support.clone().requires_grad_()
        answers = trial.answer(tasks._replace(support=support))
        if not bool(torch.isfinite(answers).all()):
            yield f"scores that are not finite, rows being of {n_present} of 3 classes"
        if not answers.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(answers.square().sum(), support)
        if not bool(torch.isfinite(gradient).all()):
            yield f"gradients that are not finite for {n_present} of 3 classes"


def _keeps_small_classes(trial: Trial) -> Iterator[str]:
    """No class may be lost because another one has many rows."""
    if trial.regression:
        return
    rng, n_features = np.random.RandomState(2), trial.tasks.support.shape[-1]
    labels = np.repeat([0, 1], [_MANY, _FEW])
    asked = np.repeat([0, 1], _MANY)
    centre = 6.0 * rng.standard_normal(n_features) / np.sqrt(n_features)
    side = np.array([-0.5, 0.5])
    rows, query = (
        side[of][:, None] * centre + 0.3 * rng.standard_normal((len(of), n_features))
        for of in (labels, asked)
    )
    fitted = clone(trial.head).fit(rows, labels)
    right = balanced_accuracy_score(asked, fitted.predict(query))
    if right < _RIGHT:
        yield (
            f"a balanced accuracy of {right:.2f} on two classes far apart, of {_MANY} "
            f"and {_FEW} rows"
        )


def _follows_moved_features(trial: Trial) -> Iterator[str]:
    """Adding a number to a feature of all rows must not matter, or be declared."""
    if getattr(trial.head, "fixed_origin", ""):
        return
    shift = torch.linspace(-3.0, 5.0, trial.tasks.support.shape[-1]).double()
    moved = trial.tasks._replace(
        support=trial.tasks.support + shift, query=trial.tasks.query + shift
    )
    found, expected = trial.answer(moved), trial.answer(trial.tasks)
    if not trial.regression:  # what all classes of a row share decides nothing
        found, expected = (a - a.mean(-1, keepdim=True) for a in (found, expected))
    yield from far(found, expected, "answers")
