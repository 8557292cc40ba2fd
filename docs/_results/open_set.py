"""Tables of rows of none of the classes: scores, and what is refused."""

from __future__ import annotations

from .lines import Line
from .tables import Benchmark, Column, Table

_SCORES = ("distance", "probability", "margin", "energy")


def by_task(lines: list[Line]) -> list[Line]:
    """Make a line for every split and number of shots, with its head by name."""
    found = []
    for line in lines:
        settings = line["settings"]
        head = "prototypes" if "PrototypeHead" in settings["learner"] else "SVC"
        for shots in settings["shots"]:
            for split, name in (("val", "validation"), ("test", "test")):
                own = {"data": settings["data"], "head": head, "classes": name}
                own |= {"shots": shots, "seed": settings["seed"]}
                result = line["result"][f"{split} {shots}"]
                found.append({**line, "settings": own, "result": result})
    return found


def _columns(fact: str) -> list[Column]:
    parts = []
    for score in _SCORES:
        parts.append(Column(score, f"{fact}/{score}/0", "plain", scale=100))
        parts.append(Column("+-", f"{fact}/{score}/1", "plain", scale=100))
    return parts


_ROWS = ("data", "head", "classes", "shots")
BENCHMARKS = [
    Benchmark(
        "open_set",
        "Rows of none of the classes",
        [
            Table(
                "Area under the ROC curve",
                "In percent, of scores that tell rows of five new classes from rows of "
                "the five classes of a task; the mean over tasks and half its 95% "
                "interval. Distance to the nearest class mean in features is the "
                "default of ``reject=``, chosen on the validation classes.",
                _ROWS,
                _columns("auroc"),
                prepare=by_task,
            ),
            Table(
                "False positive rate at 95%",
                "In percent, of the rows of new classes, those that pass where 95% of "
                "the rows of the task's classes do.",
                _ROWS,
                _columns("fpr95"),
                prepare=by_task,
            ),
            Table(
                "Refused with reject=0.05",
                "In percent. The threshold was learned on episodes of the validation "
                "classes, with five shots.",
                _ROWS,
                [
                    Column("of known rows", "known_refused/0", "plain", scale=100),
                    Column("of new rows", "new_refused/0", "plain", scale=100),
                    Column("accuracy of kept", "accuracy_of_kept/0", "plain", 100),
                ],
                prepare=by_task,
            ),
        ],
    )
]
