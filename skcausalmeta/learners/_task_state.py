"""Solved tasks as arrays: what is particular to a task, and how it is put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from ..exceptions import PersistenceError
from ..utils import printable

State = dict[str, NDArray[Any]]
_SCALARS = (bool, int, float, str, np.generic)
_KINDS = "biufUS"
# What a plan that is none may raise.
_STRANGE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
_kinds: dict[str, type[Any]] = {}


class NotNumbersError(TypeError):
    """Tells what of a task is more than numbers and texts."""


def of_states(kind: type[Any]) -> type[Any]:
    """Let values of a class be parts of states; a decorator.

    Parameters
    ----------
    kind : type
        A dataclass or named tuple.
    """
    _kinds[kind.__name__] = kind
    return kind


def state_of(task: Any, learner: Any, n_labels: int) -> tuple[Any, State]:
    """Return how a solved task is put together, as JSON, and its arrays by name.

    Parameters
    ----------
    task : SolvedTask
    learner : estimator
        That solved it.
    n_labels : int
        Support rows, which its head may depend on.

    Raises
    ------
    NotNumbersError
        If the task is more than arrays, numbers and texts.
    """
    arrays: State = {}
    plan = _taken_apart(task, "task", arrays, learner, n_labels)
    return plan, arrays


def task_of(plan: Any, state: Mapping[str, Any], learner: Any, n_labels: int) -> Any:
    """Return the solved task of a state, the inverse of `state_of`.

    Raises
    ------
    PersistenceError
        If the plan, which a file may hold, is none.
    """
    try:
        return _put_together(plan, state, learner, n_labels)
    except _STRANGE as error:
        raise PersistenceError(
            "A solved task must be put together as it was taken apart. Got another "
            f"plan ({printable(str(error)[:200])}); restore the file from a copy."
        ) from error


def _put_together(
    plan: Any, state: Mapping[str, Any], learner: Any, n_labels: int
) -> Any:
    if plan is None:
        return None
    kind, content = plan
    if kind == "array":
        return np.array(state[content])
    if kind == "scalar":
        return np.asarray(state[content]).item()
    if kind == "tensor":
        parameter = next(learner.net_.module_.parameters())
        return torch.from_numpy(np.array(state[content])).to(parameter.device)
    if kind == "dict":
        return {
            k: _put_together(v, state, learner, n_labels) for k, v in content.items()
        }
    given = {k: _put_together(v, state, learner, n_labels) for k, v in content.items()}
    if kind != "head":
        return _kinds[kind](**given)
    head = learner._new_head(n_labels)
    if strange := [name for name in given if not _may_be_fitted(head, name)]:
        raise ValueError(f"{strange} are no attributes of a fitted head")
    vars(head).update(given)
    return head


def _may_be_fitted(head: Any, name: str) -> bool:
    """Tell whether `fit` may set it: no parameter, method or part of Python."""
    return name.isidentifier() and name[:2] != "__" and not hasattr(head, name)


def _taken_apart(
    value: Any, name: str, arrays: State, learner: Any, n_labels: int
) -> Any:
    def parts(named: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: _taken_apart(part, f"{name}.{key}", arrays, learner, n_labels)
            for key, part in named.items()
        }

    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        arrays[name] = value.detach().cpu().numpy()
        return ["tensor", name]
    if isinstance(value, (np.ndarray, *_SCALARS)):
        arrays[name] = np.asarray(value)
        if arrays[name].dtype.kind not in _KINDS:
            raise NotNumbersError(f"values of type {arrays[name].dtype}")
        return ["array" if isinstance(value, np.ndarray) else "scalar", name]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return ["dict", parts(value)]
    if _kinds.get(type(value).__name__) is type(value):
        return [type(value).__name__, parts(_named(value))]
    if isinstance(value, BaseEstimator) and hasattr(learner, "_new_head"):
        return ["head", parts(_fitted(value, learner._new_head(n_labels)))]
    raise NotNumbersError(f"a {type(value).__name__}")


def _named(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(value._asdict())


def _fitted(head: Any, new: Any) -> dict[str, Any]:
    """Return what `fit` has added to a head."""
    if type(head) is not type(new):
        raise NotNumbersError(f"a {type(head).__name__}")
    return {key: part for key, part in vars(head).items() if key not in vars(new)}
