"""Arguments, subcommands and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# Two threads are the most that small episodes can use.
os.environ.setdefault("OMP_NUM_THREADS", "2")

from ..exceptions import SkcausalmetaError
from ..utils import printable
from ._info import info_text
from ._tables import read_table
from ._task_commands import add_task_commands
from ._trust import add_trust, trusted

_DESCRIPTION = """\
Few-shot and multi-task learning as scikit-learn estimators.

  python -m skcausalmeta demo
      learn some digits, then tell new ones apart from a few labels
  python -m skcausalmeta info learner.safetensors
      what a saved estimator is, and the versions of the packages
  python -m skcausalmeta evaluate learner.safetensors tasks.csv --target label
      its accuracy on new tasks, with a 95% interval
  python -m skcausalmeta adapt learner.safetensors labels.parquet --store tasks
      a predictor for every task of a table, kept in a folder
  python -m skcausalmeta predict tasks rows.parquet --output found.parquet
      predictions of rows by their tasks
  python -m skcausalmeta update tasks new_labels.parquet
  python -m skcausalmeta report tasks --output tasks.html
      solve anew the tasks that have new labels
"""
_EVALUATE = """\
Load an estimator that skcausalmeta.persistence.save wrote, adapt it to a few labelled
rows of every task, and score it on the others.

A CSV file has a header; one column holds the task, one the target, all others are
features. An npz file has the arrays X, y and, unless the classes are to be drawn from
y, tasks. Without a task column, N-way K-shot problems are drawn from the classes.
"""
_CODES = "Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; those of the process if None.

    Returns
    -------
    int
        0 where all went well, 1 after an error, which is told in one line on the
        standard error. Wrong usage ends the process with 2, as argparse does.

    Examples
    --------
    >>> from skcausalmeta.cli import main
    >>> main(["info", "nowhere.safetensors"])
    1
    """
    arguments = _parser().parse_args(argv)
    with _warnings_in_one_line():
        try:
            _print(arguments.run(arguments), sys.stdout)
        except KeyboardInterrupt:
            _print("error: interrupted", sys.stderr)
            return 1
        except BrokenPipeError:  # the reader, such as head, has seen enough
            # Python would try once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        # Whatever a file brings about: a user has no use for a traceback.
        except (Exception, SystemExit) as error:
            _print(f"error: {_said(error)}", sys.stderr)
            return 1
    return 0


def _said(error: BaseException) -> str:
    """An error in one line; of one that is not meant for users, its kind too."""
    text = " ".join(str(error).split())
    if isinstance(error, SystemExit):
        return f"a module of --trust ended the process ({text})"
    meant = (SkcausalmetaError, ValueError, ImportError, OSError)
    return text if isinstance(error, meant) else f"{type(error).__name__}: {text}"


def _print(text: str, stream: TextIO) -> None:
    """Print lines of which a terminal obeys nothing, in letters that it has."""
    lines = "\n".join(printable(line) for line in text.split("\n"))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = lines.encode(encoding, "backslashreplace").decode(encoding)
    stream.write(f"{shown}\n")
    stream.flush()


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Any, *_: Any) -> None:
        _print(f"warning: {' '.join(str(message).split())}", sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m skcausalmeta",
        description=_DESCRIPTION,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_evaluate(commands)
    _add_info(commands)
    add_task_commands(commands, _CODES)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="learn some digits, then tell new ones apart",
        description="Train on the digits 0 to 5, evaluate on 6 to 9, print a table "
        "(about 3 minutes on two cores).",
        epilog=_CODES,
    )
    demo.add_argument("--data", choices=["digits", "omniglot"], default="digits")
    demo.add_argument("--data-dir", type=Path, help="folder of omniglot.npz")
    demo.add_argument(
        "--output", type=Path, metavar="PNG", help="also draw (needs matplotlib)"
    )
    demo.add_argument("--smoke", action="store_true", help="smallest size, in seconds")
    demo.set_defaults(run=_demo)


def _add_evaluate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy of a saved estimator on tasks of a file",
        description=_EVALUATE,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = evaluate.add_argument
    add("estimator", type=Path, help="file that persistence.save wrote")
    add("data", type=Path, help="CSV or npz file")
    add("--target", help="column of the targets (CSV: y; npz: y)", default="y")
    add("--task-column", help="column of the task ids (default: task, tasks)")
    add("--shots", type=int, default=5, help="labelled rows per class (default: 5)")
    add("--queries", type=int, default=15, help="scored rows per class (default: 15)")
    add("--way", type=int, default=5, help="classes, without tasks (default: 5)")
    add("--episodes", type=int, default=200, help="problems to draw (default: 200)")
    add("--seed", type=int, default=0, help="decides the problems (default: 0)")
    add("--max-rows", type=int, default=10_000_000, help="default: %(default)s")
    add("--max-bytes", type=int, help="of an npz file (default: 64 MB, 16 x the file)")
    add_trust(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    info = commands.add_parser(
        "info",
        help="what a saved estimator is, and versions",
        description="Print class, parameters and versions of a saved estimator "
        "without loading it; without a file, the versions installed here.",
        epilog=_CODES,
    )
    info.add_argument("estimator", type=Path, nargs="?", help="saved estimator")
    info.set_defaults(run=lambda arguments: info_text(arguments.estimator))


def _demo(arguments: argparse.Namespace) -> str:
    from ._demo import digits, omniglot, run_demo

    if arguments.data == "digits":
        problem = digits(arguments.smoke)
    else:
        problem = omniglot(arguments.smoke, arguments.data_dir)
    return run_demo(problem, arguments.smoke, arguments.output)


def _evaluate(arguments: argparse.Namespace) -> str:
    from sklearn.base import is_regressor

    from ..persistence import load
    from ._evaluate import evaluation_text

    estimator = load(arguments.estimator, modules=trusted(arguments.trust))
    table = read_table(
        arguments.data,
        arguments.target,
        arguments.task_column,
        values=is_regressor(estimator),
        max_rows=arguments.max_rows,
        max_bytes=arguments.max_bytes,
    )
    return evaluation_text(
        estimator,
        table,
        n_way=arguments.way,
        n_shot=arguments.shots,
        n_query=arguments.queries,
        n_episodes=arguments.episodes,
        seed=arguments.seed,
    )
