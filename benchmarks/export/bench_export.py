"""What an exported task costs: differences, size of the file, latency of one row.

Every learner is trained for a moment (what the weights are does not matter), adapted to
a task of five classes with five rows each, and exported. Answers are compared on the
rows of the task. Latencies are medians over calls with one row, taken in turns in one
process: onnxruntime, ``predict`` of the learner, and ``predict`` of scikit-learn's
LogisticRegression on the features that the backbone gives, which come ready.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from sklearn.linear_model import LogisticRegression

from benchmarks._harness import Harness, make_parser
from skcausalmeta.backbones import MLP, Conv4, ResNet12
from skcausalmeta.export import to_onnx
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)

MEASURES = ("skcausalmeta/export", "skcausalmeta/backbones", "skcausalmeta/heads")
SHORT = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SHORT, "batches_per_epoch": 1, "tasks_per_batch": 1, "fit_head": False}


class Size(NamedTuple):
    """What decides a run beside the learner."""

    n_features: int
    side: int
    large_side: int
    widths: tuple[int, ...]
    n_calls: int


SMOKE = Size(6, 12, 24, (4, 4, 8, 8), 3)
FULL = Size(64, 28, 84, (64, 160, 320, 640), 300)
# Drawing a graph takes seconds: rows, images and targets are one of each.
OF_SMOKE = ("MLP + svc", "MAML, Conv4", "MLP + lasso")


def learners(size: Size) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Learners by name, with the shape of their rows."""
    heads = {
        "svc": GroupLassoSVC(solver="newton"),
        "logistic": GroupLassoLogistic(),
        "ridge": RidgeHead(),
        "prototypes": PrototypeHead(temperature=10.0),
        "cosine": PrototypeHead("cosine"),
        "relaxed": RelaxedHead(),
    }
    row, image = (size.n_features,), (1, size.side, size.side)
    large = (3, size.large_side, size.large_side)
    found: dict[str, tuple[Any, tuple[int, ...]]] = {
        f"MLP + {name}": (SparseMetaClassifier(head, backbone=MLP(), **EPISODIC), row)
        for name, head in heads.items()
    }
    found["identity + svc"] = (
        SparseMetaClassifier(heads["svc"], backbone="identity", **EPISODIC),
        row,
    )
    found["Conv4 + svc"] = (
        SparseMetaClassifier(heads["svc"], backbone=Conv4(), **EPISODIC),
        image,
    )
    found["ResNet12 + ridge"] = (
        SparseMetaClassifier(
            heads["ridge"], backbone=ResNet12(n_filters=size.widths), **EPISODIC
        ),
        large,
    )
    found["MAML, MLP"] = (MAMLClassifier(backbone=MLP(), **EPISODIC), row)
    found["MAML, Conv4"] = (MAMLClassifier(backbone=Conv4(), **EPISODIC), image)
    found["MTCRL"] = (MTCRLClassifier(**SHORT), row)
    found["MLP + lasso"] = (SparseMetaRegressor(LassoHead(), **EPISODIC), row)
    found["MAML regressor"] = (MAMLRegressor(**EPISODIC), row)
    return found


def latencies(calls: dict[str, Callable[[], Any]], n_calls: int) -> dict[str, float]:
    """Median seconds of every call, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(n_calls + 5):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if k >= 5:  # the first calls prepare what later ones find
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def run(learner: Any, shape: tuple[int, ...], size: Size, folder: Path) -> Any:
    """Train, adapt, export; compare and time."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(10), 15)
    X = rng.normal(size=(len(y), *shape)).astype(np.float32)
    X += 0.2 * y.reshape(-1, *(1,) * len(shape)).astype(np.float32)
    is_regressor = isinstance(learner, SparseMetaRegressor | MAMLRegressor)
    targets = X.reshape(len(X), -1)[:, 0] if is_regressor else y
    learner.fit(X, targets)
    few = np.flatnonzero(y < 5).reshape(5, 15)[:, :5].ravel()
    learner.adapt(X[few], targets[few])
    path = folder / "task.onnx"
    start = time.perf_counter()
    to_onnx(learner, path)
    seconds = time.perf_counter() - start
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    rows = X[y < 5]
    found = session.run(None, {"rows": rows})
    if is_regressor:
        expected = [learner.predict(rows)]
    else:
        expected = [learner.decision_function(rows), learner.predict_proba(rows)]
    apart = [
        float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))
        for one, other in zip(found, expected, strict=True)
    ]
    features = learner.transform(X)
    plain = LogisticRegression(max_iter=1000).fit(features[few], y[few])
    one, ready = rows[:1], features[:1]
    return {
        "difference": max(apart),
        "bytes": path.stat().st_size,
        "export_seconds": seconds,
        **latencies(
            {
                "onnxruntime": lambda: session.run(None, {"rows": one}),
                "predict": lambda: learner.predict(one),
                "logistic": lambda: plain.predict(ready),
            },
            size.n_calls,
        ),
    }


def main() -> None:
    """Run all learners and print a table."""
    parser = make_parser(__doc__)
    args = parser.parse_args()
    size = SMOKE if args.smoke else FULL
    harness = Harness("export", args)
    rows, found = [], learners(size)
    names = OF_SMOKE if args.smoke else tuple(found)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            learner, shape = found[name]
            settings = {"learner": name, "row": list(shape), "size": size._asdict()}
            values = harness.run(
                settings,
                lambda learner=learner, shape=shape: run(
                    learner, shape, size, Path(folder)
                ),
            )
            times = [round(1e6 * values[k]) for k in ("onnxruntime", "predict")]
            rows.append(
                [
                    name,
                    f"{values['difference']:.1e}",
                    round(values["bytes"] / 1e3),
                    *times,
                    round(1e6 * values["logistic"]),
                ]
            )
    header = ["learner", "difference", "kB", "onnxruntime us", "predict us"]
    harness.table("One row", [*header, "LogisticRegression us"], rows)


if __name__ == "__main__":
    main()
