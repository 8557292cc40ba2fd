"""MT-CRL without known groups of inputs: settings searched, then fresh seeds.

Every contender has coordinates that are searched one after the other, from a start
on, on seeds that are kept for choosing: of the points that lose at most 1% to the best
one on unshifted rows, the one that is best on the shifted rows of those seeds. The
setting found is then fixed, and measured on fresh seeds. Baselines have the same
privilege.

``--only`` names some of the problems, ``--contenders`` some of the contenders, and
``--phase search`` leaves the fresh seeds out.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks._harness import Harness, make_parser
from benchmarks.mtcrl._problems import PROBLEMS
from benchmarks.mtcrl.bench_mtcrl import Source, interval, learner_params
from skcausalmeta.learners import MTCRLClassifier
from skcausalmeta.metrics import relative_gain, routing_f1, spurious_gradient_share

MEASURES = ("skcausalmeta/learners/_mtcrl", "skcausalmeta/training")

Point = dict[str, Any]
LOSS = 0.01
GROUPED = ("Multi-SEM", "Multi-MNIST", "MovieLens")
NETS: dict[str, Point] = {
    "Multi-SEM": {"n_modules": 4, "hidden": (16,), "out_features": 4},
    "Multi-MNIST": {"hidden": (64,), "out_features": 16, "head_hidden": 32},
    "MovieLens": {"hidden": (32,), "out_features": 8},
}
# Training of the baselines and its coordinate; training of MT-CRL.
BASELINES: dict[str, tuple[Point, tuple[int, ...]]] = {
    "Multi-SEM": ({"batch_size": 500, "lr": 5e-3, "max_epochs": 15}, (5, 15, 30)),
    "Multi-MNIST": ({"batch_size": 250, "lr": 2e-3, "max_epochs": 15}, (8, 15, 30, 60)),
    "MovieLens": ({"batch_size": 1000, "lr": 3e-3, "max_epochs": 4}, (1, 2, 4, 8)),
}
# Epochs of gradient surgery, which takes a backward pass per task.
SURGERY: dict[str, tuple[int, ...]] = {
    "Multi-SEM": (5, 15, 30),
    "Multi-MNIST": (15, 30),
    "MovieLens": (1, 2),
}
OURS: dict[str, Point] = {
    "Multi-SEM": {
        "batch_size": 1200, "lr": 1e-2, "routing_lr": 0.06, "max_epochs": 60,
    },
    "Multi-MNIST": {"batch_size": 500, "lr": 4e-3, "max_epochs": 25},
    "MovieLens": {"batch_size": 2000, "lr": 3e-3, "max_epochs": 8},
}  # fmt: skip
MTCRL: Point = {
    "modules": "mtcrl",
    "n_modules": 4,
    "irm_form": "variance",
    "irm_scale": "relative",
    "lambda_irm": 200.0,
    "lambda_dec": 0.1,
    "lambda_sps": 0.1,
}
COORDINATES: dict[str, tuple[Any, ...]] = {
    "lambda_irm": (2.0, 20.0, 200.0, 2000.0),
    "irm_scale": ("relative", "logits", "absolute"),
    "irm_form": ("variance", "norm"),
    "lambda_dec": (0.01, 0.1, 1.0),
    "lambda_sps": (0.0, 0.1, 0.5),
    "n_modules": (4, 8),
    "temperature": (1.0, 0.1),
}
INPUTS: Point = {
    "modules": "mtcrl",
    "n_modules": 4,
    "irm_form": "variance",
    "irm_scale": "inputs",
    "lambda_irm": 200.0,
    "lambda_dec": 0.01,
    "lambda_sps": 0.1,
}
OF_INPUTS: dict[str, tuple[Any, ...]] = {
    "lambda_irm": (20.0, 200.0, 600.0, 2000.0),
    "irm_form": ("variance", "norm", "unbiased"),
    "lambda_dec": (0.01, 0.1),
    "n_modules": (4, 8),
}
FOUND: Point = {
    "modules": "mtcrl",
    "module_inputs": "correlated",
    "irm_form": "norm",
    "irm_scale": "relative",
    "lambda_dec": 0.001,
    "lambda_sps": 0.3,
}
# Strength of the invariance to start from, searched from a 20th to 6.25 times of it,
# and epochs.
OF_GROUPS = {
    "Multi-SEM": (20.0, (60, 120, 240)),
    "Multi-MNIST": (10.0, (25, 50)),
    "MovieLens": (1.0, (8, 16)),
}
# Searched on Multi-SEM alone, which is small.
OF_SMALL: dict[str, tuple[Any, ...]] = {
    "lambda_dec": (0.0, 0.001, 0.01),
    "irm_form": ("norm", "variance"),
}
IRM: Point = {"modules": "shared", "irm_scale": "outputs", "lambda_irm": 1.0}
CONTENDERS: dict[str, Point] = {
    "MMoE": {"modules": "mmoe"},
    "single": {"modules": "single"},
    "shared": {"modules": "shared"},
    "PCGrad": {"modules": "shared", "gradients": "pcgrad"},
    "GradVac": {"modules": "shared", "gradients": "gradvac"},
    "IRM": IRM,
    "MMoE, groups found": {"modules": "mmoe", "module_inputs": "correlated"},
    "MT-CRL": MTCRL,
    "MT-CRL, inputs": INPUTS,
    "MT-CRL, groups found": FOUND,
}


def start_and_coordinates(
    problem: str, contender: str
) -> tuple[Point, dict[str, tuple[Any, ...]]]:
    """Point to start the search from, and what it may change."""
    own = CONTENDERS[contender]
    if own["modules"] == "mtcrl":
        free = OF_INPUTS if own["irm_scale"] == "inputs" else COORDINATES
        begin = {**NETS[problem], **OURS[problem], **own}
        if "module_inputs" in own:
            begin["lambda_irm"], epochs = OF_GROUPS[problem]
            free = {
                "max_epochs": epochs,
                "lambda_irm": tuple(
                    begin["lambda_irm"] / k for k in (20, 4, 2, 1, 0.4, 0.16)
                ),
                "lambda_sps": (0.1, 0.3, 0.6, 1.0, 2.0, 4.0),
                **(OF_SMALL if problem == "Multi-SEM" else {}),
            }
        return begin, free
    training, epochs = BASELINES[problem]
    free = {"max_epochs": epochs}
    if contender == "IRM":
        free = {"lambda_irm": (0.1, 1.0, 10.0, 100.0, 1000.0), **free}
    if "gradients" in own:
        free = {"max_epochs": SURGERY[problem]}
    return {**NETS[problem], **training, **own}, free


def measure(source: Source, point: Point, seed: int) -> dict[str, Any]:
    """One fitted learner on both tests."""
    problem, start = source(seed), time.perf_counter()
    params = learner_params(point, per_pixel=False)
    learner = MTCRLClassifier(random_state=seed, **params)
    train = problem.train
    learner.fit(train.X, train.Y, envs=train.envs)
    result: dict[str, Any] = {"routing": learner.routing_.tolist()}
    for name in ("valid", "unshifted", "shifted"):
        rows = getattr(problem, name)
        result[name] = learner.score_tasks(rows.X, rows.Y).tolist()
    if problem.truth:
        slopes = learner.input_gradients(problem.shifted.X)
        result["share"] = spurious_gradient_share(slopes, problem.truth["mask"])
        result["f1"] = routing_f1(learner.routing_, problem.truth["graph"])
    result["seconds"] = time.perf_counter() - start
    return result


class Runs:
    """Measured points of a contender on a problem."""

    def __init__(self, harness: Harness, source: Source, contender: str) -> None:
        self._harness, self._source, self._contender = harness, source, contender

    def __call__(self, point: Point, seeds: list[int]) -> list[dict[str, Any]]:
        """Results of a point, seed by seed."""
        found = []
        for seed in seeds:
            settings = {
                "problem": self._source.name,
                "contender": self._contender,
                "point": point,
                "seed": seed,
            }

            def run(seed: int = seed) -> dict[str, Any]:
                return measure(self._source, point, seed)

            found.append(self._harness.run(settings, run))
        return found


def better(results: dict[int, list[dict[str, Any]]]) -> int:
    """Position of the point that is best where ties changed, see the top."""
    means = {
        k: [
            np.nanmean([run[name] for run in runs]) for name in ("unshifted", "shifted")
        ]
        for k, runs in results.items()
    }
    bound = (1 - LOSS) * max(unshifted for unshifted, _ in means.values())
    return max((k for k in means if means[k][0] >= bound), key=lambda k: means[k][1])


def search(runs: Runs, point: Point, free: Any, seeds: list[int]) -> Point:
    """Best point by one coordinate after the other."""
    for name, values in free.items():
        points = [{**point, name: value} for value in values]
        if name == "temperature":  # a keyword that 1 leaves out
            points[0] = point
        point = points[better({k: runs(p, seeds) for k, p in enumerate(points)})]
    return point


def rows_of(results: dict[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    """Rows of the table of a problem: gains over MMoE paired by seed."""
    rows = []
    for contender, runs in results.items():
        cells: list[Any] = [contender]
        for name in ("unshifted", "shifted"):
            cells.append(round(float(np.nanmean([run[name] for run in runs])), 4))
            cells.append(interval(gains(results, contender, name)))
        for name in ("share", "f1"):
            found = [run[name] for run in runs if name in run]
            cells.append(round(float(np.mean(found)), 3) if found else "-")
        rows.append(tuple(cells))
    return rows


def gains(results: dict[str, Any], contender: str, name: str) -> list[float]:
    """Relative gains over MMoE in per cent, seed by seed."""
    return [
        100 * float(relative_gain(run[name], base[name]))
        for run, base in zip(results[contender], results["MMoE"], strict=True)
    ]


HEADER = ("contender", "unshifted", "gain %", "shifted", "gain %", "spurious", "F1")


def main() -> None:
    """Search, then measure; print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--data-dir", help="folder of mnist.npz, movielens100k.npz")
    parser.add_argument("--choose", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--seeds", type=int, nargs="+", default=[200, 201, 202])
    parser.add_argument("--only", nargs="+", choices=GROUPED, default=GROUPED)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS))
    parser.add_argument("--phase", choices=["search", "all"], default="all")
    args = parser.parse_args()
    size, choose, seeds = 1.0, args.choose, args.seeds
    if args.smoke:
        size, choose, seeds = 0.04, choose[:1], seeds[:1]
    harness = Harness("mtcrl_free", args)
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in args.only:
        assert name in PROBLEMS
        source, results = Source(name, size, args.data_dir), {}
        for contender in args.contenders or CONTENDERS:
            runs = Runs(harness, source, contender)
            begin, free = start_and_coordinates(name, contender)
            if args.smoke:
                begin = {**begin, "max_epochs": 1}
                free = {key: values[:1] for key, values in free.items()}
            point = search(runs, begin, free, choose)
            harness.table(
                f"{name}, {contender}", ("setting", "value"), [*point.items()]
            )
            results[contender] = runs(
                point, choose if args.phase == "search" else seeds
            )
        if "MMoE" in results:
            harness.table(name, HEADER, rows_of(results))
            tables[name] = results
    if len(tables) > 1 and args.phase == "all":
        rows = []
        for contender in args.contenders or CONTENDERS:
            cells = [
                interval(
                    np.mean(
                        [gains(one, contender, test) for one in tables.values()], axis=0
                    ).tolist()
                )
                for test in ("unshifted", "shifted")
            ]
            rows.append((contender, *cells))
        title = f"Mean gain over MMoE, {', '.join(tables)}"
        harness.table(title, ("contender", "unshifted %", "shifted %"), rows)


if __name__ == "__main__":
    main()
