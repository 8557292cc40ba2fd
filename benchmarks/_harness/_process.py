"""Measurements in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def in_process(
    module: str,
    request: Mapping[str, Any],
    *,
    launcher: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a module prints for a request: JSON in its last line.

    The module is run by ``python -m`` with the request as its only argument.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    done = subprocess.run(
        [sys.executable, *launcher, "-m", module, json.dumps(request)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])
