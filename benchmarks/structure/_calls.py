"""The functions that one call passes through.

The rule: functions of the package with different qualified names, by which a lambda,
comprehension or generator expression counts once for the function that holds it
("fit.<locals>.<listcomp>"), and functions of the same name in two files count once.
Class bodies and modules are left out, and so is what runs in the first call only:
the call that is counted is the second. Python 3.12 no longer shows comprehensions,
so compare figures of one version; functions with a name are the same in all.
"""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import sklearn
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import skcausalmeta
from skcausalmeta import RidgeHead
from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier

SHORT = {"batches_per_epoch": 2, "max_epochs": 1, "verbose": 0, "random_state": 0}


class Passed(NamedTuple):
    """Functions of a package that a call passed through, by file."""

    functions: dict[str, list[str]]

    def counts(self) -> dict[str, int]:
        """Numbers of files, of functions, and of functions that have a name."""
        names = {name for found in self.functions.values() for name in found}
        named = [name for name in names if not name.endswith(">")]
        return {
            "files": len(self.functions),
            "functions": len(names),
            "named": len(named),
        }

    def lines(self) -> Iterator[str]:
        """Text of the list, a file and its functions in the order of the source."""
        for file, names in sorted(self.functions.items()):
            yield f"  {file} ({len(names)})"
            yield from (f"      {name}" for name in names)


def passed_through(call: Callable[[], Any], package: ModuleType) -> Passed:
    """Functions of a package that the second of two equal calls passes through."""
    root = Path(package.__file__ or "").parent
    inside = f"{root}/"
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(inside):
            seen.add(code)

    call()
    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    functions: dict[str, list[str]] = {}
    for code in sorted(seen, key=lambda code: code.co_firstlineno):
        if code.co_flags & inspect.CO_OPTIMIZED:  # neither a class body nor a module
            file = str(Path(code.co_filename).relative_to(root))
            names = functions.setdefault(file, [])
            if code.co_qualname not in names:
                names.append(code.co_qualname)
    return Passed(functions)


def short(learner: type, **params: Any) -> Any:
    """Learner with its defaults apart from the length of training."""
    accepted = inspect.signature(learner).parameters
    return learner(**{k: v for k, v in SHORT.items() if k in accepted}, **params)


def calls() -> Iterator[tuple[str, Passed]]:
    """Name of every call and what it passes through."""
    X, y = load_digits(return_X_y=True)
    old = y < 6
    known, new = (X[old], y[old]), (X[~old][:40], y[~old][:40])
    with_ridge = short(SparseMetaClassifier, head=RidgeHead()).fit(*known)
    maml = short(MAMLClassifier).fit(*known)
    for name, call, package in (
        (
            "SparseMetaClassifier.fit",
            lambda: short(SparseMetaClassifier).fit(*known),
            skcausalmeta,
        ),
        ("adapt with RidgeHead", lambda: with_ridge.adapt(*new), skcausalmeta),
        ("MAMLClassifier.adapt", lambda: maml.adapt(*new), skcausalmeta),
        ("LogisticRegression.fit", lambda: LogisticRegression().fit(*known), sklearn),
        ("MLPClassifier.fit", lambda: MLPClassifier(max_iter=2).fit(*known), sklearn),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # trained shortly
            passed = passed_through(call, package)
        yield name, passed
