"""The package as another checkout has it, beside the one that is measured."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.solvers._problems import Batch, support_gradient

PACKAGE = "skcausalmeta"


def _taken() -> dict[str, ModuleType]:
    """Modules of the package that are imported, taken out of Python's list."""
    names = [name for name in sys.modules if name.split(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


class Checkout:
    """A working tree of another commit, whose package this process imports as well.

    Both copies share torch and NumPy, so that calls of the two can take turns in one
    process.

    Parameters
    ----------
    path : Path
        Its root. Nothing is built there: a commit with a compiled solver runs as fast
        as after ``python setup.py build_ext --inplace``, or as without a compiler.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        command = ["git", "-C", str(self.path), "rev-parse", "--short", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.commit = done.stdout.strip()
        self._modules: dict[str, ModuleType] = {}
        with self.active():
            found = Path(str(importlib.import_module(PACKAGE).__file__))
        if self.path not in found.resolve().parents:
            raise ValueError(f"--before must be a checkout of {PACKAGE}. Got {path}.")

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it lasts, ``import skcausalmeta`` means this checkout."""
        mine = _taken()
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.path))
        try:
            yield
        finally:
            sys.path.remove(str(self.path))
            self._modules = _taken()
            sys.modules.update(mine)

    def load(self, module: str, name: str) -> Any:
        """A name of a module below the package."""
        with self.active():
            return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)

    def head(self, batch: Batch, tol: float) -> Any:
        """The head of `Batch.head` with solver="auto", as this commit has it."""
        return self.load("heads", "GroupLassoSVC")(
            batch.support.new_tensor(batch.lambda1),
            batch.support.new_tensor(batch.lambda2),
            reg_scale="absolute",
            fit_intercept=False,
            class_weight=None,
            solver="auto",
            tol=tol,
        )

    def layer(self, head: Any, batch: Batch) -> Any:
        """Gradient of the query loss in the support features."""
        with self.active():
            return support_gradient(
                lambda tasks, support: head.episode_logits(
                    support, tasks.labels, tasks.query, tasks.n_classes
                ),
                batch,
            )

    def fit(self, head: Any, rows: Any, labels: Any) -> Any:
        """The head fitted to one task."""
        with self.active():
            return head.fit(rows, labels)

    def solve(self, head: Any, batch: Batch) -> Any:
        """Solutions without gradients."""
        with self.active():
            return head.solve_episodes(batch.support, batch.labels, batch.n_classes)
