"""Everything that a head promises, run on one head."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from ._head_rules import (
    _answers_absent_classes,
    _follows_moved_features,
    _keeps_small_classes,
    _knows_offsets,
)
from ._head_trial import (
    N_CLASSES,
    N_QUERY,
    N_ROWS,
    N_TASKS,
    TOL,
    Tasks,
    Trial,
    array,
    far,
)

_PRECISIONS = {torch.float64: TOL, torch.float32: 1e-4}


def check_head(head: Any, *, n_features: int = 6) -> None:
    """Check that a head keeps the contract of `Head` or `RegressionHead`.

    In the manner of scikit-learn's `check_estimator`, which checks the estimator:
    this checks the layer, and that both are one thing. The rules are the sentences
    that a failure begins with; it takes a few seconds.

    Parameters
    ----------
    head : estimator
        The head to check, not changed; with ``episode_predictions`` it is one of real
        targets. It need not be a subclass of `Head`.
    n_features : int, default=6
        Number of features of the tasks that it is tried on.

    Raises
    ------
    AssertionError
        At the first rule that is broken: the rule, and what the head did.

    See Also
    --------
    Head : The contract for classes.
    RegressionHead : The contract for real targets.
    sklearn.utils.estimator_checks.check_estimator : The contract of an estimator.

    Examples
    --------
    >>> from skcausalmeta.heads import RidgeHead, check_head
    >>> check_head(RidgeHead())
    >>> class CarelessHead(RidgeHead):
    ...     def _solve(self, features, targets, weights, tol):
    ...         return super()._solve(features[:1], targets[:1], weights[:1], tol)
    >>> try:
    ...     check_head(CarelessHead())
    ... except AssertionError as error:
    ...     print(error)
    CarelessHead breaks the contract of a head. Solutions must have the shapes of
    HeadSolution and the features' precision. Got coef of shape (1, 6, 3),
    expected (3, 6, 3).
    """
    for rule in _RULES:
        try:
            for fault in rule(Trial(head, n_features)):
                raise _RuleBroken(fault)
        except Exception as error:
            got = error if isinstance(error, _RuleBroken) else f"{error!r}"
            raise AssertionError(
                f"{type(head).__name__} breaks the contract of a head. "
                f"{rule.__doc__} Got {got}."
            ) from (None if isinstance(error, _RuleBroken) else error)


class _RuleBroken(Exception):
    """What a head did instead."""


def _is_an_estimator(trial: Trial) -> Iterator[str]:
    """A head must be an estimator that can be cloned and pickled."""
    copied = clone(trial.head)
    if copied.get_params().keys() != trial.head.get_params().keys():
        yield "a clone with other parameters"
    fitted, query = trial.fitted(), trial.tasks.arrays()[2]
    restored = pickle.loads(pickle.dumps(fitted))
    yield from far(trial.ask(restored, query), trial.ask(fitted, query), "answers")


def _has_facts(trial: Trial) -> Iterator[str]:
    """A fitted head must have dual_gap_, support_features_ and sparsity_."""
    head, n_features = trial.fitted(), trial.tasks.support.shape[-1]
    if not 0 <= float(head.dual_gap_) < np.inf:
        yield f"dual_gap_ {head.dual_gap_!r}, expected a number >= 0"
    used = np.asarray(head.support_features_)
    if not set(used.tolist()) <= set(range(n_features)) or (np.diff(used) <= 0).any():
        yield f"support_features_ {used}, expected ascending numbers of features"
    if not abs(head.sparsity_ - (1 - len(used) / n_features)) <= 1e-12:
        yield f"sparsity_ {head.sparsity_} beside {len(used)} of {n_features} features"
    if head.n_features_in_ != n_features:
        yield f"n_features_in_ {head.n_features_in_}, expected {n_features}"
    if not trial.regression and list(head.classes_) != ["a", "b", "c"]:
        yield f"classes_ {head.classes_}, expected the sorted labels a, b, c"


def _ignores_unused_features(trial: Trial) -> Iterator[str]:
    """A feature that is not in support_features_ must not matter."""
    head, query = trial.fitted(), trial.tasks.arrays()[2]
    unused = np.setdiff1d(np.arange(query.shape[1]), head.support_features_)
    changed = query.copy()
    changed[:, unused] += 5.0
    yield from far(trial.ask(head, changed), trial.ask(head, query), "answers")


def _has_shapes(trial: Trial) -> Iterator[str]:
    """Solutions must have the shapes of HeadSolution and the features' precision."""
    for dtype, tol in _PRECISIONS.items():
        tasks = trial.tasks.to(dtype)
        solution = trial.solve(tasks, sample_weight=None, tol=tol)
        n_outputs = 1 if trial.regression else tasks.n_classes
        for name, expected in _shapes(tasks, n_outputs).items():
            found = getattr(solution, name)
            if tuple(found.shape) != expected:
                yield f"{name} of shape {tuple(found.shape)}, expected {expected}"
            if name != "n_iter" and found.dtype != dtype:
                yield f"{name} in {found.dtype}, expected {dtype}"
            if not bool(torch.isfinite(found).all()):
                yield f"{name} with NaN or infinity in {dtype}"


def _shapes(tasks: Tasks, n_outputs: int) -> dict[str, tuple[int, ...]]:
    n_tasks, n_rows, n_features = tasks.support.shape
    return {
        "coef": (n_tasks, n_features, n_outputs),
        "dual": (n_tasks, n_rows, n_outputs),
        "gap": (n_tasks,),
        "n_iter": (n_tasks,),
        "intercept": (n_tasks, n_outputs),
        "relative_gap": (n_tasks,),
    }


def _answers_have_shapes(trial: Trial) -> Iterator[str]:
    """Answers must be finite, one for every query row, in the precision of the rows."""
    for dtype, tol in _PRECISIONS.items():
        found = trial.answer(trial.tasks.to(dtype), sample_weight=None, tol=tol)
        expected = (N_TASKS, N_QUERY) + (() if trial.regression else (N_CLASSES,))
        if tuple(found.shape) != expected:
            yield f"shape {tuple(found.shape)}, expected {expected}"
        if found.dtype != dtype or not bool(torch.isfinite(found).all()):
            yield f"{found.dtype} with {int((~torch.isfinite(found)).sum())} not finite"


def _changes_nothing(trial: Trial) -> Iterator[str]:
    """fit, prediction and the layer must not write to data, parameters or facts."""
    rows, targets, query = trial.tasks.arrays()
    weights = np.ones(N_ROWS)
    given = rows, trial.labels(targets), weights, query, trial.tasks
    before, parameters = joblib.hash(given), joblib.hash(trial.head.get_params())
    head = clone(trial.head).fit(rows, given[1], sample_weight=weights)
    if joblib.hash(head.get_params()) != parameters:
        yield "other parameters after fit"
    facts = joblib.hash(vars(head))
    trial.ask(head, query)
    asked = copy.copy(trial)
    asked.head = head
    asked.solve(trial.tasks)
    asked.answer(trial.tasks)
    if joblib.hash(vars(head)) != facts:
        yield "other attributes after prediction and the layer"
    if joblib.hash(given) != before:
        yield "data that were written to"


def _outputs_keep_their_axis(trial: Trial) -> Iterator[str]:
    """Targets with an axis of outputs must give that axis, every output by itself."""
    if not trial.regression:
        return
    tasks = trial.tasks
    both = torch.stack([tasks.targets, tasks.targets.square()], dim=-1)
    found = trial.answer(tasks._replace(targets=both))
    alone = [trial.answer(tasks._replace(targets=both[..., k])) for k in (0, 1)]
    yield from far(found, torch.stack(alone, dim=-1), "predictions")
    solution = trial.solve(tasks._replace(targets=both))
    linear = tasks.query @ solution.coef + solution.intercept[:, None]
    yield from far(found, linear, "predictions and F W + intercept")


def _solves_without_gradients(trial: Trial) -> Iterator[str]:
    """solve_episodes must not record gradients."""
    support = trial.tasks.support.clone().requires_grad_()
    solution = trial.solve(trial.tasks._replace(support=support))
    recorded = [k for k, v in solution._asdict().items() if v.requires_grad]
    if recorded:
        yield f"a graph behind {', '.join(recorded)}"


def _has_certificates(trial: Trial) -> Iterator[str]:
    """Certificates must be >= 0, and within the tolerance that is asked for."""
    solution = trial.solve(trial.tasks)
    if not bool((solution.gap >= 0).all()):
        yield f"gaps {solution.gap.tolist()}"
    if not bool((solution.relative_gap <= TOL).all()):
        yield f"relative gaps {solution.relative_gap.tolist()} for a tol of {TOL}"


def _solves_one_by_one(trial: Trial) -> Iterator[str]:
    """A batch of tasks must have the answers that the tasks have one by one."""
    tasks = trial.tasks
    alone = [tasks.only(k) for k in range(N_TASKS)]
    expected = torch.cat([trial.answer(task) for task in alone])
    yield from far(trial.answer(tasks), expected, "answers")
    coef = torch.cat([trial.solve(task).coef for task in alone])
    yield from far(trial.solve(tasks).coef, coef, "weights")


def _fits_what_it_solves(trial: Trial) -> Iterator[str]:
    """A fitted head must answer as its layer does on the same rows."""
    task, (rows, labels, query) = trial.tasks.only(0), trial.tasks.arrays()
    fitted = trial.fitted()
    layer = array(trial.answer(task, sample_weight=None)[0])
    yield from far(trial.ask(fitted, query), layer, "answers")
    if trial.regression:
        return
    best = np.array(["a", "b", "c"])[layer.argmax(-1)]
    if (fitted.predict(query) != best).any():
        yield f"classes {fitted.predict(query)}, expected {best}"
    # two classes: one score, the second minus the first
    pair = labels % 2
    two = task._replace(targets=torch.from_numpy(pair)[None], n_classes=2)
    layer = array(trial.answer(two, sample_weight=None)[0])
    found = clone(trial.head).fit(rows, pair).decision_function(query)
    yield from far(found, layer[:, 1] - layer[:, 0], "scores of two classes")


def _ignores_the_order_of_rows(trial: Trial) -> Iterator[str]:
    """The order of the rows must not matter."""
    tasks = trial.tasks
    order = np.random.RandomState(1).permutation(N_ROWS)
    support, targets, weights = (
        part[:, order] for part in (tasks.support, tasks.targets, tasks.weights)
    )
    moved = tasks._replace(support=support, targets=targets, weights=weights)
    yield from far(trial.answer(moved), trial.answer(tasks), "answers")


def _ignores_the_numbers_of_classes(trial: Trial) -> Iterator[str]:
    """Other numbers for the classes must give the same scores under these numbers."""
    if trial.regression:
        return
    numbers = torch.tensor([2, 0, 1])
    moved = trial.tasks._replace(targets=numbers[trial.tasks.targets])
    found = trial.answer(moved)[..., numbers]
    yield from far(found, trial.answer(trial.tasks), "scores")


def _leaves_rows_of_weight_0_out(trial: Trial) -> Iterator[str]:
    """A row of weight 0 must be as good as left out."""
    tasks = trial.tasks
    padded = tasks._replace(
        support=torch.cat([100 + tasks.support[:, :2], tasks.support], dim=1),
        targets=torch.cat([tasks.targets[:, 2:4], tasks.targets], dim=1),
        weights=torch.cat([0 * tasks.weights[:, :2], tasks.weights], dim=1),
    )
    yield from far(trial.answer(padded), trial.answer(tasks), "answers")
    yield from far(trial.solve(padded).coef, trial.solve(tasks).coef, "weights")
    rows, targets, query = padded.arrays()
    weights = np.r_[np.zeros(2), np.ones(N_ROWS)]
    labels = trial.labels(targets)
    found = clone(trial.head).fit(rows, labels, sample_weight=weights)
    expected = trial.ask(trial.fitted(), query)
    yield from far(trial.ask(found, query), expected, "answers after fit")


def _has_gradients(trial: Trial) -> Iterator[str]:
    """Gradients in features and row weights must be those of finite differences."""
    if getattr(trial.head, "inexact_gradient", ""):
        return
    task = trial.tasks.only(0)

    def answer(support: Tensor, query: Tensor, weights: Tensor) -> Tensor:
        changed = task._replace(support=support, query=query, weights=weights)
        return trial.answer(changed, tol=1e-13)

    inputs = [part.clone().requires_grad_() for part in (task[0], task[2], task[3])]
    try:
        gradcheck(answer, inputs, eps=1e-5, atol=1e-3, rtol=1e-3, fast_mode=True)
    except GradcheckError as error:
        yield str(error).strip().split("\n\n")[0]


def _survives_a_failed_fit(trial: Trial) -> Iterator[str]:
    """A fit that fails must leave the head as it was."""
    head = trial.fitted()
    rows, targets, _ = trial.tasks.arrays()
    facts = joblib.hash(vars(head))
    rows[3, 1] = np.nan
    try:
        head.fit(rows, trial.labels(targets))
    except ValueError:
        if joblib.hash(vars(head)) != facts:
            yield "other attributes after a row with NaN"
    else:
        yield "no ValueError for a row with NaN"


def _refuses_what_it_cannot_solve(trial: Trial) -> Iterator[str]:
    """Tasks that no head can be solved on must raise a ValueError."""
    for what, tasks in _bad_tasks(trial).items():
        for call in (trial.solve, trial.answer):
            if call == trial.solve and what.startswith("query"):
                continue
            try:
                call(tasks)
            except ValueError:
                continue
            except Exception as error:
                yield f"{type(error).__name__} for {what}: {error}"
            else:
                yield f"an answer of {call.__name__} for {what}"


def _bad_tasks(trial: Trial) -> dict[str, Tasks]:
    """Tasks that are no tasks, by what is wrong with them."""
    tasks = trial.tasks
    support, targets, query, weights, _ = tasks
    holed, negative, absent = support.clone(), weights.clone(), weights.clone()
    holed[0, 1, 2], negative[1, 0], absent[2] = torch.nan, -1.0, 0.0
    unknown = weights.clone()
    unknown[0, 0] = torch.nan
    found = {
        "features without the axis of tasks": tasks._replace(support=support[0]),
        "targets of fewer rows": tasks._replace(targets=targets[:, :-1]),
        "query rows of other features": tasks._replace(query=query[..., :-1]),
        "query rows of fewer tasks": tasks._replace(query=query[:1]),
        "features with NaN": tasks._replace(support=holed),
        "weights of fewer rows": tasks._replace(weights=weights[:, :-1]),
        "a negative weight": tasks._replace(weights=negative),
        "a weight of NaN": tasks._replace(weights=unknown),
        "a task of weight 0": tasks._replace(weights=absent),
    }
    wrong = targets.clone()
    if trial.regression:
        wrong[0, 1] = torch.nan
        return {**found, "targets with NaN": tasks._replace(targets=wrong)}
    wrong[0, 1] = -1
    return {
        **found,
        "labels below 0": tasks._replace(targets=wrong),
        "labels above n_classes - 1": tasks._replace(targets=targets + 1),
        "one class": tasks._replace(targets=0 * targets, n_classes=1),
    }


# In the order in which a failure says most: what is wrong at all before what is wrong
# under a change.
_RULES: list[Callable[[Trial], Iterator[str]]] = [
    _has_shapes,
    _answers_have_shapes,
    _changes_nothing,
    _outputs_keep_their_axis,
    _has_certificates,
    _solves_without_gradients,
    _solves_one_by_one,
    _is_an_estimator,
    _has_facts,
    _ignores_unused_features,
    _fits_what_it_solves,
    _ignores_the_order_of_rows,
    _ignores_the_numbers_of_classes,
    _leaves_rows_of_weight_0_out,
    _has_gradients,
    _knows_offsets,
    _answers_absent_classes,
    _keeps_small_classes,
    _follows_moved_features,
    _survives_a_failed_fit,
    _refuses_what_it_cannot_solve,
]
