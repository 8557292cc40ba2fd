"""MT-CRL: multi-task learning where ties between labels change at test time.

Single-task nets, a shared net, MMoE, MT-CRL and MT-CRL without each of its terms on
Multi-SEM, Multi-MNIST, MovieLens-100k and rendered scenes; accuracy (R^2 of values)
on unshifted and shifted tests. "groups": modules read one group of inputs each
(block of features, patch of the image, kind of column); "all inputs" and "norm in
A" let every module read everything, the latter with the gradient in A itself.

Every contender has its grid. What counts is the score in the worst training
environment, on a validation split of the training rows: of the baselines the best
point is taken, of MT-CRL the strongest penalty within 1% of the best one. No test
chooses anything.

MNIST and MovieLens are read from ``--data-dir`` or SKCAUSALMETA_DATA; ``--smoke``
makes do without. ``--only`` names some of the problems, or "throughput".
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from skorch.callbacks import Callback

from benchmarks._harness import Harness, make_parser
from benchmarks.mtcrl._problems import PROBLEMS, Problem, Rows
from skcausalmeta.learners import ConvExpert, MLPExpert, MTCRLClassifier
from skcausalmeta.metrics import (
    mean_confidence_interval,
    relative_gain,
    routing_f1,
    spurious_gradient_share,
)

MEASURES = ("skcausalmeta/learners/_mtcrl", "skcausalmeta/training")

# Settings of the nets, grids of the baselines and grids of MT-CRL, as the lines name
# them; `learner_params` makes parameters of a learner of them.
RECIPES: dict[str, dict[str, Any]] = {
    "Multi-SEM": {
        "net": {"n_modules": 4, "hidden": (16,), "out_features": 4},
        "baseline": [
            {"batch_size": 500, "lr": 5e-3, "max_epochs": epochs} for epochs in (5, 15)
        ],
        "mtcrl": {
            "batch_size": 1200,
            "lr": 1e-2,
            "routing_lr": 0.06,
            "max_epochs": 100,
        },
        "irm": (5.0, 20.0),
        "sps": (0.1, 0.3),
    },
    "Multi-MNIST": {
        "net": {"hidden": (64,), "out_features": 16, "head_hidden": 32},
        "baseline": [
            {"batch_size": 250, "lr": 2e-3, "max_epochs": epochs} for epochs in (8, 15)
        ],
        "mtcrl": {"batch_size": 500, "lr": 4e-3, "max_epochs": 25},
        "irm": (3.0, 10.0),
        "sps": (0.3, 1.0),
    },
    "MovieLens": {
        "net": {"hidden": (32,), "out_features": 8},
        "baseline": [
            {"batch_size": 1000, "lr": 3e-3, "max_epochs": epochs} for epochs in (4, 8)
        ],
        "mtcrl": {"batch_size": 2000, "lr": 3e-3, "max_epochs": 8},
        "irm": (0.3, 1.0),
        "sps": (0.1, 0.5),
    },
    "scenes": {
        "net": {"n_modules": 4, "hidden": (8,), "out_features": 8},
        "baseline": [
            {"batch_size": 16, "lr": 5e-3, "max_epochs": epochs} for epochs in (8, 15)
        ],
        "mtcrl": {"batch_size": 16, "lr": 5e-3, "max_epochs": 15},
        "irm": (0.3, 3.0),
        "sps": (0.1,),
    },
}
DEC = 0.001
# Relative loss on the validation split that the strongest penalty may cost.
TOLERANCE = 0.01
# Of the settings of a net, those of its modules and those of its training.
OF_EXPERT = ("hidden", "out_features", "head_hidden")
OF_NET = ("routing_lr", "temperature")
# Name, modules, groups of inputs, terms that are left out.
CONTENDERS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "single": ("single", False, {}),
    "shared": ("shared", False, {}),
    "MMoE": ("mmoe", False, {}),
    "MMoE, groups": ("mmoe", True, {}),
    "MT-CRL, groups": ("mtcrl", True, {}),
    "- decorrelation": ("mtcrl", True, {"lambda_dec": 0.0}),
    "- sparsity, balance": ("mtcrl", True, {"lambda_sps": 0.0, "lambda_bal": 0.0}),
    "- invariance": ("mtcrl", True, {"lambda_irm": 0.0}),
    "MT-CRL, all inputs": ("mtcrl", False, {}),
    "MT-CRL, norm in A": ("mtcrl", False, {"irm_scale": "absolute"}),
}


def grid_of(recipe: dict[str, Any], contender: str) -> list[dict[str, Any]]:
    """Settings that a contender may choose from."""
    modules, _, fixed = CONTENDERS[contender]
    if modules != "mtcrl":
        return [{**recipe["net"], **point} for point in recipe["baseline"]]
    points = [
        {
            **recipe["net"],
            "lambda_dec": DEC,
            **recipe["mtcrl"],
            "lambda_irm": irm,
            "lambda_sps": sps,
            **fixed,
        }
        for irm in recipe["irm"]
        for sps in recipe["sps"]
    ]
    return [point for k, point in enumerate(points) if point not in points[:k]]


def learner_params(point: dict[str, Any], *, per_pixel: bool) -> dict[str, Any]:
    """Parameters of a learner from a point of a grid."""
    size = {name: point[name] for name in OF_EXPERT if name in point}
    net = {name: point[name] for name in OF_NET if name in point}
    own = {k: v for k, v in point.items() if k not in (*OF_EXPERT, *OF_NET)}
    if per_pixel:
        (n_filters,) = size.pop("hidden")
        expert: ConvExpert | MLPExpert = ConvExpert(n_filters, **size)
    else:
        expert = MLPExpert(**size)
    return {**own, "expert": expert, "net_params": net}


def fit(problem: Problem, contender: str, point: dict[str, Any], seed: int) -> Any:
    """A fitted learner."""
    modules, grouped, _ = CONTENDERS[contender]
    learner = MTCRLClassifier(
        modules,
        module_inputs=problem.groups if grouped else None,
        task_types=problem.task_types,
        random_state=seed,
        **learner_params(point, per_pixel=problem.train.Y.ndim == 4),
    )
    train = problem.train
    return learner.fit(train.X, train.Y, envs=train.envs)


def worst_environment(learner: Any, rows: Rows) -> float:
    """Smallest mean score of the tasks over the environments."""
    return min(
        learner.score(rows.X[rows.envs == env], rows.Y[rows.envs == env])
        for env in np.unique(rows.envs)
    )


def choose(scores: list[float], strongest: bool) -> int:
    """Position in a grid whose penalties grow; see the top of the file."""
    best = max(scores)
    if not strongest:
        return int(np.argmax(scores))
    good = [k for k, score in enumerate(scores) if score >= (1 - TOLERANCE) * best]
    return good[-1]


def measure(problem: Problem, contender: str, grid: Any, seed: int) -> dict[str, Any]:
    """Choose on the validation split, then score on both tests."""
    start = time.perf_counter()
    learners = [fit(problem, contender, point, seed) for point in grid]
    scores = [worst_environment(learner, problem.valid) for learner in learners]
    chosen = choose(scores, CONTENDERS[contender][0] == "mtcrl")
    best = learners[chosen]
    result: dict[str, Any] = {
        "point": grid[chosen],
        "valid_worst": scores,
        "routing": best.routing_.tolist(),
    }
    for name in ("unshifted", "shifted"):
        rows = getattr(problem, name)
        result[name] = best.score_tasks(rows.X, rows.Y).tolist()
    if problem.truth:
        slopes = best.input_gradients(problem.shifted.X)
        result["share"] = spurious_gradient_share(slopes, problem.truth["mask"])
        result["f1"] = routing_f1(best.routing_, problem.truth["graph"])
    result["seconds"] = time.perf_counter() - start
    return result


class Source:
    """Problems of one name, made when a run needs them and kept."""

    def __init__(self, name: str, size: float, data_dir: str | None) -> None:
        self.name, self._size, self._data_dir = name, size, data_dir
        self._made: dict[int, Problem] = {}

    def __call__(self, seed: int) -> Problem:
        if seed not in self._made:
            make = PROBLEMS[self.name]
            self._made[seed] = make(seed, self._size, self._data_dir)
        return self._made[seed]


def cell(
    harness: Harness, source: Source, contender: str, grid: Any, seed: int
) -> dict[str, Any]:
    """One run, or its line if it is there."""
    settings = {
        "problem": source.name,
        "contender": contender,
        "seed": seed,
        "grid": grid,
        "tolerance": TOLERANCE,
    }
    return harness.run(settings, lambda: measure(source(seed), contender, grid, seed))


def gains_of(
    runs: list[dict[str, Any]], baseline: list[dict[str, Any]], test: str
) -> list[float]:
    """Mean relative gain of the tasks in per cent, seed by seed."""
    return [
        100 * relative_gain(run[test], base[test])
        for run, base in zip(runs, baseline, strict=True)
    ]


def interval(gains: list[float]) -> str:
    """Mean and half the width of its interval over seeds."""
    mean, half = mean_confidence_interval(gains)
    return f"{mean:+.1f} +- {half:.1f}" if len(gains) > 1 else f"{mean:+.1f}"


def overall(
    tables: dict[str, dict[str, list[dict[str, Any]]]],
) -> list[tuple[Any, ...]]:
    """Gains over MMoE, mean of the problems with groups of inputs."""
    grouped = [found for found in tables.values() if "MT-CRL, groups" in found]
    rows = []
    for contender in grouped[0] if grouped else ():
        cells = [contender]
        for test in ("unshifted", "shifted"):
            gains = [gains_of(one[contender], one["MMoE"], test) for one in grouped]
            cells.append(interval(np.mean(gains, axis=0).tolist()))
        rows.append(tuple(cells))
    return rows


def summary(results: dict[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    """Rows of the table of one problem: means over seeds, gains over MMoE paired."""
    rows = []
    for contender, runs in results.items():
        cells: list[Any] = [contender]
        for name in ("unshifted", "shifted"):
            cells.append(round(float(np.nanmean([run[name] for run in runs])), 4))
            gains = [
                100 * relative_gain(run[name], base[name])
                for run, base in zip(runs, results["MMoE"], strict=True)
            ]
            mean, half = mean_confidence_interval(gains)
            cells.append(
                f"{mean:+.1f} +- {half:.1f}" if len(runs) > 1 else f"{mean:+.1f}"
            )
        for name in ("share", "f1"):
            found = [run[name] for run in runs if name in run]
            cells.append(round(float(np.mean(found)), 2) if found else "-")
        cells.append(round(float(np.mean([run["seconds"] for run in runs])), 1))
        rows.append(tuple(cells))
    return rows


HEADER = (
    "contender", "unshifted", "gain %", "shifted", "gain %", "spurious", "F1", "s",
)  # fmt: skip

# n_tasks, inputs, hidden, h, rows of a batch, environments; always 8 modules.
STEPS = ((5, 100, 64, 16, 256, 2), (5, 100, 64, 16, 1024, 2), (5, 300, 256, 16, 256, 2))
LAPS = 4


class StepTimer(Callback):
    """Notes the seconds of every training step in the history."""

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self.start_ = time.perf_counter()

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        net.history.record_batch("step", time.perf_counter() - self.start_)


def step_times(shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Medians of a training step in milliseconds, trainings of both in turn."""
    n_tasks, p, hidden, h, n, n_envs = shape
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, p), dtype=np.float32)
    labels = (rng.standard_normal((n, n_tasks)) > 0).astype(int)
    seconds: dict[str, list[float]] = {"mmoe": [], "mtcrl": []}
    for _ in range(LAPS):
        for modules, steps in seconds.items():
            learner = MTCRLClassifier(
                modules,
                expert=MLPExpert((hidden,), out_features=h),
                lambda_dec=0.1,
                batch_size=n,
                max_epochs=repeats // LAPS,
                callbacks=[StepTimer()],
                net_params={"warmup": (0.0, 0.0)},
                random_state=0,
            ).fit(rows, labels, envs=np.arange(n) % n_envs)
            found = [row["batches"][0]["step"] for row in learner.net_.history]
            steps += found[len(found) // 2 :]  # the first steps warm up
    return {name: 1e3 * float(np.median(found)) for name, found in seconds.items()}


def main() -> None:
    """Run all problems, contenders and seeds; print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--data-dir", help="folder of mnist.npz, movielens100k.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    names = [*PROBLEMS, "throughput"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS))
    args = parser.parse_args()
    size, repeats = (0.04, 4) if args.smoke else (1.0, 200)
    seeds = args.seeds[:1] if args.smoke else args.seeds
    harness = Harness("mtcrl", args)
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in PROBLEMS:
        if name not in args.only:
            continue
        recipe = {**RECIPES[name]}
        if args.smoke:
            recipe["baseline"] = [{**recipe["baseline"][0], "max_epochs": 1}]
            recipe["mtcrl"] = {**recipe["mtcrl"], "max_epochs": 1}
            recipe["irm"], recipe["sps"] = recipe["irm"][:1], recipe["sps"][:1]
        source = Source(name, size, args.data_dir)
        results = {
            contender: [
                cell(harness, source, contender, grid_of(recipe, contender), seed)
                for seed in seeds
            ]
            for contender in args.contenders or CONTENDERS
            # Convolutions see the whole image.
            if name != "scenes" or not CONTENDERS[contender][1]
        }
        if "MMoE" in results:
            harness.table(f"{name}, {len(seeds)} seeds", HEADER, summary(results))
            tables[name] = results
    if rows_of_all := overall(tables):
        title = f"Mean gain over MMoE, {', '.join(n for n in tables if n != 'scenes')}"
        harness.table(title, ("contender", "unshifted %", "shifted %"), rows_of_all)
    if "throughput" in args.only:
        rows = []
        for shape in STEPS:
            settings = {"problem": "throughput", "shape": shape, "repeats": repeats}

            def step(shape: tuple[int, ...] = shape) -> dict[str, Any]:
                return step_times(shape, repeats)

            times = harness.run(settings, step)
            ratio = times["mtcrl"] / times["mmoe"]
            rows.append((*shape, times["mmoe"], times["mtcrl"], ratio))
        harness.table("One training step, 8 modules, ms", STEP_HEADER, rows)


STEP_HEADER = ("tasks", "inputs", "hidden", "h", "rows", "envs", "MMoE", "MT-CRL", "x")


if __name__ == "__main__":
    main()
