"""Scores that tell rows of new classes from rows of the classes of a task.

A small learner is trained on the training classes, the validation classes held out.
Then tasks of five classes are drawn, with query rows of these and of five others; on
validation classes, by which the default of ``reject`` was chosen, and on test classes.
Of every task the area under the ROC curve (AUROC) of the scores, the share of new rows
that pass where 95% of the known ones do (FPR95), and what ``reject=0.05`` refuses of
both. Largest probability is the score that every classifier has. Data are read from
``--data-dir`` or SKCAUSALMETA_DATA; ``--smoke`` makes its own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks._harness import Harness, make_parser
from skcausalmeta.backbones import Conv4
from skcausalmeta.datasets import (
    fetch_omniglot,
    fetch_tiny_imagenet,
    make_sparse_classes,
)
from skcausalmeta.episodes import EpisodeSampler
from skcausalmeta.heads import GroupLassoSVC, PrototypeHead
from skcausalmeta.learners import Rejection, SparseMetaClassifier
from skcausalmeta.metrics import mean_confidence_interval, paired_difference
from skcausalmeta.training import Validation

MEASURES = ("skcausalmeta/learners/_novelty.py", "skcausalmeta/learners/_synergies")
FETCH: dict[str, Callable[..., Any]] = {
    "omniglot": fetch_omniglot,
    "tiny_imagenet": fetch_tiny_imagenet,
}
HEADS = {"svc": GroupLassoSVC(solver="auto"), "prototypes": PrototypeHead()}
SCORES = ("probability", "margin", "energy", "distance")
BASELINE = "probability"
N_KNOWN = N_NOVEL = 5
SHARE = 0.05
HEADER = ("data", "head", "split", "shots", "score", "AUROC %", "+-", "FPR95 %", "+-")
KEPT = ("data", "head", "split", "shots", "known refused %", "new refused %")


def read(name: str, args: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows and labels of every split."""
    if not args.smoke:
        splits = {}
        for split in ("train", "val", "test"):
            bunch = FETCH[name](split=split, data_home=args.data_dir)
            splits[split] = bunch.data, bunch.target
        return splits
    bunch = make_sparse_classes(36, 20, 64, random_state=0)
    images = bunch.data.reshape(-1, 8, 8)
    return {
        split: (images[part], bunch.target[part])
        for split, part in zip(
            ("train", "val", "test"), np.split(np.arange(len(images)), 3), strict=True
        )
    }


def make_learner(args: Any, head: str, seed: int) -> SparseMetaClassifier:
    """The learner of all runs."""
    return SparseMetaClassifier(
        HEADS[head],
        backbone=Conv4(n_filters=4 if args.smoke else 32),
        n_way=5,
        n_shot=5,
        n_query=10,
        tasks_per_batch=1 if args.smoke else 2,
        batches_per_epoch=1 if args.smoke else 50,
        max_epochs=1 if args.smoke else args.epochs,
        reject=SHARE,
        fit_head=False,
        verbose=0,
        random_state=seed,
    )


def measure(name: str, head: str, seed: int, args: Any) -> dict[str, Any]:
    """Train once and score the tasks of validation and test classes."""
    splits = read(name, args)
    X, y = (
        np.concatenate(part)
        for part in zip(splits["train"], splits["val"], strict=True)
    )
    learner = make_learner(args, head, seed)
    held_out = np.unique(splits["val"][1])
    validation = Validation(held_out, n_episodes=30, patience=None)
    learner.set_params(validation=validation)
    start = time.perf_counter()
    learner.fit(X, y)
    found: dict[str, Any] = {"train_seconds": time.perf_counter() - start}
    for split in ("val", "test"):
        for shots in args.shots:
            found[f"{split} {shots}"] = judge(learner, *splits[split], shots, args)
    return found


def judge(
    learner: SparseMetaClassifier, X: np.ndarray, y: np.ndarray, shots: int, args: Any
) -> dict[str, Any]:
    """Every figure, for every task."""
    sampler = EpisodeSampler(
        y, n_way=N_KNOWN + N_NOVEL, n_shot=shots, n_query=10, random_state=0
    )
    areas: dict[str, list[float]] = {name: [] for name in SCORES}
    passing: dict[str, list[float]] = {name: [] for name in SCORES}
    known_refused, new_refused, accuracy = [], [], []
    for episode in sampler.draw(args.episodes):
        support = episode.support[episode.support_targets < N_KNOWN]
        is_new = episode.query_targets >= N_KNOWN
        rows, truth = X[episode.query], y[episode.query]
        solved = copy.copy(learner).adapt(X[support], y[support])
        answers = solved.predict(rows)
        refused = answers == solved.rejected_label_
        known_refused.append(float(refused[~is_new].mean()))
        new_refused.append(float(refused[is_new].mean()))
        kept = ~is_new & ~refused
        accuracy.append(float((answers == truth)[kept].mean()) if kept.any() else 0.0)
        for name in SCORES:
            solved.set_params(reject=Rejection(score=name))
            novelty = solved.novelty_score(rows)
            areas[name].append(float(roc_auc_score(is_new, novelty)))
            limit = np.quantile(novelty[~is_new], 0.95)
            passing[name].append(float((novelty[is_new] <= limit).mean()))
    return {
        "auroc": {name: interval(areas[name]) for name in SCORES},
        "fpr95": {name: interval(passing[name]) for name in SCORES},
        "auroc_above_probability": {
            name: list(paired_difference(areas[name], areas[BASELINE])[:2])
            for name in SCORES
            if name != BASELINE
        },
        "known_refused": interval(known_refused),
        "new_refused": interval(new_refused),
        "accuracy_of_kept": interval(accuracy),
    }


def interval(values: list[float]) -> list[float]:
    """Mean over tasks and half the width of its 95% interval."""
    mean, half_width = mean_confidence_interval(values)
    return [float(mean), float(half_width)]


def percent(values: list[float]) -> list[float]:
    return [round(100 * value, 1) for value in values]


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", nargs="+", choices=FETCH, default=list(FETCH))
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 1])
    parser.add_argument("--epochs", type=int, default=12, help="of 50 steps")
    parser.add_argument("--episodes", type=int, default=200)
    args = parser.parse_args()
    if args.smoke:
        args.data, args.heads, args.episodes = ["omniglot"], ["svc"], 2
    harness = Harness("open_set", args)
    rows, kept = [], []
    for name in args.data:
        for head in args.heads:
            for seed in args.seeds:
                settings = {
                    "data": name,
                    "learner": repr(make_learner(args, head, seed)),
                    "seed": seed,
                    "shots": args.shots,
                    "episodes": args.episodes,
                }
                found = harness.run(
                    settings,
                    lambda name=name, head=head, seed=seed: measure(
                        name, head, seed, args
                    ),
                )
                for split in ("val", "test"):
                    for shots in args.shots:
                        of = found[f"{split} {shots}"]
                        key = [name, head, split, shots]
                        rows += [
                            [
                                *key,
                                score,
                                *percent(of["auroc"][score]),
                                *percent(of["fpr95"][score]),
                            ]
                            for score in SCORES
                        ]
                        refused = [of["known_refused"][0], of["new_refused"][0]]
                        kept.append([*key, *percent(refused)])
    harness.table("Rows of new classes, by score", HEADER, rows)
    harness.table("Refused with reject=0.05", KEPT, kept)


if __name__ == "__main__":
    main()
