"""Tables of learners by gradient steps: depth, learned updates, speed."""

from __future__ import annotations

from .lines import Line, at
from .tables import Benchmark, Column, Table

_DEPTHS = (1, 2, 4)
_MAML = {"learner": "MAML"}
_LEARNERS = {
    "MAML": "MAML",
    "LinNet": "+ 3 linear",
    "Meta-SGD": "Meta-SGD",
    "Meta-Curvature": "Meta-Curvature",
    "KFO": "KFO",
    "KFO, tanh": "KFO, 2 tanh layers",
    "KFO, flat": "KFO, flat kernels",
    "T-Net": "T-net",
    "WarpGrad": "WarpGrad, linear",
    "ANIL": "ANIL",
}
_NETS = {"conv": "Conv4-64", "dense": "40-40 net"}
_CONTENDERS = ("ours", "learn2learn", "learn2learn, our net", "higher", "loop")


def _images(data: str, n_shot: int, text: str) -> Table:
    return Table(
        f"{data}, {n_shot} shot{'s' if n_shot > 1 else ''}, rate .1 for all",
        f"Accuracy in per cent by the number of layers, and the paired difference to "
        f"MAML of the same depth in points; {text}, the same for all. Intervals are "
        "over episodes, not over trainings.",
        ("learner",),
        [
            *(
                Column(_layers(depth), "scores", "percent", where={"depth": depth})
                for depth in _DEPTHS
            ),
            *(
                Column(
                    f"{depth}, - MAML",
                    "scores",
                    "points",
                    where={"depth": depth},
                    minus=_MAML,
                )
                for depth in _DEPTHS
            ),
            Column("training of 4, CPU s", "cpu_seconds", "median", where={"depth": 4}),
        ],
        {"part": "conv", "data": data, "n_shot": n_shot},
        names=_LEARNERS,
        only_named=True,
    )


def with_rates(lines: list[Line]) -> list[Line]:
    """Put the inner rate of a line, which a search chose, beside its scores."""
    return [
        {**line, "result": {**line["result"], "rate": at(line, "settings/inner_lr")}}
        for line in lines
    ]


def _searched(data: str, n_shot: int, depths: tuple[int, ...], text: str) -> Table:
    columns = []
    for depth in depths:
        own = {"where": {"depth": depth}}
        columns += [
            Column(_layers(depth), "scores", "percent", **own),
            Column(f"{depth}, - MAML", "scores", "points", minus=_MAML, **own),
            Column(f"{depth}, rate", "rate", "plain", **own),
        ]
    return Table(
        f"{data}, {n_shot} shot{'s' if n_shot > 1 else ''}, rates searched",
        "Accuracy in per cent, the paired difference to MAML of the same depth in "
        f"points, and the inner rate, which a search on validation classes chose for "
        f"every cell; {text}, the same for all. KFO is that of its authors: their "
        "kernels, psd, factors adapted from the second step on. Intervals are over "
        "episodes of three trainings.",
        ("learner",),
        columns,
        {"part": "conv-searched", "data": data, "n_shot": n_shot},
        prepare=with_rates,
        names=_LEARNERS,
        only_named=True,
    )


def _layers(depth: int) -> str:
    return f"{depth} layer" + ("s" if depth > 1 else "")


def per_task(lines: list[Line]) -> list[Line]:
    """Make milliseconds a task of the seconds of a step, and name the cases."""
    found = []
    for line in lines:
        case = at(line, "settings/case") or {}
        order = "first order" if case.get("first_order") else "second order"
        net = _NETS.get(case.get("kind"), "")
        label = (
            f"{net}, {case.get('n_shot')}-shot, {case.get('n_tasks')} tasks, {order}"
        )
        scale = 1e3 / case.get("n_tasks", 1)
        times = {
            name: scale * seconds
            for name, seconds in line["result"].items()
            if isinstance(seconds, float)
        }
        settings = {**line["settings"], "case": label}
        found.append({**line, "settings": settings, "result": times})
    return found


BENCHMARKS = [
    Benchmark(
        "kfo_depth",
        "MAML by depth, and update rules",
        [
            _searched("omniglot", 1, (1, 2, 4), "14 x 14 pixels, 200 steps of 4 tasks"),
            _searched("omniglot", 5, (1, 2, 4), "14 x 14 pixels, 200 steps of 4 tasks"),
            _searched("tiny", 1, (1, 2, 4), "200 steps of 4 tasks"),
            _searched("tiny", 5, (1, 2, 4), "200 steps of 4 tasks"),
            _images("omniglot", 1, "14 x 14 pixels, 500 steps of 4 tasks"),
            _images("omniglot", 5, "14 x 14 pixels, 200 steps of 4 tasks"),
            _images("tiny", 1, "200 steps of 4 tasks"),
            _images("tiny", 5, "100 steps of 4 tasks"),
            Table(
                "Loss after one step on linear and logistic tasks",
                "One weight vector (shallow), the same functions with extra linear "
                "layers (deep), and one weight vector with KFO; the same budget.",
                ("tasks", "learner"),
                [Column("before", "losses/0"), Column("after one step", "losses/-1")],
                {"part": "toy"},
            ),
            Table(
                "Mean squared error on 10-shot sinusoids",
                "By the number of inner steps, 300 new tasks a run.",
                ("learner",),
                [Column(f"after {k}", f"errors/{k}") for k in (0, 1, 5)],
                {"part": "sinusoid"},
            ),
        ],
    ),
    Benchmark(
        "maml_speed",
        "Outer gradient of MAML",
        [
            Table(
                "Milliseconds a task",
                "Of 5 inner steps; medians in one process, 2 threads.",
                ("case",),
                [Column(name, name, "median") for name in _CONTENDERS],
                {"part": "time"},
                prepare=per_task,
            ),
            Table(
                "Peak memory beyond the imports, MB",
                "Of Conv4-64, 1 shot, second order; median of 3 processes.",
                ("name",),
                [Column("MB", "peak", "median", 1e-6)],
                {"part": "memory"},
            ),
        ],
    ),
]
