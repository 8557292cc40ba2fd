"""Commands for tables of many tasks: adapt, predict, update and report."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInputError
from ..utils import printable
from ._tables import columns_of, read_rows, read_table
from ._trust import add_trust, trusted

_ADAPT = """\
Solve every task of a table with an estimator that skcausalmeta.persistence.save wrote,
and keep the predictors in a folder. The same command after a crash goes on where that
one stopped.

TABLE is a Parquet file or a folder of such, in which the rows of a task lie together,
or a CSV or npz file as for evaluate.
"""
_PREDICT = """\
Predict the rows of a table by the tasks of a folder that adapt has written. A task that
is unknown is answered by the common predictor, and counted.
"""
_UPDATE = """\
Solve anew the tasks that a table has rows of, and add new tasks. The table holds all
rows of these tasks, old and new ones: a folder keeps predictors, and no rows.
"""
_REPORT = """\
Write a page about the tasks of a folder: how many there are, their certificates, those
that were left out and why, and what differs in which tasks.
"""
_MOST_REASONS = 10


def add_task_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], codes: str
) -> None:
    """Add the commands to those of the program."""
    adapt = _add(commands, "adapt", "a predictor for every task of a table", _ADAPT)
    adapt.add_argument("estimator", type=Path, help="file that persistence.save wrote")
    adapt.add_argument("table", type=Path)
    adapt.add_argument("--store", type=Path, required=True, metavar="DIR")
    adapt.set_defaults(run=_adapt)
    predict = _add(commands, "predict", "predictions of rows by task", _PREDICT)
    predict.add_argument("store", type=Path)
    predict.add_argument("table", type=Path)
    predict.add_argument("--output", type=Path, required=True, metavar="PARQUET")
    predict.add_argument(
        "--method",
        choices=["predict", "predict_proba", "decision_function"],
        default="predict",
    )
    predict.set_defaults(run=_predict)
    update = _add(commands, "update", "solve anew the tasks of a table", _UPDATE)
    update.add_argument("store", type=Path)
    update.add_argument("table", type=Path)
    update.set_defaults(run=_update)
    predict.add_argument("--target", default="y", help="column to leave aside")
    report = _add(commands, "report", "a page about solved tasks", _REPORT)
    report.add_argument("store", type=Path)
    report.add_argument(
        "--output", type=Path, required=True, metavar="PAGE", help=".html or .md"
    )
    report.set_defaults(run=_report)
    report.epilog = codes
    add_trust(report)
    for command in (adapt, update):
        command.add_argument("--target", default="y", help="column of the targets")
        command.add_argument("--jobs", type=int, help="processes (default: 1)")
        command.add_argument(
            "--tasks-per-part", type=int, default=8192, help="default: %(default)s"
        )
    for command in (adapt, predict, update):
        command.epilog = codes
        command.add_argument("--task-column", help="column of the ids (default: task)")
        command.add_argument("--max-rows", type=int, default=10_000_000)
        command.add_argument("--max-bytes", type=int, help="of an npz file")
        command.add_argument(
            "--quiet", action="store_true", help="without a progress bar"
        )
        add_trust(command)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _adapt(arguments: argparse.Namespace) -> str:
    from ..persistence import load

    learner = load(arguments.estimator, modules=trusted(arguments.trust))
    return _solve(arguments, learner)


def _update(arguments: argparse.Namespace) -> str:
    from ..tasks import open_tasks

    learner = open_tasks(arguments.store, modules=trusted(arguments.trust)).learner
    return _solve(arguments, learner)


def _solve(arguments: argparse.Namespace, learner: Any) -> str:
    from ..tasks import adapt_table

    store = arguments.store
    with warnings.catch_warnings():
        # Said in the summary.
        warnings.filterwarnings("ignore", ".* solved .* tasks and left out")
        stored = adapt_table(
            learner,
            _table(arguments, learner, arguments.target),
            store,
            task=arguments.task_column or "task",
            target=arguments.target,
            tasks_per_part=arguments.tasks_per_part,
            n_jobs=arguments.jobs,
            verbose=_shown(arguments),
        )
    lines = [f"{len(stored)} tasks in {store}, largest gap {stored.largest_gap_:.1e}"]
    if stored.failed_:
        lines.append(f"{len(stored.failed_)} tasks left out:")
    reasons = list(stored.failed_.items())[:_MOST_REASONS]
    lines += [f"  {printable(f'{name}: {why}')}" for name, why in reasons]
    return "\n".join(lines)


def _predict(arguments: argparse.Namespace) -> str:
    from ..tasks import open_tasks, predict_table

    stored = open_tasks(arguments.store, modules=trusted(arguments.trust))
    n_rows = predict_table(
        stored,
        _table(arguments, stored.learner, None),
        arguments.output,
        task=arguments.task_column or "task",
        target=arguments.target,
        method=arguments.method,
        verbose=_shown(arguments),
    )
    unknown = f", {stored.n_unknown_} of unknown tasks" if stored.n_unknown_ else ""
    return f"{n_rows} rows in {arguments.output}{unknown}"


def _report(arguments: argparse.Namespace) -> str:
    from ..tasks import open_tasks, report

    stored = open_tasks(arguments.store, modules=trusted(arguments.trust))
    return f"{len(stored)} tasks in {report(stored, arguments.output)}"


def _shown(arguments: argparse.Namespace) -> int:
    return int(not arguments.quiet and sys.stderr.isatty())


def _table(arguments: argparse.Namespace, learner: Any, target: str | None) -> Any:
    """Return the table as `adapt_table` takes it."""
    path = arguments.table
    if path.suffix not in (".csv", ".npz"):
        if not path.exists():
            raise FileNotFoundError(f"There is no table at {path}.")
        return path
    from sklearn.base import is_regressor

    if target is None:
        return _rows_without_targets(arguments, learner)
    table = read_table(
        path,
        target,
        arguments.task_column,
        values=is_regressor(learner),
        max_rows=arguments.max_rows,
        max_bytes=arguments.max_bytes,
    )
    if table.tasks is None:
        raise InvalidInputError(
            f"The table must have a column of task ids. Got none in {path}; name it "
            "with --task-column."
        )
    return _named(table, learner), table.y, table.tasks


def _named(table: Any, learner: Any) -> Any:
    names = getattr(learner, "feature_names_in_", None)
    if names is None:
        return table.X
    import pandas

    return pandas.DataFrame(columns_of(table, names), columns=list(names))


def _rows_without_targets(arguments: argparse.Namespace, learner: Any) -> Any:
    """Return a CSV file, of which any column but the features is left aside."""
    if arguments.table.suffix != ".csv":
        raise InvalidInputError(
            "Rows to predict are in a CSV file or Parquet files. Got "
            f"{arguments.table.name}; save it as one of them."
        )
    names = getattr(learner, "feature_names_in_", None)
    features = None if names is None else list(names)
    X, ids, found = read_rows(
        arguments.table,
        arguments.task_column,
        features,
        arguments.target,
        max_rows=arguments.max_rows,
    )
    if names is not None:
        import pandas

        X = pandas.DataFrame(X, columns=found)
    return X, None, ids
