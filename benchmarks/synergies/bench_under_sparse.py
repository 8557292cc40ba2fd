"""Whether a net that is trained under a sparse head loses anything to ridge.

The same small backbone is trained, on the same tasks, under heads that use few features
(hinge and logistic loss, with and without reweighting, `dual_reg`, refit, a warm-up,
more shots) and under ridge regressions that use all. Its own head answers the episodes,
and, frozen, so do a ridge, the logistic group Lasso, and the latter with a refit.

val
    Episodes of validation classes, by which settings were chosen (seed 10).
test
    Episodes of test classes, the same for all: differences to the net that was trained
    under and read by ridge are paired by episode. "W moves" is the share of the
    entries of W that have a derivative in the features of the support rows.

"weaker is better" is the share of tasks whose query loss falls with a weaker group
Lasso: a strength that is learned with the net follows that. Data are read from
``--data-dir`` or SKCAUSALMETA_DATA.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks._harness import Harness, make_parser
from benchmarks.few_shot._contenders import SMOKE, load, small_budget
from benchmarks.synergies._under_sparse import CONTENDERS, MORE_SHOTS, measure
from skcausalmeta.metrics import mean_confidence_interval

MEASURES = (
    "skcausalmeta/backbones",
    "skcausalmeta/heads",
    "skcausalmeta/learners/_synergies",
    "skcausalmeta/solvers",
    "skcausalmeta/training",
)

# What both parts compare with, and what the choice fell on.
BASE, FINAL = "ridge", ("ridge", "logistic, 0.25, refit")
OWN = "own"
SHOTS = {"tiny": 5, "omniglot": 1}
CHOOSING_SEED, FRESH_SEEDS = 10, (20, 21, 22)
# Half of the steps of the table of few-shot learning.
N_BATCHES, N_EPISODES = 120, {"val": 600, "test": 1000}
HEADER = (
    *("trained under", "read by", "%", "+-", "- ridge", "+-", "seeds"),
    *("features %", "W moves %", "weaker is better %", "CPU s"),
)


def settings_of(name: str, args: Any, seed: int) -> dict[str, Any]:
    """What tells one run from the others."""
    contender = CONTENDERS[name]
    shots = SHOTS[args.data]
    return {
        "part": args.part,
        "data": args.data,
        "contender": name,
        "trained": repr(contender.head),
        "warmup": contender.warmup,
        "train_shot": MORE_SHOTS[args.data] if contender.more_shots else shots,
        "n_shot": shots,
        "budget": args.budget._asdict(),
        "seed": seed,
    }


def collect(harness: Harness, args: Any) -> dict[str, list[dict[str, Any]]]:
    """Results of all runs by contender, one a seed."""
    splits: dict[str, Any] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for name in args.contenders:
            settings = settings_of(name, args, seed)

            def run(name: str = name, settings: dict[str, Any] = settings) -> Any:
                if not splits:
                    splits.update(load(args.data, args.data_dir, smoke=args.smoke))
                shots = settings["train_shot"], settings["n_shot"]
                return measure(
                    CONTENDERS[name],
                    splits,
                    settings["part"],
                    args.budget,
                    shots,
                    settings["seed"],
                )

            found.setdefault(name, []).append(harness.run(settings, run))
    return found


def rows_of(found: dict[str, list[dict[str, Any]]]) -> list[list[Any]]:
    """A row a net and head, with the paired difference to ridge."""
    base = results_of(found[BASE], OWN)
    rows = []
    for name, runs in found.items():
        for reader in (OWN, *runs[0]["readers"]):
            row = [name, reader, *figures(results_of(runs, reader), base)]
            cpu = float(np.mean([run["cpu_seconds"] for run in runs]))
            rows.append([*row, round(cpu) if reader == OWN else ""])
    return rows


def results_of(runs: list[dict[str, Any]], reader: str) -> list[dict[str, Any]]:
    """What a head has answered, one result a seed."""
    return [
        next(
            iter(
                (
                    run["evaluations"] if reader == OWN else run["readers"][reader]
                ).values()
            )
        )
        for run in runs
    ]


def figures(results: list[dict[str, Any]], base: list[dict[str, Any]]) -> list[Any]:
    """Accuracy and paired difference in percent, features in use, shares."""
    scores, others = (np.array([one["scores"] for one in r]) for r in (results, base))
    gains = 100 * (scores - others)
    mean, half = mean_confidence_interval(100 * scores.ravel())
    gain, gain_half = mean_confidence_interval(gains.ravel())
    seeds = " ".join(f"{gain:+.2f}" for gain in gains.mean(axis=1))
    used = 100 * (1 - np.mean([one["sparsity"] for one in results]))
    numbers = [round(float(value), 2) for value in (mean, half, gain, gain_half)]
    shares = [
        round(100 * float(np.mean([one[key] for one in results])), 1)
        if key in results[0]
        else ""
        for key in ("moving", "falling")
    ]
    return [*numbers, seeds, round(float(used), 1), *shares]


def main() -> None:
    """Run the part asked for and print its table."""
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=["val", "test"], default="test")
    parser.add_argument("--data", choices=list(SHOTS), default="tiny")
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument(
        "--contenders", nargs="+", choices=list(CONTENDERS), metavar="NAME"
    )
    parser.add_argument("--seeds", type=int, nargs="+")
    args = parser.parse_args()
    chooses = args.part == "val"
    args.budget = small_budget(args.data)._replace(
        n_batches=N_BATCHES, test_episodes=N_EPISODES[args.part]
    )
    if args.smoke:
        args.budget = SMOKE
    args.seeds = args.seeds or ([CHOOSING_SEED] if chooses else list(FRESH_SEEDS))
    args.seeds = args.seeds[:1] if args.smoke else args.seeds
    args.contenders = args.contenders or list(CONTENDERS if chooses else FINAL)
    if BASE not in args.contenders:
        parser.error(f"--contenders must have {BASE!r} among them")
    harness = Harness("under_sparse", args)
    size = f"{args.budget.n_way}-way {SHOTS[args.data]}-shot"
    title = f"{args.data}, {size}, {args.part} classes, {len(args.seeds)} seeds"
    harness.table(title, HEADER, rows_of(collect(harness, args)))


if __name__ == "__main__":
    main()
