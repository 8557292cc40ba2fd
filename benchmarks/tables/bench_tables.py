"""Tables whose tasks share their labels: what a few labels of a new task are worth.

Assays of Tox21 and ToxCast (AUC), activities of people in WISDM (accuracy), exam scores
of schools (root mean squared error). A split divides the tasks into training and new
ones; a job is a new task, k labels of it drawn at random (of each class, up to half of
what there is) and query rows, which are in no support of that draw and the same for all
k and all contenders. "k = 0" has no label of the new task.

Contenders are simple methods (one pooled model on the rows of all training tasks, the
same with an intercept of the task that is shrunk, a mixed model, a linear model that is
refitted with the labels, models of the k labels alone or with the pooled score as a
column), the package without a common predictor and around one. Parameters of the simple
ones are chosen on the training tasks only: by a few of them that are held out, on a
grid that is widened where its best value is an end.

--natural draws 2k rows of a task without regard to their class, and training rows so;
--disjoint-molecules leaves a third of the molecules, by fingerprint, out of all
training rows and supports; query rows are of these. A molecule occurs in several assays
otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from benchmarks._harness import Harness, make_parser, read_lines
from benchmarks.tables._contenders import CONTENDERS, SIMPLE
from benchmarks.tables._data import LOADERS, Table, small_table
from benchmarks.tables._jobs import Choice, Job, Train, digest, divide
from benchmarks.tables._pooled import LIGHTGBM
from benchmarks.tables._scores import IN_USE, run_jobs
from benchmarks.tables._summary import (
    TaskScores,
    best_simple,
    by_task,
    differences,
)
from skcausalmeta.metrics import mean_confidence_interval

MEASURES = ("skcausalmeta/heads", "skcausalmeta/learners", "benchmarks/tables")
OF_SMOKE = ["tox21", "wisdm", "school"]


def settings_of(
    table: Table, split: int, name: str, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """What decides a run."""
    return {
        "data": table.name,
        "split": split,
        "contender": name,
        "seed": seed,
        "supports": args.supports,
        "shots": list(table.shots),
        "shares": "natural" if args.natural else "equal",
        "query": "disjoint" if args.disjoint_molecules else "all",
    }


def measure(
    name: str, seed: int, train: Train, jobs: Sequence[Job], args: argparse.Namespace
) -> dict[str, Any]:
    """Scores of a contender on the jobs of a split, and its CPU seconds."""
    contender = CONTENDERS[name]
    before = set(train.kept)
    train.asked.clear()
    begin = time.process_time()
    model = contender.fit(train, seed) if contender.random else contender.fit(train)
    seconds = time.process_time() - begin
    # A pooled model that was there already is part of what is built on it.
    seconds += sum(train.kept[key][1] for key in train.asked & before)
    shots = (0, *train.table.shots)
    scores, adapt = run_jobs(model, train.table, jobs, shots, args.natural)
    return {
        "scores": {m: {str(k): v for k, v in own.items()} for m, own in scores.items()},
        "fit seconds": round(seconds, 3),
        "job seconds": {str(k): round(value, 5) for k, value in adapt.items()},
        "chosen": model.chosen,
        "jobs": digest(jobs),
        "tasks": sorted({job.task for job in jobs}),
    }


def run_table(harness: Harness, table: Table, args: argparse.Namespace) -> None:
    """All contenders on all splits of a table."""
    choice = Choice(args.natural, args.disjoint_molecules)
    for split in range(args.splits):
        train, jobs = divide(
            table, split, args.supports, choice, args.threads, args.smoke
        )
        for name in args.contenders:
            contender = CONTENDERS[name]
            if not contender.enters(table.kind, choice):
                continue
            for seed in range(args.seeds if contender.random else 1):
                settings = settings_of(table, split, name, seed, args)
                begin = time.process_time()
                harness.run(settings, lambda: measure(name, seed, train, jobs, args))  # noqa: B023
                spent = time.process_time() - begin
                text = f"{table.name}, split {split}, {name}: {spent:.1f} s"
                print(text, file=sys.stderr, flush=True)


def report(harness: Harness, tables: Sequence[Table], args: argparse.Namespace) -> None:
    """Means by number of labels with intervals, and paired leads over the best."""
    lines = read_lines(harness.path)
    for table in tables:
        wanted = settings_of(table, 0, "", 0, args)
        for key in ("split", "contender", "seed"):
            wanted.pop(key)
        own = [
            line
            for line in lines
            if all(line["settings"].get(key) == value for key, value in wanted.items())
            and line["settings"]["split"] < args.splits
        ]
        report_table(harness, table, own, table.metric)
        report_figure(
            harness,
            own,
            IN_USE,
            f"{table.name}, share of the features in which a task deviates",
        )
        if args.natural and table.kind == "binary":
            report_table(harness, table, own, "balanced accuracy")
            title = f"{table.name}, mean predicted probability less the share"
            plain = [name for name in CONTENDERS if not CONTENDERS[name].balanced]
            report_figure(harness, own, "excess share", title, plain, "+")


def report_figure(
    harness: Harness,
    lines: Sequence[Any],
    figure: str,
    title: str,
    names: Iterable[str] = CONTENDERS,
    sign: str = "",
) -> None:
    """Means of another figure than the score, where lines have it."""
    scores = by_task(lines, figure)
    shots = sorted({k for own in scores.values() for k in own}, key=int)
    rows = [
        [name, *(interval(scores[name].get(k, {}), sign) for k in shots)]
        for name in names
        if any(scores.get(name, {}).values())
    ]
    if rows:
        harness.table(title, ["contender", *(f"k = {k}" for k in shots)], rows)


def report_table(
    harness: Harness, table: Table, lines: Sequence[Any], metric: str
) -> None:
    scores = by_task(lines, metric)
    order = [name for name in CONTENDERS if name in scores]
    best = best_simple(scores, SIMPLE, table.kind != "regression")
    shots = [str(k) for k in (0, *table.shots)]
    means, leads = [], []
    for name in order:
        cost = [line for line in lines if line["settings"]["contender"] == name]
        fit = np.mean([line["result"]["fit seconds"] for line in cost])
        cells = [interval(scores[name].get(k, {})) for k in shots]
        means.append([name, *cells, f"{fit:.1f}"])
        cells = []
        for k in shots:
            base = scores[best[k]][k] if k in best else {}
            paired = differences(scores[name].get(k, {}), base)
            cells.append(interval(paired, "+"))
        leads.append([name, *cells])
    header = ["contender", *(f"k = {k}" for k in shots)]
    title = f"{table.name}, {metric}: mean and 95% interval over tasks and splits"
    harness.table(title, [*header, "fit s"], means)
    names = ", ".join(f"{best[k]} at {k}" for k in shots if k in best)
    harness.table(f"{table.name}, less the best simple method ({names})", header, leads)


def interval(scores: TaskScores, sign: str = "") -> str:
    """Mean and half the width of its interval."""
    if not scores:
        return "--"
    mean, half = mean_confidence_interval(list(scores.values()))
    return f"{mean:{sign}.3f} +- {half:.3f}"


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument(
        "--data",
        nargs="+",
        choices=list(LOADERS),
        help="default: all; of the smallest runs one of each kind",
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        metavar="NAME",
        help=f"default: all of {', '.join(CONTENDERS)}",
    )
    parser.add_argument(
        "--group",
        nargs="+",
        choices=["simple", "package", "common"],
        help="contenders of some groups",
    )
    parser.add_argument("--splits", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--supports", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--k", type=int, nargs="+", help="labels; default: by table")
    parser.add_argument("--natural", action="store_true")
    parser.add_argument("--disjoint-molecules", action="store_true")
    args = parser.parse_args()
    args.data = args.data or (OF_SMOKE if args.smoke else list(LOADERS))
    groups = args.group or ["simple", "package", "common"]
    named = args.contenders or list(CONTENDERS)
    args.contenders = [name for name in named if CONTENDERS[name].group in groups]
    if args.smoke:
        args.splits = args.supports = args.seeds = 1
    return args


def tables_of(args: argparse.Namespace) -> list[Table]:
    names = [
        name
        for name in args.data
        if not args.disjoint_molecules or name in ("tox21", "toxcast")
    ]
    make = small_table if args.smoke else lambda name: LOADERS[name](args.data_dir)
    tables = [make(name) for name in names]
    if args.k:
        tables = [Table(**{**vars(one), "shots": tuple(args.k)}) for one in tables]
    return tables


def main() -> None:
    """Run what was asked for and print the tables of all lines of these jobs."""
    args = parse()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    harness = Harness("tables", args, [LIGHTGBM])
    tables = tables_of(args)
    for table in tables:
        run_table(harness, table, args)
    report(harness, tables, args)


if __name__ == "__main__":
    main()
