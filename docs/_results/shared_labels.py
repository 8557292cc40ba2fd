"""Tables of tasks that share their labels: simple methods beside the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.tables._contenders import CONTENDERS, SIMPLE
from benchmarks.tables._scores import IN_USE
from benchmarks.tables._summary import best_simple, by_task, differences

from .lines import Line, at
from .tables import Benchmark, Column, Table, meets

_METRICS = {
    "tox21": "AUC",
    "toxcast": "AUC",
    "wisdm": "accuracy",
    "school": "RMSE",
}
_SHOTS = {
    "tox21": (0, 1, 5, 10, 20),
    "toxcast": (0, 1, 5, 10, 20),
    "wisdm": (0, 1, 3, 5, 10),
    "school": (0, 5, 10, 20, 50),
}
_TITLES = {
    "tox21": "Tox21: 9 training and 3 new assays, AUC",
    "toxcast": "ToxCast: 249 training and 60 new assays, AUC",
    "wisdm": "WISDM: 24 training and 12 new people, accuracy",
    "school": "School: 100 training and 39 new schools, error (RMSE)",
}
_TEXTS = {
    "tox21": "The first split is the published one. A molecule can occur in several "
    "assays, of training and of test.",
    "toxcast": "Up to 100 molecules of either class are training rows of an assay. A "
    "molecule can occur in several assays, of training and of test.",
    "wisdm": "Six activities, of which a person has two to six.",
    "school": "Exam scores, whose standard deviation is 12.7.",
}
_GENERAL = (
    '"k" labels of a new task, of each class for classes, and up to half of what there '
    "is; 0: none. Mean over the new tasks of the splits that were run, each task being "
    "the mean of its supports, drawn three times. Query rows are the same for all k "
    "and all contenders. Seconds are of one core, with the search of parameters."
)


def by_shots(
    data: str, metric: str, shares: str = "equal", query: str = "all"
) -> Callable[[list[Line]], list[Line]]:
    """Return the function that makes a line a contender and split, with its tasks.

    Its result has the scores by number of labels, and their differences from the best
    simple method of that number; what is paired is a new task of a split.
    """

    def prepared(lines: list[Line]) -> list[Line]:
        wanted = {"data": data, "shares": shares, "query": query}
        lines = [line for line in lines if meets(line, wanted)]
        scores = by_task(lines, metric)
        best = best_simple(scores, SIMPLE, metric != "RMSE")
        leads = {
            name: {k: differences(own[k], scores[best[k]][k]) for k in own if k in best}
            for name, own in scores.items()
        }
        found = {}
        for line in sorted(lines, key=_order):
            name, split = (line["settings"][key] for key in ("contender", "split"))
            more = {
                "score": _of_split(scores.get(name, {}), split),
                "lead": _of_split(leads.get(name, {}), split),
                "slowest job": _slowest(line),
            }
            if any(more["score"].values()):
                found[name, split] = {**line, "result": {**line["result"], **more}}
        return list(found.values())

    return prepared


def _order(line: Line) -> tuple[int, int]:
    names = list(CONTENDERS)
    return names.index(line["settings"]["contender"]), line["settings"]["split"]


def _of_split(scores: Any, split: int) -> dict[str, list[float]]:
    return {
        k: [score for key, score in own.items() if key[0] == split]
        for k, own in scores.items()
    }


def _slowest(line: Line) -> float:
    """Milliseconds of a job with the number of labels that takes longest."""
    return 1e3 * max(at(line, "result/job seconds").values(), default=0.0)


def _tables(data: str) -> list[Table]:
    shots = [str(k) for k in _SHOTS[data]]
    prepare = by_shots(data, _METRICS[data])
    found = [
        Table(
            _TITLES[data],
            f"{_TEXTS[data]} {_GENERAL}",
            ("contender",),
            [
                *(Column(f"k = {k}", f"score/{k}") for k in shots),
                Column("fit, CPU s", "fit seconds", "plain"),
                Column("a job, CPU ms", "slowest job", "plain"),
            ],
            prepare=prepare,
        ),
        Table(
            f"{data}: less the best simple method",
            "Paired over the new tasks of all splits, for every k its own best method "
            "of those that need no package for tasks (zero), over the tasks that all "
            "of them have.",
            ("contender",),
            [Column(f"k = {k}", f"lead/{k}", "change") for k in shots],
            prepare=prepare,
        ),
    ]
    found.append(_in_use(data, shots[1:]))
    if _METRICS[data] == "AUC":
        found += [_disjoint(data, shots), *_natural(data, shots)]
    return found


def _in_use(data: str, shots: list[str]) -> Table:
    return Table(
        f"{data}: features in use",
        "Share of the features, columns among them, in which a new task deviates from "
        "what all tasks share, in percent; measured in some of the runs.",
        ("contender",),
        [Column(f"k = {k}", f"score/{k}", "percent") for k in shots],
        prepare=by_shots(data, IN_USE),
    )


def _disjoint(data: str, shots: list[str]) -> Table:
    return Table(
        f"{data}: molecules that no training row has",
        "AUC on a third of the molecules, by fingerprint, which is left out of all "
        "training rows and supports, and the same less the best simple method.",
        ("contender",),
        [
            *(Column(f"k = {k}", f"score/{k}") for k in shots),
            *(Column(f"lead, k = {k}", f"lead/{k}", "change") for k in shots),
        ],
        prepare=by_shots(data, "AUC", query="disjoint"),
    )


def _natural(data: str, shots: list[str]) -> list[Table]:
    """Two tables of supports that are drawn without regard to their class."""
    drawn = "2k rows are drawn as they come, whatever their class."
    return [
        Table(
            f"{data}: natural shares, both classes weighing alike",
            f'Balanced accuracy. {drawn} "balanced": ``class_weight`` of the model.',
            ("contender",),
            [
                *(Column(f"k = {k}", f"score/{k}") for k in shots),
                *(Column(f"lead, k = {k}", f"lead/{k}", "change") for k in shots),
            ],
            prepare=by_shots(data, "balanced accuracy", shares="natural"),
        ),
        Table(
            f"{data}: natural shares, probabilities",
            f"Mean predicted probability of the active class less its share. {drawn}",
            ("contender",),
            [Column(f"k = {k}", f"score/{k}", "change") for k in shots],
            prepare=by_shots(data, "excess share", shares="natural"),
            names={name: name for name in CONTENDERS if "balanced" not in name},
            only_named=True,
        ),
    ]


def by_columns(lines: list[Line]) -> list[Line]:
    """Make a line for every way to tell the columns in which a task differs."""
    found = []
    for line in lines:
        for name, (right, chosen, true) in line["result"]["counts"].items():
            result = {
                "F1": 2 * right / (chosen + true),
                "precision": right / max(chosen, 1),
                "recall": right / true,
            }
            own = {**line["settings"], "columns": name}
            found.append({**line, "settings": own, "result": result})
    return found


BENCHMARKS = [
    Benchmark(
        "tables",
        "Tasks that share their labels",
        [table for data in _METRICS for table in _tables(data)],
    ),
    Benchmark(
        "columns",
        "Columns in which a task differs",
        [
            Table(
                "Found with 20 labels",
                "Of 20 columns every new task weighs two differently, by as much as "
                "the size says; 20 rows a class, or 20 rows of real targets. Means "
                "over seeds of 20 tasks each.",
                ("kind", "size", "columns"),
                [
                    Column("F1", "F1"),
                    Column("precision", "precision", "plain"),
                    Column("recall", "recall", "plain"),
                ],
                prepare=by_columns,
            )
        ],
    ),
    Benchmark(
        "unequal_shots",
        "Classes with unequal supports",
        [
            Table(
                "Five new classes with 1 to 10 rows each",
                "Accuracy in percent, beside the same nets on episodes of 5 rows a "
                "class; differences are paired over episodes.",
                ("data", "learner"),
                [
                    Column("5 each", "equal", "percent"),
                    Column("1 to 10", "unequal", "percent"),
                    Column(
                        "1 to 10, less prototypes",
                        "unequal",
                        "points",
                        minus={"learner": "prototypes (ProtoNet)"},
                    ),
                ],
            )
        ],
    ),
]
