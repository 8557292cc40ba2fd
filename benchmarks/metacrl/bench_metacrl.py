"""MetaCRL around six learners, where tasks mislead each other and where they do not.

confounded
    Vectors (`make_confounded_tasks`) and coloured characters
    (`make_confounded_images`): two training environments per task, in the query rows
    of the test tasks the confounder has turned around. Accuracy of every learner
    alone and in MetaCRL; F1 of the causal sets by the weights of the factors.
unshifted
    Omniglot and Tiny-ImageNet-FS, 5-way 1-shot, small images and nets.
regression
    10-shot sinusoids and harmonics, mean squared error; "prototype" is ridge there.
ablation
    MetaCRL on vectors without one of its parts, and the learner alone on the
    episodes of MetaCRL, across environments ("crossed").
transfer
    Accuracy on vectors against tasks per meta-batch, with as many tasks in all, and
    the share of test tasks that lose against batches of one.
overhead
    CPU time of a training step in MetaCRL against the wrapped learner.

Contenders share data, seeds and test episodes. "episodes +-" is the 95% interval of the
mean paired difference over all episodes, given the trained models; "seeds +-" the t
interval over the means of the seeds, which counts a training run as one observation.
Settings and defaults were chosen with seed 50, on the val split of the images.

Omniglot and Tiny-ImageNet-FS are read from ``--data-dir`` or SKCAUSALMETA_DATA;
``--smoke`` makes its own images.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from scipy import stats
from skorch.callbacks import Callback

from benchmarks._harness import Harness, make_parser
from benchmarks.metacrl._contenders import (
    ABLATIONS,
    FAMILIES,
    LEARNERS,
    Data,
    load,
    make_learner,
    test_scores,
    wrapped,
)
from skcausalmeta.metrics import mean_confidence_interval, negative_transfer, support_f1

MEASURES = ("skcausalmeta/heads", "skcausalmeta/learners", "skcausalmeta/training")

PARTS = {
    "confounded": ("vectors", "images"),
    "unshifted": ("omniglot", "tiny"),
    "regression": ("sinusoid", "harmonic"),
}
ABLATED = ("ANIL", "prototype")
BATCHES = (1, 2, 4, 8, 16)


class Bench:
    """Runs of one call, with data that are made once."""

    def __init__(self, args: Any) -> None:
        self.args = args
        self.harness = Harness("metacrl", args)
        self.learners = ABLATED if args.smoke else tuple(LEARNERS)
        self._data: dict[tuple[str, int], Data] = {}

    def data(self, family: str, seed: int) -> Data:
        key = (family, seed if family not in PARTS["unshifted"] else 0)
        if key not in self._data:
            self._data = {key: load(family, seed, self.args)}
        return self._data[key]

    def steps(self, family: str) -> int:
        return 2 if self.args.smoke else FAMILIES[family]["steps"]

    def run(
        self,
        part: str,
        family: str,
        name: str,
        contender: str,
        seed: int,
        crl: dict[str, Any] | None,
        **more: Any,
    ) -> dict[str, Any]:
        """Train one contender on one seed; its scores on the test episodes."""
        settings = {
            "part": part,
            "family": family,
            "learner": name,
            "contender": contender,
            "crl": None if crl is None else _all_params(family, crl),
            "more": more,
            "settings": _plain(FAMILIES[family]),
            "steps": self.steps(family),
            "seed": seed,
        }

        def measure() -> dict[str, Any]:
            data = self.data(family, seed)
            steps = more.get("steps", self.steps(family))
            extra = {k: v for k, v in more.items() if k != "steps"}
            learner = make_learner(family, name, seed, steps, **extra)
            if crl is not None:
                learner = wrapped(family, learner, **crl)
            start = time.process_time()
            learner.fit(data.X, data.y, tasks=data.tasks, envs=data.envs)
            seconds = time.process_time() - start
            scores = test_scores(family, learner, data, self.args)
            result = {
                "scores": np.round(scores, 5).tolist(),
                "cpu_seconds": seconds,
                "steps": steps,
                "history": learner.history_[-1],
            }
            if crl is not None and family == "vectors":
                result["f1"] = causal_f1(learner, data)
            return result

        return self.harness.run(settings, measure)


def _all_params(family: str, crl: dict[str, Any]) -> dict[str, Any]:
    """Parameters of the wrapper, defaults included."""
    params = wrapped(family, None, **crl).get_params(deep=False)
    return {name: value for name, value in params.items() if name != "estimator"}


def _plain(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _plain(value) for key, value in settings.items()}
    return list(settings) if isinstance(settings, tuple) else settings


def causal_f1(learner: Any, data: Data) -> float:
    """F1 of the causal sets: true factors whose way to the head is at least half open.

    Learned factors are read by linear regression on the true ones of the training
    rows; a true factor is as open as the norm of its coefficients with the weights,
    over that without, against the widest of the task.
    """
    latents = np.column_stack([data.bunch.latents, np.ones(len(data.X))])
    coef = np.linalg.lstsq(latents, learner.transform(data.X), rcond=None)[0][:-1]
    weights = np.stack(
        [
            learner.task_weights(rows, labels)
            for rows, labels in zip(
                data.test.X_support, data.test.y_support, strict=True
            )
        ]
    )  # (n_tasks, n_learned)
    open_to = np.sqrt(np.square(weights) @ np.square(coef).T)
    share = open_to / np.sqrt(np.square(coef).sum(axis=1))
    share /= share.max(axis=1, keepdims=True)
    return support_f1(data.test.causal_sets, share, threshold=0.5)


def difference(
    plain: list[np.ndarray], other: list[np.ndarray]
) -> tuple[float, float, float]:
    """Mean paired difference, its interval over episodes and over seeds."""
    gains = [two - one for one, two in zip(plain, other, strict=True)]
    mean, over_episodes = mean_confidence_interval(np.concatenate(gains))
    by_seed = np.array([gain.mean() for gain in gains])
    over_seeds = float("nan")
    if len(by_seed) > 1:
        quantile = stats.t.ppf(0.975, len(by_seed) - 1)
        over_seeds = quantile * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    return mean, over_episodes, over_seeds


def report_family(bench: Bench, part: str, family: str) -> None:
    """All learners alone and in MetaCRL; differences to the plain learner."""
    contenders: dict[str, Any] = {"plain": None, "MetaCRL": {}}
    rows, gains = [], []
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in bench.args.seeds:
        for name in bench.learners:
            for contender, crl in contenders.items():
                result = bench.run(part, family, name, contender, seed, crl)
                found.setdefault((name, contender), []).append(result)
    scale = 1.0 if part == "regression" else 100.0
    for name in bench.learners:
        plain = [np.array(run["scores"]) for run in found[name, "plain"]]
        for contender in contenders:
            runs = found[name, contender]
            scores = [np.array(run["scores"]) for run in runs]
            mean, *halves = difference(plain, scores)
            if contender != "plain":
                gains.append(mean)
            f1 = np.mean([run["f1"] for run in runs]) if "f1" in runs[0] else ""
            seconds = float(np.mean([run["cpu_seconds"] for run in runs]))
            shown = [scale * float(np.mean(scores)), scale * mean]
            rows.append(
                [name, contender, *shown, *(scale * h for h in halves), f1, seconds]
            )
    rows.append(["mean", "MetaCRL", "", scale * float(np.mean(gains)), "", "", "", ""])
    unit = "-MSE" if part == "regression" else "%"
    header = ["learner", "", unit, "against plain", "episodes +-", "seeds +-"]
    title = f"{family}, {len(bench.args.seeds)} seeds"
    bench.harness.table(title, [*header, "F1", "CPU s"], rows)


def report_ablation(bench: Bench) -> None:
    rows = []
    for name in ABLATED:
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in bench.args.seeds:
            plain = bench.run("confounded", "vectors", name, "plain", seed, None)
            runs.setdefault("plain", []).append(plain)
            crossed = bench.run(
                "ablation", "vectors", name, "crossed", seed, None, across_envs=True
            )
            runs.setdefault("plain, crossed", []).append(crossed)
            for label, crl in ABLATIONS.items():
                part = "ablation" if crl else "confounded"
                result = bench.run(part, "vectors", name, label, seed, crl)
                runs.setdefault(label, []).append(result)
        base = [np.array(run["scores"]) for run in runs["MetaCRL"]]
        for label, found in runs.items():
            scores = [np.array(run["scores"]) for run in found]
            mean, *halves = difference(base, scores)
            f1 = np.mean([run["f1"] for run in found]) if "f1" in found[0] else ""
            rows.append([name, label, 100 * float(np.mean(scores)), 100 * mean])
            rows[-1] += [*(100 * half for half in halves), f1]
    header = ["learner", "", "%", "against MetaCRL", "episodes +-", "seeds +-", "F1"]
    bench.harness.table("vectors, parts left out", header, rows)


def report_transfer(bench: Bench) -> None:
    """As many tasks in all, in larger and fewer batches."""
    rows, n_tasks = [], 1600 if not bench.args.smoke else 4
    sizes = BATCHES if not bench.args.smoke else BATCHES[:2]
    for contender, crl in (("plain", None), ("MetaCRL", {})):
        alone: list[list[float]] = []
        for size in sizes:
            scores = [
                bench.run(
                    "transfer",
                    "vectors",
                    "ANIL",
                    contender,
                    seed,
                    crl,
                    tasks_per_batch=size,
                    steps=n_tasks // size,
                )["scores"]
                for seed in bench.args.seeds
            ]
            alone = alone or scores
            found = negative_transfer(np.concatenate(alone), np.concatenate(scores))
            shares = (found.share, found.share_low, found.share_high)
            rows.append(
                [contender, size, 100 * float(np.mean(scores)), 100 * found.mean]
            )
            rows[-1] += [100 * found.half_width, *(100 * share for share in shares)]
    header = ["ANIL", "tasks a batch", "%", "against batches of 1", "+-"]
    header += ["tasks that lose %", "from", "to"]
    bench.harness.table("vectors, negative transfer", header, rows)


class Clock(Callback):
    """CPU time at the end of every epoch, of all copies together."""

    ends: ClassVar[list[float]] = []

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


def report_overhead(bench: Bench) -> None:
    rows, repeats = [], 1 if bench.args.smoke else 3
    for family in ("vectors", "omniglot"):
        for name in bench.learners:
            settings = {
                "part": "overhead",
                "family": family,
                "learner": name,
                "settings": _plain(FAMILIES[family]),
                "repeats": repeats,
            }
            times = bench.harness.run(
                settings,
                lambda family=family, name=name: step_times(
                    bench, family, name, repeats
                ),
            )
            plain, ours = np.array(times["plain"]), np.array(times["MetaCRL"])
            ratio = float(np.median(ours / plain))
            rows.append(
                [family, name, 1e3 * np.median(plain), 1e3 * np.median(ours), ratio]
            )
    header = ["family", "learner", "plain ms", "MetaCRL ms", "times"]
    bench.harness.table("CPU time of a training step", header, rows)


def step_times(
    bench: Bench, family: str, name: str, repeats: int
) -> dict[str, list[float]]:
    """CPU seconds per step, plain and wrapped in turn."""
    data, steps = bench.data(family, 0), 2 if bench.args.smoke else 20
    times: dict[str, list[float]] = {"plain": [], "MetaCRL": []}
    for _ in range(repeats):
        for contender in times:
            learner = make_learner(
                family, name, 0, steps, batches_per_epoch=steps, max_epochs=2
            )
            if contender == "MetaCRL":
                learner = wrapped(family, learner)
            prefix = "estimator__" if contender == "MetaCRL" else ""
            learner.set_params(**{f"{prefix}callbacks": [Clock()]})
            learner.fit(data.X, data.y, tasks=data.tasks, envs=data.envs)
            # The first epoch warms up.
            times[contender].append((Clock.ends[-1] - Clock.ends[-2]) / steps)
    return times


def main() -> None:
    """Run the parts asked for and print their tables."""
    parser = make_parser(__doc__)
    names = [*PARTS, "ablation", "transfer", "overhead", "all"]
    parser.add_argument("--part", choices=names, default="all")
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    args.split = "test"
    if args.smoke:
        args.seeds = [0]
    bench = Bench(args)
    for part, families in PARTS.items():
        if args.part in (part, "all"):
            for family in families:
                report_family(bench, part, family)
    reports = {
        "ablation": report_ablation,
        "overhead": report_overhead,
        "transfer": report_transfer,
    }
    for part, report in reports.items():
        if args.part in (part, "all"):
            report(bench)


if __name__ == "__main__":
    main()
