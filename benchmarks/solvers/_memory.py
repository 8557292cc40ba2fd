"""Peak memory of forward + backward in a process of its own.

Run as a script it measures the settings of its only argument and prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.solvers._problems import Size, draw_batch, support_gradient
from benchmarks.solvers._race import fista_cg, our_contender

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure_memory(settings: dict[str, Any]) -> dict[str, Any]:
    """Bytes beyond the inputs, per byte of features and in all."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {"skipped": done.stderr.strip().splitlines()[-1][:200]}
    return json.loads(done.stdout)


def _measure(settings: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(settings["threads"])
    size, dtype = Size(*settings["size"]), getattr(torch, settings["dtype"])
    tol, solver = settings["tol"], settings["solver"]
    contender = fista_cg(tol) if solver == "fista+cg" else our_contender(solver, tol)
    run = partial(support_gradient, contender.logits)
    batch = draw_batch(
        size, settings["n_tasks"], settings["lambda1"], kind=settings["kind"]
    ).to(dtype)
    run(batch.first(1))
    before = reset_peak()
    run(batch)
    features = batch.support.numel() * batch.support.element_size()
    system = (size.way**2 * size.shot) ** 2 * batch.support.element_size()
    return {"extra": peak() - before, "features": features, "system": system}


def reset_peak() -> int:
    """Forget the peak so far, where the system can; the peak then."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")
    return peak()


def peak() -> int:
    """Largest resident memory in bytes."""
    if _STATUS.exists():
        lines = _STATUS.read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
