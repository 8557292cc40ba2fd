"""Run a benchmark, list them, or list the lines that are older than the code.

``python -m benchmarks NAME [options]`` runs one, ``python -m benchmarks NAME --help``
shows its options. ``--stale [NAME ...]`` lists the lines whose commit differs from the
code of today in the files that their benchmark measures.
"""

from __future__ import annotations

import argparse
import ast
import runpy
import sys
from pathlib import Path

from benchmarks._harness import RESULTS, ROOT
from benchmarks._harness._stale import stale_rows
from benchmarks._harness._tables import table_text

FOLDER = ROOT / "benchmarks"
# A benchmark by what it counts, a test by what it is for.
ELSEWHERE = {
    "fuzz_persistence": ROOT / "tests" / "robustness" / "fuzz_files.py",
    "fuzz_inputs": ROOT / "tests" / "robustness" / "fuzz_inputs.py",
    "state_machine": ROOT / "tests" / "robustness" / "state_machine.py",
    "shared_file": ROOT / "tests" / "robustness" / "shared_file.py",
}


def scripts() -> dict[str, Path]:
    """Scripts by the name of their benchmark, which is that of its lines."""
    found = sorted(FOLDER.glob("*/bench_*.py"))
    return {path.stem.removeprefix("bench_"): path for path in found} | ELSEWHERE


def subject(path: Path) -> str:
    """First line of a script's description."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0]


def measured_paths(path: Path) -> tuple[str, ...]:
    """What a script says that it measures, without running it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MEASURES":
            return tuple(ast.literal_eval(node.value))
    raise ValueError(
        "A benchmark must name the files that it measures in a tuple MEASURES. Got "
        f"none in {path.relative_to(ROOT)}; add it."
    )


def print_scripts() -> None:
    rows = [[name, subject(path)] for name, path in scripts().items()]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name.ljust(width)}  {text}")


def print_stale(names: list[str]) -> None:
    """Table of the lines that are older than the code they measure."""
    rows = []
    for name in names:
        lines = RESULTS / f"{name}.jsonl"
        if lines.exists():
            paths = measured_paths(scripts()[name])
            rows += [[name, *row] for row in stale_rows(lines, paths)]
    header = ["lines of", "commit", "day", "lines", "of", "files changed since"]
    print(table_text(header, rows) if rows else "No line is older than its code.")


def main() -> None:
    """Do what the first argument names."""
    known = scripts()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=list(known), metavar="NAME")
    parser.add_argument(
        "--stale", nargs="*", choices=list(known), metavar="NAME", help="default: all"
    )
    if len(sys.argv) > 1 and sys.argv[1] in known:
        path = str(known[sys.argv.pop(1)])
        sys.argv[0] = path
        runpy.run_path(path, run_name="__main__")
        return
    arguments = parser.parse_args()
    if arguments.stale is None:
        print_scripts()
    else:
        print_stale(arguments.stale or list(known))


if __name__ == "__main__":
    main()
