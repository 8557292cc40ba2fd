"""What the recipes share: training, evaluation and a table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.model_selection import evaluate_few_shot

Split = tuple[np.ndarray, np.ndarray]


def train(learner: SparseMetaClassifier, splits: dict[str, Split]) -> dict[str, Any]:
    """Fit on the training classes; keep the weights that do best on validation classes.

    Returns
    -------
    facts : dict
        Seconds, and the accuracy on validation classes after every epoch.
    """
    X, y = (
        np.concatenate(part)
        for part in zip(splits["train"], splits["val"], strict=True)
    )
    learner.set_params(validation=np.unique(splits["val"][1]))
    start = time.perf_counter()
    learner.fit(X, y)
    return {
        "train_seconds": time.perf_counter() - start,
        "valid_accuracy": [epoch["valid_accuracy"] for epoch in learner.history_],
    }


def evaluate(
    learner: SparseMetaClassifier, split: Split, n_way: int, n_shot: int, n: int
) -> dict[str, Any]:
    """Scores of test episodes, the same for every learner."""
    rows = np.unique(split[1], return_counts=True)[1].min()
    return evaluate_few_shot(
        learner,
        *split,
        n_way=n_way,
        n_shot=n_shot,
        n_query=int(min(15, rows - n_shot)),
        n_episodes=n,
        random_state=0,
    ).to_dict()


def run(
    description: str,
    make_learner: Callable[..., SparseMetaClassifier],
    load: Callable[..., dict[str, Split]],
    evaluations: tuple[tuple[int, int], ...],
) -> None:
    """Train, print the accuracy with its interval, and save if asked to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data-dir", help="folder of the npz file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", help="write the fitted learner to this file")
    parser.add_argument("--smoke", action="store_true", help="smallest sizes")
    args = parser.parse_args()
    learner = make_learner(args.seed, smoke=args.smoke).set_params(device=args.device)
    splits = load(args.data_dir, smoke=args.smoke)
    facts = train(learner, splits)
    print(f"trained in {facts['train_seconds'] / 60:.1f} minutes")
    n = 5 if args.smoke else args.episodes
    for n_way, n_shot in ((3, 1),) if args.smoke else evaluations:
        found = evaluate(learner, splits["test"], n_way, n_shot, n)
        mean, half = 100 * found["mean"], 100 * found["half_width"]
        used = 100 * (1 - found["sparsity"])
        print(
            f"{n_way}-way {n_shot}-shot: {mean:.1f} +- {half:.1f} %, {used:.0f}% of "
            f"{learner.n_features_out_} features in use"
        )
    if args.save:
        from skcausalmeta.persistence import save

        save(learner, args.save)


def read_splits(fetch: Callable[..., Any], data_dir: str | None) -> dict[str, Split]:
    """Images and labels of the three splits of a public set."""
    splits = {}
    for name in ("train", "val", "test"):
        bunch = fetch(data_home=data_dir, split=name)
        splits[name] = bunch.data, bunch.target
    return splits


def smoke_splits(shape: tuple[int, ...]) -> dict[str, Split]:
    """Noise of a shape, six classes a split."""
    rng, y = np.random.RandomState(0), np.repeat(np.arange(6), 14)
    return {
        split: (rng.randint(0, 256, (len(y), *shape)).astype(np.uint8), y + 10 * k)
        for k, split in enumerate(("train", "val", "test"))
    }
