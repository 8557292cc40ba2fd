"""Four tables of many tasks in one form, and small ones that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.utils import Bunch

from skcausalmeta.datasets import (
    fetch_school,
    fetch_tox21,
    fetch_toxcast,
    fetch_wisdm,
    make_shared_tasks,
)

Array = np.ndarray


@dataclass(frozen=True)
class Table:
    """Rows of many tasks, and how they become training tasks and jobs.

    Parameters
    ----------
    name : str
    X : array of shape (n_items, n_features)
        Each item once, whatever the number of tasks that it is in.
    source, y, tasks : array of shape (n_rows,)
        Item, target and task of a row.
    kind : {"binary", "classes", "regression"}
    n_new : int
        Tasks that are kept for the jobs.
    shots : tuple of int
        Labels of a job: for classes of each of them.
    max_query : int
        Most query rows of a job.
    max_train : int or None
        Most training rows of a task, or of each of its classes.
    first_new : tuple of int
        New tasks of split 0; empty: drawn like those of the others.
    """

    name: str
    X: Array
    source: Array
    y: Array
    tasks: Array
    kind: str
    n_new: int
    shots: tuple[int, ...]
    max_query: int = 500
    max_train: int | None = None
    first_new: tuple[int, ...] = ()

    @property
    def metric(self) -> str:
        return {"binary": "AUC", "classes": "accuracy", "regression": "RMSE"}[self.kind]

    @property
    def n_classes(self) -> int:
        return 0 if self.kind == "regression" else int(self.y.max()) + 1

    def rows(self, index: Array) -> Array:
        """Features (n, n_features) of some rows."""
        return self.X[self.source[index]].astype(np.float32)


def groups_of(X: Array) -> Array:
    """Number (n_items,) of the items that are alike."""
    bits = np.ascontiguousarray(np.packbits(X, axis=1) if X.dtype == np.uint8 else X)
    keys = bits.view(f"V{bits.itemsize * bits.shape[1]}").ravel()
    return np.unique(keys, return_inverse=True)[1]


def _assays(name: str, bunch: Bunch, **how: object) -> Table:
    """A table of molecules by assays, from its wide form."""
    tasks, source = np.nonzero(~np.isnan(bunch.target.T))
    y = bunch.target[source, tasks].astype(np.int64)
    return Table(
        name, bunch.data, source, y, tasks, "binary", shots=(1, 5, 10, 20), **how
    )


def tox21(data_dir: str | None) -> Table:
    bunch = fetch_tox21(data_home=data_dir, wide=True)
    published = np.isin(bunch.names, ["SR-HSE", "SR-MMP", "SR-p53"])
    new = tuple(np.flatnonzero(published).tolist())
    return _assays("tox21", bunch, n_new=3, max_query=2000, first_new=new)


def toxcast(data_dir: str | None) -> Table:
    bunch = fetch_toxcast(data_home=data_dir, wide=True)
    return _assays("toxcast", bunch, n_new=60, max_train=100)


def _by_task(name: str, bunch: Bunch, **how: object) -> Table:
    tasks = np.unique(bunch.tasks, return_inverse=True)[1]
    data = bunch.data.astype(np.float32)
    return Table(name, data, np.arange(len(data)), bunch.target, tasks, **how)


def wisdm(data_dir: str | None) -> Table:
    bunch = fetch_wisdm(data_home=data_dir)
    return _by_task("wisdm", bunch, kind="classes", n_new=12, shots=(1, 3, 5, 10))


def school(data_dir: str | None) -> Table:
    bunch = fetch_school(data_home=data_dir)
    how = {"kind": "regression", "n_new": 39, "shots": (5, 10, 20, 50)}
    return _by_task("school", bunch, **how)


def small_table(name: str) -> Table:
    """A table of the kind of a real one, in seconds."""
    n_classes = {"wisdm": 3, "school": None}.get(name, 2)
    bunch = make_shared_tasks(10, 30, 8, 1, n_classes=n_classes, random_state=0)
    shots = (5, 10) if n_classes is None else (1, 3)
    kind = {None: "regression", 2: "binary", 3: "classes"}[n_classes]
    if kind == "binary":
        bunch.data = (bunch.data > 0).astype(np.uint8)
    table = _by_task(name, bunch, kind=kind, n_new=3, shots=shots)
    if kind != "binary":
        return table
    return Table(**{**vars(table), "X": bunch.data})


LOADERS: dict[str, Callable[[str | None], Table]] = {
    "tox21": tox21,
    "toxcast": toxcast,
    "wisdm": wisdm,
    "school": school,
}
