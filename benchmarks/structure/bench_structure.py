"""How much of the package one has to read to follow a call or to add a learner.

The table has, beside goals:

* files and functions of the package that one call passes through, next to calls of
  scikit-learn counted the same way in its own files;
* classes of the package that a learner rests on, mixins with a single user, and
  constructor parameters;
* places in ``learners/`` that ask or change what attributes an object has;
* imports of private modules of another room, and files whose code names the hook.

``--list`` names the files and functions of every call, and the classes, places,
imports and files that are counted. Nothing is timed; a run takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from benchmarks._harness import (
    Harness,
    append_line,
    commit_now,
    environment,
    make_parser,
)
from benchmarks.structure._calls import calls
from benchmarks.structure._source import (
    attribute_tricks,
    files_with_hook,
    learner_classes,
    mixins_with_one_user,
    n_parameters,
    own_bases,
    private_imports,
)

MEASURES = ("skcausalmeta",)

# At most so many files and functions.
CALL_GOALS = {
    "SparseMetaClassifier.fit": (32, 160),
    "adapt with RidgeHead": (10, 30),
    "MAMLClassifier.adapt": (12, 40),
}
PARAMETER_GOALS = {"SparseMeta": 24, "MAML": 28, "MTCRL": 24}
MAX_BASES = 3


class Measure(NamedTuple):
    """A number, the largest that is good, and what was counted."""

    name: str
    value: int
    goal: int | None = None
    counted: tuple[str, ...] = ()

    def row(self) -> list[str]:
        if self.goal is None:
            return [self.name, str(self.value), "", ""]
        met = "yes" if self.value <= self.goal else "no"
        return [self.name, str(self.value), f"<= {self.goal}", met]


def call_measures() -> list[Measure]:
    measures = []
    for name, passed in calls():
        counts = passed.counts()
        files, functions = CALL_GOALS.get(name, (None, None))
        measures += [
            Measure(f"{name}: files", counts["files"], files, tuple(passed.lines())),
            Measure(f"{name}: functions", counts["functions"], functions),
            Measure(f"{name}: functions with a name", counts["named"]),
        ]
    return measures


def class_measures() -> list[Measure]:
    measures = []
    for name, cls in learner_classes().items():
        bases = own_bases(cls)
        family = name.removesuffix("Classifier").removesuffix("Regressor")
        measures += [
            Measure(f"{name}: own base classes", len(bases), MAX_BASES, tuple(bases)),
            Measure(
                f"{name}: parameters", n_parameters(cls), PARAMETER_GOALS.get(family)
            ),
        ]
    return measures


def source_measures() -> list[Measure]:
    # One swap of the attributes is what makes `fit` all or nothing.
    return [
        Measure(name, len(counted), goal, tuple(counted))
        for name, counted, goal in (
            ("mixins with one user", mixins_with_one_user(), 0),
            ("attributes asked or swapped", attribute_tricks(), 1),
            ("private imports", private_imports(), 0),
            ("files that name the hook", files_with_hook(), 8),
        )
    ]


def main() -> None:
    """Measure, print the table and, where asked, the lists and the JSON line."""
    parser = make_parser(__doc__)
    parser.add_argument("--list", action="store_true", help="print what is counted")
    parser.add_argument("--lines", type=Path, help="append a JSON line to this file")
    args = parser.parse_args()
    harness = Harness("structure", args)
    measures = [*call_measures(), *class_measures(), *source_measures()]
    header = ["measure", "value", "goal", "met"]
    harness.table("structure of the package", header, [m.row() for m in measures])
    if args.list:
        for measure in measures:
            if measure.counted:
                print(f"\n{measure.name}: {measure.value}")
                print("\n".join(measure.counted))
    if args.lines is not None:
        # The commit is what decides the numbers, and stands with the settings too.
        of = {"environment": environment(args.threads), **commit_now()}
        result = {measure.name: measure.value for measure in measures}
        append_line(args.lines, commit_now(), result, of)


if __name__ == "__main__":
    main()
