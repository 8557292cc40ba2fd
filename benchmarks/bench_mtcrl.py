"""MT-CRL: multi-task learning where ties between labels change at test time.

Single-task nets, a shared net, MMoE, MT-CRL and MT-CRL without each of its terms on
Multi-SEM, Multi-MNIST, MovieLens-100k and rendered scenes; accuracy (R^2 of values)
on unshifted and shifted tests. "groups": modules read one group of inputs each
(block of features, patch of the image, kind of column); "all inputs" and the
"published" objective let every module read everything. Every contender has its grid;
the point with the best score in the worst training environment is taken, on a
validation split of the training rows. The shifted test chooses nothing.

MNIST and MovieLens are read from ``--data-dir`` or SKCAUSALMETA_DATA; ``--smoke``
makes do without. ``--only`` names some of the problems, or "throughput".
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from _harness import Harness, make_parser
from _mtcrl_problems import PROBLEMS, Problem, Rows

from skcausalmeta.learners import MTCRLClassifier
from skcausalmeta.metrics import (
    mean_confidence_interval,
    relative_gain,
    routing_f1,
    spurious_gradient_share,
)
from skcausalmeta.nets import MLPExperts, MultiTaskNet, RoutedExperts, RowStream

# Settings of the nets, grids of the baselines and grids of MT-CRL.
RECIPES: dict[str, dict[str, Any]] = {
    "Multi-SEM": {
        "net": {"n_modules": 4, "hidden": (16,), "out_features": 4},
        "baseline": [
            {"batch_size": 500, "lr": 5e-3, "max_epochs": epochs} for epochs in (5, 15)
        ],
        "mtcrl": {"batch_size": 2000, "lr": 1e-2, "max_epochs": 100, "lambda_bal": 0.0},
        "irm": (5.0, 20.0),
        "sps": (0.5, 1.0),
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
    "MT-CRL, published": ("mtcrl", False, {"irm_scale": "absolute"}),
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


def fit(problem: Problem, contender: str, point: dict[str, Any], seed: int) -> Any:
    """A fitted learner."""
    modules, grouped, _ = CONTENDERS[contender]
    learner = MTCRLClassifier(
        modules,
        module_inputs=problem.groups if grouped else None,
        task_types=problem.task_types,
        random_state=seed,
        **point,
    )
    train = problem.train
    return learner.fit(train.X, train.Y, envs=train.envs)


def worst_environment(learner: Any, rows: Rows) -> float:
    """Smallest mean score of the tasks over the environments."""
    return min(
        learner.score(rows.X[rows.envs == env], rows.Y[rows.envs == env])
        for env in np.unique(rows.envs)
    )


def measure(problem: Problem, contender: str, grid: Any, seed: int) -> dict[str, Any]:
    """Choose on the validation split, then score on both tests."""
    start = time.perf_counter()
    learners = [fit(problem, contender, point, seed) for point in grid]
    scores = [worst_environment(learner, problem.valid) for learner in learners]
    best = learners[int(np.argmax(scores))]
    result: dict[str, Any] = {
        "point": grid[int(np.argmax(scores))],
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


def step_times(shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Medians of a training step in milliseconds, both in turn."""
    n_tasks, p, hidden, h, n, n_envs = shape
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n, p, generator=generator)
    labels = (torch.randn(n_tasks, n, 1, generator=generator) > 0).float()
    stream = RowStream(rows, labels, torch.arange(n) % n_envs, n, seed=0)
    weights = {"decorrelation": 0.1, "sparsity": 0.1, "balance": 0.1, "irm": 1.0}
    nets = {}
    for routing in ("mmoe", "mtcrl"):
        module = RoutedExperts(
            MLPExperts(p, 8, (hidden,), h), n_tasks, routing=routing, gate_features=p
        )
        net = MultiTaskNet(
            module,
            kinds=[("binary", 2)] * n_tasks,
            task_weights=torch.ones(n_tasks),
            weights=weights,
            warmup=(0.0, 0.0),
            optimizer=torch.optim.Adam,
            train_split=None,
        ).initialize()
        net.get_split_datasets((stream, None))
        net.history.new_epoch()
        net.history.new_batch()
        nets[routing] = net
    batch = next(iter(stream))
    seconds: dict[str, list[float]] = {routing: [] for routing in nets}
    for _ in range(repeats):
        for routing, net in nets.items():
            start = time.perf_counter()
            net.train_step(batch)
            seconds[routing].append(time.perf_counter() - start)
    half = repeats // 2  # the first steps warm up
    return {name: 1e3 * float(np.median(t[half:])) for name, t in seconds.items()}


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
    for name, make in PROBLEMS.items():
        if name not in args.only:
            continue
        recipe = {**RECIPES[name]}
        if args.smoke:
            recipe["baseline"] = [{**recipe["baseline"][0], "max_epochs": 1}]
            recipe["mtcrl"] = {**recipe["mtcrl"], "max_epochs": 1}
            recipe["irm"], recipe["sps"] = recipe["irm"][:1], recipe["sps"][:1]
        problems: dict[int, Problem] = {}
        results: dict[str, list[dict[str, Any]]] = {}
        for contender in args.contenders or CONTENDERS:
            if name == "scenes" and CONTENDERS[contender][1]:
                # Convolutions see the image: the plain objective and its ablation.
                continue
            grid = grid_of(recipe, contender)
            for seed in seeds:
                settings = {
                    "problem": name,
                    "contender": contender,
                    "seed": seed,
                    "grid": grid,
                }

                def run(
                    seed: int = seed, contender: str = contender, grid: Any = grid
                ) -> dict[str, Any]:
                    if seed not in problems:
                        problems[seed] = make(seed, size, args.data_dir)
                    return measure(problems[seed], contender, grid, seed)

                found = harness.run(settings, run)
                results.setdefault(contender, []).append(found)
        if "MMoE" in results:
            harness.table(f"{name}, {len(seeds)} seeds", HEADER, summary(results))
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
