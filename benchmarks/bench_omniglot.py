"""Omniglot: 5-way accuracy on an alphabet never seen, with few features.

Trains `SparseMetaClassifier` (Conv4-64, group-Lasso SVM head) on the characters
of the training alphabets of ``omniglot.npz`` (rotations as further classes), keeps
the weights that do best on the validation alphabet, and evaluates 5-way 1-shot and
5-shot episodes of the test alphabet. Pixels with 1-NN are evaluated on the same
episodes. The data are read from ``--data-dir`` or the environment variable
SKCAUSALMETA_DATA; ``--smoke`` makes its own small images.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _harness import Harness, make_parser
from sklearn.neighbors import KNeighborsClassifier
from skorch.callbacks import LRScheduler

from skcausalmeta.datasets import add_rotated_classes, fetch_omniglot
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import mean_confidence_interval
from skcausalmeta.model_selection import evaluate_few_shot

RECIPE: dict[str, Any] = {
    "group_reg": 0.35,
    "n_way": 10,
    "n_shot": 1,
    "n_query": 5,
    "tasks_per_batch": 4,
    "batches_per_epoch": 100,
    "max_epochs": 18,
    "n_filters": 64,
    "augment": "affine",
    "lr": 1e-3,
}


def load(data_dir: str | None, smoke: bool) -> dict[str, tuple[Any, Any]]:
    """Images and labels of every split."""
    if smoke:
        rng = np.random.RandomState(0)
        y = np.repeat(np.arange(6), 12)
        return {
            split: (rng.randint(0, 256, (72, 28, 28)).astype(np.uint8), y)
            for split in ("train", "val", "test")
        }
    bunches = {
        split: fetch_omniglot(data_home=data_dir, split=split)
        for split in ("train", "val", "test")
    }
    return {split: (b.data, b.target) for split, b in bunches.items()}


def train(
    splits: dict[str, tuple[Any, Any]], recipe: dict[str, Any], seed: int
) -> tuple[SparseMetaClassifier, float]:
    """Fitted learner and seconds of training."""
    X, y = add_rotated_classes(*splits["train"])
    X_valid, y_valid = splits["val"]
    y_valid = y_valid + y.max() + 1
    rest = {k: v for k, v in recipe.items() if k not in ("group_reg", "n_filters")}
    learner = SparseMetaClassifier(
        GroupLassoSVC(recipe["group_reg"], solver="newton"),
        backbone="conv4",
        backbone_params={"n_filters": recipe["n_filters"]},
        validation_classes=np.unique(y_valid),
        fit_head=False,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=recipe["max_epochs"])],
        verbose=0,
        random_state=seed,
        **rest,
    )
    start = time.perf_counter()
    learner.fit(np.concatenate([X, X_valid]), np.concatenate([y, y_valid]))
    return learner, time.perf_counter() - start


def measure(
    splits: dict[str, tuple[Any, Any]],
    recipe: dict[str, Any],
    seed: int,
    n_episodes: int,
) -> dict[str, Any]:
    """Train once; accuracy and sparsity on the test alphabet."""
    learner, seconds = train(splits, recipe, seed)
    best = max(epoch["valid_accuracy"] for epoch in learner.history_)
    out: dict[str, Any] = {"train_seconds": seconds, "best_valid_accuracy": best}
    for shots in (1, 5):
        result = evaluate(learner, splits["test"], shots, n_episodes)
        out[f"5w{shots}s"] = result.to_dict()
    return out


def evaluate(estimator: Any, split: tuple[Any, Any], shots: int, n: int) -> Any:
    """The same test episodes for every estimator and training seed."""
    n_query = 5 if len(split[1]) < 100 else 15
    return evaluate_few_shot(
        estimator,
        *split,
        n_way=5,
        n_shot=shots,
        n_query=n_query,
        n_episodes=n,
        random_state=0,
    )


def main() -> None:
    """Run all seeds and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data-dir", help="folder of omniglot.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=600)
    args = parser.parse_args()
    recipe = dict(RECIPE)
    if args.smoke:
        args.seeds, args.episodes = [0], 5
        recipe.update(n_way=3, batches_per_epoch=2, max_epochs=1, n_filters=4)
        recipe["validation_episodes"] = 5
    splits = load(args.data_dir, args.smoke)
    harness = Harness("omniglot", args)
    rows = []
    for seed in args.seeds:
        settings = {**recipe, "learner": "SparseMeta", "seed": seed, "n": args.episodes}

        def run(seed: int = seed) -> dict[str, Any]:
            return measure(splits, recipe, seed, args.episodes)

        result = harness.run(settings, run)
        rows.append(row_of(f"SparseMeta, seed {seed}", result))
    harness.table("Omniglot, test alphabet, 5-way", HEADER, rows)
    pixels = {
        f"5w{shots}s": harness.run(
            {"learner": "1-NN pixels", "shots": shots, "n": args.episodes},
            lambda shots=shots: evaluate(
                KNeighborsClassifier(1),
                (
                    splits["test"][0].reshape(len(splits["test"][1]), -1) / 255.0,
                    splits["test"][1],
                ),
                shots,
                args.episodes,
            ).to_dict(),
        )
        for shots in (1, 5)
    }
    harness.table("Same episodes", HEADER, [row_of("1-NN pixels", pixels)])


HEADER = ("contender", "1-shot %", "+-", "5-shot %", "+-", "unused", "train s")


def row_of(name: str, result: dict[str, Any]) -> tuple[Any, ...]:
    """One row of the table."""
    cells: list[Any] = [name]
    for shots in ("5w1s", "5w5s"):
        mean, half = mean_confidence_interval(result[shots]["scores"])
        cells += [round(100 * mean, 1), round(100 * half, 1)]
    unused = result["5w1s"].get("sparsity")
    cells.append("-" if unused is None else f"{100 * unused:.0f}%")
    cells.append(round(result.get("train_seconds", 0.0)))
    return tuple(cells)


if __name__ == "__main__":
    main()
