"""When MAML adapts fast, and what helps a shallow model that does not.

toy
    Linear and logistic regression tasks on badly scaled inputs: one weight vector,
    the same function with linear layers, and one weight vector with a learned
    update rule, meta-trained with the same steps; loss after adaptation.
sinusoid
    10-shot sinusoids, 5 inner steps: mean squared error against inner steps.
conv
    Convolutional nets of 1, 2 and 4 layers, mean-pooled, on Omniglot or
    Tiny-ImageNet-FS: MAML, linear layers (LinNet), Meta-SGD, Meta-Curvature, KFO as
    its authors run it, with tanh layers and with flat kernels, T-nets, WarpGrad and
    ANIL, with the same budget on the same test episodes. Several ``--rates`` are
    searched: every contender has, for every depth and number of shots, the inner rate
    that is best on validation classes, with a seed that is kept for choosing and a
    shorter training; the grid grows where its best rate is its first or last. Every
    seed then has test episodes of its own. ``--learners`` and ``--depths`` name some.

Data are read from ``--data-dir`` or the environment variable SKCAUSALMETA_DATA;
``--smoke`` makes its own small images. ``--full`` trains on full images with more
filters and steps, for a GPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks._harness import Harness, make_parser
from benchmarks.maml._rates import LADDER, best_rate
from benchmarks.maml._toy_tasks import ToyTasks, linear_tasks, logistic_tasks
from skcausalmeta.backbones import MLP, Conv4
from skcausalmeta.datasets import (
    fetch_omniglot,
    fetch_tiny_imagenet,
    make_sinusoid_tasks,
)
from skcausalmeta.exceptions import DivergenceError
from skcausalmeta.learners import KFOUpdate, MAMLClassifier, MAMLRegressor
from skcausalmeta.metrics import mean_confidence_interval
from skcausalmeta.model_selection import evaluate_few_shot

MEASURES = (
    "skcausalmeta/backbones",
    "skcausalmeta/learners/_maml",
    "skcausalmeta/training",
)

# As the lines name them; `learner_params` makes parameters of a learner of them.
LEARNERS: dict[str, dict[str, Any]] = {
    "MAML": {},
    "LinNet": {"linear_layers": 3},
    "Meta-SGD": {"update": "meta-sgd"},
    "Meta-Curvature": {"update": "meta-curvature"},
    "KFO": {"update": "kfo", "psd": True, "adapt_transform": True},
    "KFO, tanh": {
        "update": "kfo",
        "psd": True,
        "adapt_transform": True,
        "n_hidden": 2,
    },
    "KFO, flat": {"update": "kfo", "kernels": "flat"},
    "T-Net": {"update": "t-net"},
    "WarpGrad": {"update": "warp-grad"},
    "ANIL": {"adapt_layers": "head"},
}
# On vectors and matrices alone, where kernels do not matter.
PLAIN: dict[str, dict[str, Any]] = {"MAML": {}, "KFO": {"update": "kfo"}}
OF_RULE = ("psd", "adapt_transform", "n_hidden", "kernels")
CHOOSING = 100
# The rate of the lines that name none.
UNSEARCHED = 0.1
TOY: dict[str, dict[str, Any]] = {
    "shallow": {},
    "deep": {"linear_layers": 3},
    "shallow + KFO": {"update": "kfo"},
}
FETCH = {"omniglot": fetch_omniglot, "tiny": fetch_tiny_imagenet}


class Size(NamedTuple):
    """Budget of a run, the same for every contender."""

    side: int
    n_filters: int
    n_batches: int
    tasks_per_batch: int
    depths: tuple[int, ...]
    toy_batches: int
    sinusoid_batches: int
    episodes: int
    n_new: int

    def of_conv(self) -> dict[str, Any]:
        """What decides a run of the convolutional nets."""
        return {k: v for k, v in self._asdict().items() if k not in _NOT_OF_CONV}

    def of_search(self, n_batches: int) -> Size:
        """Budget of a run that judges a rate."""
        few = min(n_batches, self.n_batches)
        return self._replace(n_batches=few, episodes=min(150, self.episodes))


_NOT_OF_CONV = ("toy_batches", "sinusoid_batches", "n_new")
SMOKE = Size(8, 2, 2, 2, (1,), 2, 2, 4, 5)
SMALL = Size(14, 16, 500, 4, (1, 2, 4), 2000, 4000, 600, 300)
FULL = Size(28, 32, 20_000, 16, (1, 2, 4), 20_000, 60_000, 2000, 300)


def budget(n_batches: int) -> dict[str, int]:
    per_epoch = math.gcd(100, n_batches)
    return {"batches_per_epoch": per_epoch, "max_epochs": n_batches // per_epoch}


def learner_params(params: dict[str, Any], **net: Any) -> dict[str, Any]:
    """Parameters of a learner from those of a line and more keywords of the net."""
    of_rule = {name: params[name] for name in OF_RULE if name in params}
    own = {k: v for k, v in params.items() if k not in (*OF_RULE, "linear_layers")}
    if of_rule:
        own["update"] = KFOUpdate(**of_rule)
    if "linear_layers" in params:
        net["linear_layers"] = params["linear_layers"]
    return {**own, "net_params": net}


# -- toy tasks and sinusoids ---------------------------------------------------------


def toy_run(
    data: ToyTasks, params: dict[str, Any], size: Size, seed: int
) -> dict[str, Any]:
    """Mean loss of the query rows of new tasks, before and after adaptation."""
    common = {
        "backbone": "identity",
        "inner_steps": 1,
        "inner_lr": 0.1,
        "n_shot": data.n_shot,
        "n_query": data.n_query,
        "tasks_per_batch": 16,
        "lr": 1e-2,
        "fit_head": False,
        "verbose": 0,
        "random_state": seed,
        **budget(size.toy_batches),
        **learner_params(params),
    }
    if data.classes:
        # Half of the shots of every task in each class.
        learner: Any = MAMLClassifier(**common)
    else:
        learner = MAMLRegressor(normalize_targets=False, **common)
    learner.fit(data.X, data.y, tasks=data.tasks)
    return {"losses": data.losses(learner)}


def sinusoid_run(params: dict[str, Any], size: Size, seed: int) -> dict[str, Any]:
    """Mean squared error on 600 new sinusoids before and after every step."""
    n_new = 2 * size.n_new
    train = make_sinusoid_tasks(1000, 20, random_state=seed)
    test = make_sinusoid_tasks(n_new, 60, random_state=10_000)
    learner = MAMLRegressor(
        backbone=MLP((40,), 40),
        inner_steps=5,
        inner_lr=0.01,
        n_shot=10,
        n_query=10,
        tasks_per_batch=25,
        fit_head=False,
        verbose=0,
        random_state=seed,
        **budget(size.sinusoid_batches),
        **learner_params(params),
    )
    start = time.process_time()
    learner.fit(train.data, train.target, tasks=train.tasks)
    seconds = time.process_time() - start
    X, y = test.data.reshape(n_new, 60, 1), test.target.reshape(n_new, 60)
    found = learner.staged_predict_episodes(X[:, :10], y[:, :10], X[:, 10:])
    errors = ((found - y[:, 10:]) ** 2).mean(axis=2)  # (n_steps + 1, n_tasks)
    return {"errors": errors.round(5).tolist(), "cpu_seconds": seconds}


# -- convolutional nets --------------------------------------------------------------


def images(data: str, data_dir: str | None, size: Size, smoke: bool) -> dict[str, Any]:
    """Images (n, channels, side, side) in 0..1 and labels of train and test."""
    if smoke:
        rng, y = np.random.RandomState(0), np.repeat(np.arange(6), 25)
        shape = (len(y), 1, size.side, size.side)
        return dict.fromkeys(("train", "val", "test"), (rng.random_sample(shape), y))
    return {
        split: (reduced(bunch.data, size.side), bunch.target)
        for split in ("train", "val", "test")
        for bunch in [FETCH[data](data_home=data_dir, split=split)]
    }


def reduced(images: np.ndarray, side: int) -> np.ndarray:
    """Averages of square blocks of pixels."""
    grey = images[..., None] if images.ndim == 3 else images
    n, height, _, channels = grey.shape
    block = height // side
    parts = grey[:, : side * block, : side * block].reshape(
        n, side, block, side, block, channels
    )
    return (parts.mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 255.0).astype(np.float32)


def conv_run(
    splits: dict[str, Any],
    params: dict[str, Any],
    depth: int,
    n_shot: int,
    size: Size,
    seed: int,
    device: str,
    *,
    inner_lr: float = UNSEARCHED,
    judge: str = "test",
    episode_seed: int = 0,
) -> dict[str, Any]:
    """Train once; accuracies of the episodes of the classes that judge."""
    learner = MAMLClassifier(
        backbone=Conv4(size.n_filters, depth, global_pool=True),
        inner_lr=inner_lr,
        n_way=5,
        n_shot=n_shot,
        n_query=5,
        tasks_per_batch=size.tasks_per_batch,
        batch_norm="episode",
        fit_head=False,
        device=device,
        verbose=0,
        random_state=seed,
        **budget(size.n_batches),
        **learner_params(params, task_chunk_size=size.tasks_per_batch),
    )
    start = time.process_time()
    learner.fit(*splits["train"])
    seconds = time.process_time() - start
    result = evaluate_few_shot(
        learner,
        *splits[judge],
        n_way=5,
        n_shot=n_shot,
        n_query=15,
        n_episodes=size.episodes,
        random_state=episode_seed,
    )
    return {**result.to_dict(), "cpu_seconds": seconds}


def conv_settings(args: Any, size: Size) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Settings of all runs, seed by seed so that a part of them is a table too."""
    for seed in args.seeds:
        for depth in args.depths:
            for name in args.learners:
                params = LEARNERS[name]
                yield (
                    {
                        "part": "conv",
                        "data": args.data,
                        "learner": name,
                        "params": params,
                        "depth": depth,
                        "n_shot": args.shots,
                        "size": size.of_conv(),
                        "seed": seed,
                    },
                    name,
                    depth,
                )


# -- tables ----------------------------------------------------------------------------


def report_toy(harness: Harness, args: Any, size: Size) -> None:
    for label, draw in (("linear", linear_tasks), ("logistic", logistic_tasks)):
        rows, means = [], {}
        for name, params in TOY.items():
            after, before = [], []
            for seed in args.seeds:
                settings = {
                    "part": "toy",
                    "tasks": label,
                    "learner": name,
                    "params": params,
                    "batches": size.toy_batches,
                    "seed": seed,
                }
                result = harness.run(
                    settings,
                    lambda draw=draw, params=params, seed=seed: toy_run(
                        draw(seed, size.n_new), params, size, seed
                    ),
                )
                before += result["losses"][0]
                after += result["losses"][-1]
            mean, half = mean_confidence_interval(after)
            means[name] = mean
            rows.append([name, float(np.mean(before)), mean, half])
        for row in rows:
            row.append(row[2] / means["deep"])
        header = ["model", "loss before", "after one step", "+-", "times deep"]
        harness.table(f"{label} regression tasks", header, rows)


def report_sinusoid(harness: Harness, args: Any, size: Size) -> None:
    rows = []
    for name, params in PLAIN.items():
        errors = []
        for seed in args.seeds:
            settings = {
                "part": "sinusoid",
                "learner": name,
                "params": params,
                "batches": size.sinusoid_batches,
                "seed": seed,
            }
            result = harness.run(
                settings,
                lambda params=params, seed=seed: sinusoid_run(params, size, seed),
            )
            errors.append(np.array(result["errors"]))
        joint = np.concatenate(errors, axis=1)
        half = mean_confidence_interval(joint[-1])[1]
        rows.append([name, *joint.mean(axis=1).tolist(), half])
    steps = [f"{k} steps" for k in range(joint.shape[0])]
    harness.table("Sinusoids, 10-shot, MSE", ["learner", *steps, "+-"], rows)


def chosen_rate(
    harness: Harness, splits: Any, settings: dict[str, Any], args: Any, size: Size
) -> float:
    """Inner rate that is best on validation classes, with the seed that chooses."""
    few = size.of_search(args.search_batches)

    def judged(rate: float) -> float:
        one = {
            **settings,
            "part": "conv-rate",
            "inner_lr": rate,
            "size": few.of_conv(),
            "seed": CHOOSING,
        }

        def measure() -> dict[str, Any]:
            try:
                return conv_run(
                    splits,
                    settings["params"],
                    settings["depth"],
                    settings["n_shot"],
                    few,
                    CHOOSING,
                    args.device,
                    inner_lr=rate,
                    judge="val",
                    episode_seed=CHOOSING,
                )
            except DivergenceError:
                return {"scores": [], "diverged": True}

        scores = harness.run(one, measure)["scores"]
        return float(np.mean(scores)) if scores else 0.0

    return best_rate(judged, args.rates)


def report_conv(harness: Harness, args: Any, size: Size) -> None:
    splits = images(args.data, args.data_dir, size, args.smoke)
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    rates: dict[tuple[str, int], float] = {}
    for settings, name, depth in conv_settings(args, size):
        searched = len(args.rates) > 1
        if searched:
            rate = chosen_rate(harness, splits, settings, args, size)
            own: dict[str, Any] = {"part": "conv-searched", "inner_lr": rate}
        else:
            rate = args.rates[0]
            own = {} if rate == UNSEARCHED else {"inner_lr": rate}
        rates[name, depth] = rate
        result = harness.run(
            {**settings, **own},
            lambda s=settings, rate=rate, searched=searched: conv_run(
                splits,
                s["params"],
                s["depth"],
                s["n_shot"],
                size,
                s["seed"],
                args.device,
                inner_lr=rate,
                episode_seed=s["seed"] if searched else 0,
            ),
        )
        found.setdefault((name, depth), []).append(np.array(result["scores"]))
        seconds.setdefault((name, depth), []).append(result["cpu_seconds"])
    rows = []
    for depth in args.depths:
        base = np.concatenate(found["MAML", depth])
        for name in args.learners:
            scores = np.concatenate(found[name, depth])
            mean, half = mean_confidence_interval(scores)
            gain, gain_half = mean_confidence_interval(scores - base)
            row = [depth, name, rates[name, depth]]
            row += [*(round(100 * v, 1) for v in (mean, half))]
            row += [round(100 * v, 1) for v in (gain, gain_half)]
            rows.append([*row, round(float(np.mean(seconds[name, depth])))])
    header = ["layers", "learner", "rate", "%", "+-", "against MAML", "+-", "CPU s"]
    title = f"{args.data}, 5-way {args.shots}-shot, {len(args.seeds)} seeds"
    harness.table(title, header, rows)


PARTS = {"toy": report_toy, "sinusoid": report_sinusoid, "conv": report_conv}


def main() -> None:
    """Run the parts asked for and print their tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--data", choices=list(FETCH), default="omniglot")
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[UNSEARCHED],
        choices=LADDER,
        metavar="RATE",
    )
    parser.add_argument("--search-batches", type=int, default=150)
    parser.add_argument("--depths", type=int, nargs="+", help="default: all")
    parser.add_argument("--learners", choices=list(LEARNERS), nargs="+")
    parser.add_argument("--batches", type=int, help="meta-batches of the part conv")
    parser.add_argument("--episodes", type=int, help="test episodes of the part conv")
    parser.add_argument("--full", action="store_true", help="sizes for a GPU")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    size = FULL if args.full else SMALL
    args.learners = ["MAML", *(set(args.learners or LEARNERS) - {"MAML"})]
    args.learners.sort(key=list(LEARNERS).index)
    if args.smoke:
        size, args.seeds = SMOKE, [0, 1]
    given = {"n_batches": args.batches, "episodes": args.episodes}
    size = size._replace(**{name: n for name, n in given.items() if n})
    args.depths = args.depths or size.depths
    harness = Harness("kfo_depth", args)
    for name, report in PARTS.items():
        if args.part in (name, "all"):
            report(harness, args, size)


if __name__ == "__main__":
    main()
