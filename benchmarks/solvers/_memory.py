"""Peak memory of forward + backward in a process of its own.

Run as a module it measures the settings of its only argument and prints JSON.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import torch

from benchmarks._harness import in_process, peak, reset_peak
from benchmarks.solvers._problems import Size, draw_batch, support_gradient
from benchmarks.solvers._race import fista_cg, our_contender


def measure_memory(settings: dict[str, Any]) -> dict[str, Any]:
    """Bytes beyond the inputs, per byte of features and in all."""
    try:
        return in_process("benchmarks.solvers._memory", settings)
    except RuntimeError as error:
        return {"skipped": str(error).strip().splitlines()[-1][:200]}


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


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
