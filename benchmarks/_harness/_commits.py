"""The commit that a line is of, and what has changed since."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

from ._process import ROOT

# Of these a result depends; lines that a run appends are no change of the code.
_CODE = ("skcausalmeta", "benchmarks", "examples", ":(exclude)benchmarks/results")


def git(*arguments: str) -> str | None:
    """Output of git in the checkout, None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def commit_now() -> dict[str, Any]:
    """Short hash of the commit, and whether code differs from it; None if unknown."""
    commit = git("rev-parse", "--short=7", "HEAD")
    changed = git("status", "--porcelain", "--", *_CODE)
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def files_changed(commit: str | None, paths: Sequence[str]) -> list[str] | None:
    """Files under some paths that differ from a commit, None if it is unknown."""
    if commit is None:
        return None
    changed = git("diff", "--name-only", commit, "--", *paths)
    return None if changed is None else changed.splitlines()


def date_of(commit: str | None) -> str | None:
    """Day of a commit."""
    return None if commit is None else git("show", "-s", "--format=%cs", commit)
