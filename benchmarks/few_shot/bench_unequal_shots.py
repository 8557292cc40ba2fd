"""New classes with unequal supports: every class of an episode draws 1 to 10 rows.

Learners of the few-shot benchmark, trained as there on episodes of as many rows a
class, answer 5-way episodes whose classes have 1 to 10 support rows each, few more
often than many. Differences are paired over the episodes and seeds, to the prototype
net. The features of the sparse learner are read by a second sparse head too, whose
features the logistic loss chooses and a ridge weighs: the best on validation classes
with seed 50, of hinge and logistic choices read by class means and by a ridge. Data are
read from ``--data-dir`` or SKCAUSALMETA_DATA.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._harness import Harness, make_parser
from benchmarks.few_shot._contenders import (
    FETCH,
    HEADS,
    SHOTS,
    SMOKE,
    Split,
    load,
    small_budget,
)
from benchmarks.few_shot._features import N_DIGITS
from benchmarks.few_shot.bench_few_shot import OF_FROZEN, train
from skcausalmeta.episodes import EpisodeSampler
from skcausalmeta.heads import GroupLassoLogistic, RelaxedHead, RidgeHead
from skcausalmeta.metrics import mean_confidence_interval

MEASURES = (
    "skcausalmeta/heads",
    "skcausalmeta/learners/_synergies",
    "skcausalmeta/training",
)
SPARSE = "SparseMeta, 0.2, relaxed"
BY_LOGISTIC = "SparseMeta, 0.2, relaxed, by logistic"
LEARNERS = (
    SPARSE,
    BY_LOGISTIC,
    "SVM (MetaOptNet)",
    "ridge (R2D2)",
    OF_FROZEN,
)
# The nets of a learner, read by another head than their own.
READ_BY: dict[str, tuple[str, Any]] = {
    BY_LOGISTIC: (SPARSE, RelaxedHead(GroupLassoLogistic(0.25, 0.1), RidgeHead()))
}
RANGE = (1, 10)


def measure(
    name: str, splits: dict[str, Split], args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Accuracies of the test episodes, with equal supports of training size too."""
    trained, head = READ_BY.get(name) or (name, HEADS[name].answers)
    learner = train(trained, splits, args, args.shots, seed)
    X, y = learner.transform(splits["test"][0]), splits["test"][1]
    ways = {"n_way": args.budget.n_way, "n_query": 15 if not args.smoke else 2}
    unequal = EpisodeSampler(y, n_shot=RANGE, unequal=True, random_state=0, **ways)
    equal = EpisodeSampler(y, n_shot=args.shots, random_state=0, **ways)
    kinds = {"unequal": unequal, "equal": equal}
    found: dict[str, Any] = {}
    for kind, sampler in kinds.items():
        found[kind], used = answers(head, X, y, sampler, args.episodes)
        found[f"{kind}, features in use"] = round(used, 4)
    return found


def answers(
    head: Any, X: np.ndarray, y: np.ndarray, sampler: EpisodeSampler, n_episodes: int
) -> tuple[list[float], float]:
    """Accuracies of a head on episodes of features, centred as the learners do.

    And the mean share of the features that it uses.
    """
    found, used = [], []
    for episode in sampler.draw(n_episodes):
        support, labels = X[episode.support], y[episode.support]
        middle = np.mean([support[labels == c].mean(0) for c in np.unique(labels)], 0)
        head.fit(support - middle, labels)
        hits = head.predict(X[episode.query] - middle) == y[episode.query]
        found.append(round(float(hits.mean()), N_DIGITS))
        chosen = getattr(head, "support_features_", np.arange(X.shape[1]))
        used.append(len(chosen) / X.shape[1])
    return found, float(np.mean(used))


def report(harness: Harness, found: dict[str, list[dict[str, Any]]]) -> None:
    """Means, and differences to the prototype net, in percent."""
    rows = []
    for name, runs in found.items():
        row: list[Any] = [name]
        for kind in ("unequal", "equal"):
            scores = np.concatenate([run[kind] for run in runs])
            base = np.concatenate([run[kind] for run in found[OF_FROZEN]])
            for values in (scores, scores - base):
                row += [round(100 * v, 2) for v in mean_confidence_interval(values)]
        rows.append(row)
    header = ["learner"]
    for kind in ("1 to 10", "equal"):
        header += [f"{kind}, %", "+-", "- prototypes", "+-"]
    harness.table("5-way episodes of unequal supports", header, rows)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data", choices=list(FETCH), default="tiny")
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=LEARNERS)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.augment, args.shots = None, SHOTS[args.data][0]
    args.budget = small_budget(args.data)
    if args.smoke:
        args.budget, args.seeds, args.episodes = SMOKE, [0], 4
        args.learners = ("ridge (R2D2)", BY_LOGISTIC, OF_FROZEN)
    return args


def settings_of(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """What decides a run."""
    return {
        "data": args.data,
        "learner": name,
        "seed": seed,
        "budget": args.budget._asdict(),
        "shots": args.shots,
        "range": list(RANGE),
        "episodes": args.episodes,
    }


def collect(
    harness: Harness, args: argparse.Namespace, names: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Results by learner, a seed each."""
    splits: dict[str, Split] = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}

    def run(name: str, seed: int) -> dict[str, Any]:
        if not splits:
            splits.update(load(args.data, args.data_dir, smoke=args.smoke))
        return measure(name, splits, args, seed)

    for seed in args.seeds:
        for name in names:
            settings = settings_of(args, name, seed)
            found[name].append(harness.run(settings, lambda: run(name, seed)))  # noqa: B023
    return found


def main() -> None:
    """Train what is missing and print the table."""
    args = parse()
    harness = Harness("unequal_shots", args, [])
    names = [*(n for n in args.learners if n != OF_FROZEN), OF_FROZEN]
    report(harness, collect(harness, args, names))


if __name__ == "__main__":
    main()
