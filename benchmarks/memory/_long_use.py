"""Thousands of calls in one process, and what they leave in it."""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skcausalmeta.backbones import MLP
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
)

_SMALL = {
    "backbone": MLP(hidden=(8,), out_features=4),
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
LEARNERS = {
    "sparse": SparseMetaClassifier(
        RidgeHead(), common=None, shared_labels=False, **_SMALL
    ),
    "maml": MAMLClassifier(inner_steps=2, **_SMALL),
    "metacrl": MetaCRLClassifier(MAMLClassifier(inner_steps=2, **_SMALL)),
    "mtcrl": MTCRLClassifier(max_epochs=1, random_state=0),
}
# Looks at the process, spread evenly over the calls.
N_LOOKS = 20


def tables(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels and tasks."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], 20)
    X = rng.standard_normal((40, 5)) + 2 * y[:, None]
    return X, y, np.repeat(np.arange(4), 10)


def calls(learner: str, what: str) -> Callable[[int], Any]:
    """The call of a number: an adaptation with its prediction, or a fit."""
    made = copy.deepcopy(LEARNERS[learner])
    X, y, tasks = tables(0)
    made.fit(X, y, tasks=tasks)

    def adapt(number: int) -> Any:
        rows, labels, _ = tables(number)
        return copy.copy(made).adapt(rows[:10], labels[:10]).predict(rows)

    def fit(number: int) -> Any:
        rows, labels, ids = tables(number)
        return made.fit(rows, labels, tasks=ids).predict(rows[:1])

    return adapt if what == "adapts" else fit


def look() -> tuple[int, int, int]:
    """Resident bytes, open descriptors and threads of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    (resident,) = (line for line in status if line.startswith("VmRSS"))
    (threads,) = (line for line in status if line.startswith("Threads"))
    n_open = len(os.listdir("/proc/self/fd"))
    n_threads = max(threading.active_count(), int(threads.split()[1]))
    return 1024 * int(resident.split()[1]), n_open, n_threads


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Make the calls of a request; memory, descriptors and threads over them."""
    torch.set_num_threads(request["threads"])
    call, n_calls = calls(request["learner"], request["what"]), request["calls"]
    looks = []
    places = set(np.linspace(1, n_calls, min(N_LOOKS, n_calls)).astype(int).tolist())
    for number in range(1, n_calls + 1):
        call(number)
        if number in places:
            looks.append(look())
    half = np.array(looks[len(looks) // 2 :])
    return {
        "resident, MB": [round(one[0] / 2**20, 2) for one in looks],
        "growth of the last half, %": 100 * float(half[-1, 0] / half[0, 0] - 1),
        "descriptors": sorted({int(one) for one in half[:, 1]}),
        "threads": sorted({int(one) for one in half[:, 2]}),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
