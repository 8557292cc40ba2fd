"""What would make the graph of MT-CRL true: its objective at several kinds of modules.

On Multi-SEM, with the strengths that a search chose for modules that read everything,
and several restarts of each seed. A module that reads a known group is one that reads
everything with some weights at zero, so that objectives of the same width can be
compared: where those of known groups are higher, the objective does not ask for the
true graph; where they are lower, the optimiser did not find it.

"least" is the restart of a seed whose objective is least, which one can choose without
knowing the graph, "best" the one whose graph is nearest to the truth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks._harness import Harness, make_parser
from benchmarks.mtcrl.bench_mtcrl import Source, learner_params
from benchmarks.mtcrl.bench_mtcrl_free import MTCRL, NETS, OURS
from skcausalmeta.learners import MTCRLClassifier
from skcausalmeta.metrics import routing_f1, spurious_gradient_share

MEASURES = ("skcausalmeta/learners/_mtcrl", "skcausalmeta/training")

Point = dict[str, Any]
PROBLEM = "Multi-SEM"
TERMS = ("tasks", "decorrelation", "sparsity", "balance", "irm")
SEARCHED: Point = {**NETS[PROBLEM], **OURS[PROBLEM], **MTCRL, "lambda_sps": 0.5}
ONE: Point = {"out_features": 1, "lambda_dec": 0.01}
KNOWN = {"module_inputs": "known"}
# What a case changes in the point that was searched.
CASES: dict[str, Point] = {
    "all inputs": {},
    "known groups": KNOWN,
    "one feature": ONE,
    "all inputs, no decorrelation": {"lambda_dec": 0.0},
    "one feature, known groups": {**ONE, **KNOWN},
    "all inputs, sparsity x 5": {"lambda_sps": 2.5},
    "all inputs, gates shut": {"temperature": 0.1},
}


def measure(source: Source, point: Point, seed: int, restart: int) -> dict[str, Any]:
    """Graph, objective and scores of one training."""
    problem, params = source(seed), learner_params(point, per_pixel=False)
    if params.get("module_inputs") == "known":
        params["module_inputs"] = problem.groups
    learner = MTCRLClassifier(random_state=1000 * restart + seed, **params)
    train = problem.train
    learner.fit(train.X, train.Y, envs=train.envs)
    last, shifted = learner.history_[-1], problem.shifted
    slopes = learner.input_gradients(shifted.X)
    return {
        "objective": last["train_loss"],
        "terms": {name: last[name] for name in TERMS},
        "f1": routing_f1(learner.routing_, problem.truth["graph"]),
        "share": spurious_gradient_share(slopes, problem.truth["mask"]),
        "unshifted": learner.score(problem.unshifted.X, problem.unshifted.Y),
        "shifted": learner.score(shifted.X, shifted.Y),
    }


def cell(
    harness: Harness, source: Source, case: str, point: Point, seed: int, restart: int
) -> dict[str, Any]:
    """One training, or its line if it is there."""
    settings = {"case": case, "point": point, "seed": seed, "restart": restart}
    return harness.run(settings, lambda: measure(source, point, seed, restart))


def row_of(case: str, seeds: list[list[dict[str, Any]]]) -> tuple[Any, ...]:
    """Row of a case: means over the seeds, each with its restarts."""
    least = [min(runs, key=lambda run: run["objective"]) for runs in seeds]
    best = [max(run["f1"] for run in runs) for runs in seeds]
    names = ("objective", "f1", "share", "unshifted", "shifted")
    means = [round(float(np.mean([run[name] for run in least])), 3) for name in names]
    means.insert(2, round(float(np.mean(best)), 3))
    return (case, *means)


HEADER = (
    "case", "objective", "F1, least", "F1, best", "spurious", "unshifted", "shifted",
)  # fmt: skip


def main() -> None:
    """Train all cases, seeds and restarts; print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[200, 201, 202])
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=CASES)
    args = parser.parse_args()
    size, seeds, restarts, few = 1.0, args.seeds, args.restarts, {}
    if args.smoke:
        size, seeds, restarts, few = 0.04, seeds[:1], 1, {"max_epochs": 1}
    harness, source, rows = (
        Harness("mtcrl_graph", args),
        Source(PROBLEM, size, None),
        [],
    )
    for case in args.cases:
        point = {**SEARCHED, **CASES[case], **few}
        found = [
            [cell(harness, source, case, point, seed, k) for k in range(restarts)]
            for seed in seeds
        ]
        rows.append(row_of(case, found))
    harness.table(f"Multi-SEM, {restarts} restarts a seed", HEADER, rows)


if __name__ == "__main__":
    main()
