"""Which columns of a new task differ: found with 20 labels, beside the truth.

`make_shared_tasks`: 60 tasks of 200 rows, 20 columns with common coefficients, of
which every task weighs two differently. 40 tasks train, 20 are new; each gives 20 rows
a class, or 20 rows of real targets. F1, precision and recall of columns, over the new
tasks.

Contenders: columns that deviate with a probability of more than a half
(``differing_features``), those of the default deviation (``support_features_``), those
at least half as large as the largest (``least=0.5``), these after a selection of a
fifth of the strength that switches everything off, whatever the learned one is, and an
L1 model of the task with the pooled linear score as a column, whose strength is chosen
by cross-validation on the support. Its columns are those with a weight, or with half
of the largest.
"""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    LassoCV,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
)

from benchmarks._harness import Harness, make_parser
from benchmarks.tables._package import light_head
from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor

MEASURES = ("skcausalmeta/heads", "skcausalmeta/learners/_synergies")
KINDS = {"2 classes": 2, "3 classes": 3, "real": None}
N_LABELS, N_KNOWN, LEAST = 20, 40, 0.5


def measure(kind: str, size: float, seed: int, smoke: bool) -> dict[str, Any]:
    """Counts of right, found and true columns by contender, mean score and seconds."""
    n_classes = KINDS[kind]
    n_tasks, n_rows = (8, 60) if smoke else (60, 200)
    n_known = 6 if smoke else N_KNOWN
    bunch = make_shared_tasks(
        n_tasks, n_rows, n_classes=n_classes, deviation_size=size, random_state=seed
    )
    X, y, tasks = bunch.data, bunch.target, bunch.tasks
    old = tasks < n_known
    make = SparseMetaRegressor if n_classes is None else SparseMetaClassifier
    length = {"max_epochs": 1, "batches_per_epoch": 1} if smoke else {}
    learner = make(backbone="identity", verbose=0, random_state=seed, **length)
    learner.fit(X[old], y[old], tasks=tasks[old])
    pooled: Any = Ridge() if n_classes is None else LogisticRegression(max_iter=1000)
    pooled.fit(X[old], y[old])
    found: dict[str, list[tuple[int, int, int]]] = {}
    scores, seconds = [], []
    for task in range(n_known, n_tasks):
        own = np.flatnonzero(tasks == task)
        support = own[_first(y[own], n_classes)]
        query = np.setdiff1d(own, support)
        one = copy.copy(learner).adapt(X[support], y[support])
        light = copy.copy(learner).set_params(head=light_head(0.2, n_classes is None))
        light.adapt(X[support], y[support])
        begin = time.process_time()
        differing = one.differing_features()
        seconds.append(time.process_time() - begin)
        scores.append(one.score(X[query], y[query]))
        weights = _l1_weights(pooled, X[support], y[support], n_classes)
        columns = {
            "by evidence": differing,
            "default, all that deviate": one.support_features_,
            "default, half of the largest": one.differing_features(least=LEAST),
            "share 0.2, half of the largest": light.differing_features(least=LEAST),
            "L1 with the pooled score": np.flatnonzero(weights),
            "L1, half of the largest": _large(weights),
        }
        true = set(np.flatnonzero(bunch.support[task]).tolist())
        for name, some in columns.items():
            chosen = set(np.asarray(some).tolist())
            counts = (len(chosen & true), len(chosen), len(true))
            found.setdefault(name, []).append(counts)
    totals = {name: np.sum(counts, axis=0).tolist() for name, counts in found.items()}
    return {
        "counts": totals,
        "score": float(np.mean(scores)),
        "evidence seconds": float(np.mean(seconds)),
    }


def _first(y: np.ndarray, n_classes: int | None) -> np.ndarray:
    if n_classes is None:
        return np.arange(N_LABELS)
    parts = [np.flatnonzero(y == c)[:N_LABELS] for c in range(n_classes)]
    return np.sort(np.concatenate(parts))


def _l1_weights(
    pooled: Any, X: np.ndarray, y: np.ndarray, n_classes: int | None
) -> np.ndarray:
    """Sizes of the weights of columns (n_columns,) beside the pooled score."""
    if n_classes is None:
        score = pooled.predict(X)[:, None]
        return np.abs(LassoCV(cv=4).fit(np.hstack([X, score]), y).coef_[:-1])
    score = pooled.decision_function(X).reshape(len(X), -1)
    model = LogisticRegressionCV(
        Cs=8, cv=4, penalty="l1", solver="saga", scoring="neg_log_loss", max_iter=500
    )
    coef = model.fit(np.hstack([X, score]), y).coef_[:, : X.shape[1]]
    return np.linalg.norm(coef, axis=0)


def _large(weights: np.ndarray) -> np.ndarray:
    return np.flatnonzero((weights > 0) & (weights >= LEAST * weights.max()))


def report(harness: Harness, found: dict[tuple[str, float], list[Any]]) -> None:
    """F1, precision and recall by contender, over the tasks of all seeds."""
    rows = []
    for (kind, size), results in found.items():
        for name in results[0]["counts"]:
            right, chosen, true = np.sum([r["counts"][name] for r in results], axis=0)
            each = [2 * r / (c + t) for r, c, t in (x["counts"][name] for x in results)]
            rows.append(
                [
                    *(kind, size, name, round(2 * right / (chosen + true), 3)),
                    f"{min(each):.3f} to {max(each):.3f}",
                    round(right / max(chosen, 1), 3),
                    round(right / true, 3),
                ]
            )
    header = ["targets", "size", "columns", "F1", "by seed", "precision", "recall"]
    harness.table("Columns in which a new task differs", header, rows)


def main() -> None:
    """Run every kind and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=float, nargs="+", default=[2.0, 3.0])
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.sizes = [0], [3.0]
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    harness = Harness("columns", args, [])
    found: dict[tuple[str, float], list[Any]] = {}
    for kind in KINDS:
        for size in args.sizes:
            for seed in args.seeds:
                settings = {"kind": kind, "size": size, "seed": seed}
                result = harness.run(
                    settings,
                    lambda: measure(kind, size, seed, args.smoke),  # noqa: B023
                )
                found.setdefault((kind, size), []).append(result)
    report(harness, found)


if __name__ == "__main__":
    main()
