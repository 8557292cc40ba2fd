"""Parts with gradients: layer, ridge, features, tolerance, gpu and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.solvers._memory import measure_memory
from benchmarks.solvers._plan import SHARES, TOL, Cell, Plan
from benchmarks.solvers._problems import (
    Batch,
    Size,
    check_reference,
    draw_batch,
    reference_logits,
    support_gradient,
)
from benchmarks.solvers._race import (
    OURS,
    Contender,
    Pace,
    cvxpylayers,
    cvxpylayers_refusal,
    fista_cg,
    our_contender,
    published,
    qpth,
    qpth_refusal,
    race_layers,
)

# As MetaOptNet runs it in float32; nearly exact in float64.
QPTH_SHIFTS = {"float64": 1e-6, "float32": 1.0}
# Ours: a hundredth of the gap that is left by these shifts.
RIDGE_TOL = {"float64": 1e-8, "float32": 1e-3}
PRECISIONS = (("float32", 1e-3), ("float32", 1e-6), ("float64", 1e-6))
SINGULAR = ("duplicate rows", "n > d")
GPU_SIZE, GPU_TASKS = Size(5, 5, 1600), 256
# Size, tasks, precision.
MEMORY = (
    (Size(5, 5, 1600), 64, "float64"),
    (Size(20, 5, 512), 8, "float64"),
    (Size(5, 5, 64), 4096, "float64"),
    (Size(5, 5, 512), 4096, "float32"),
)
SMOKE_MEMORY = ((Size(3, 2, 8), 4, "float64"),)
_BUDGET, _SIDE_BUDGET, _SHORT_BUDGET = 6.0, 6.0, 2.0
# The plain peer takes minutes for thousands of tasks.
_MOST_PEER_TASKS = 64


def ours(tol: float) -> list[Contender]:
    return [our_contender(name, tol) for name in OURS]


def names_of(contenders: Sequence[Contender]) -> list[str]:
    return [contender.name for contender in contenders]


# -- layer ------------------------------------------------------------------------


def layer_cells(plan: Plan) -> list[Cell]:
    """Slow peers, and the reference, in the batch of the targets only."""
    cells = []
    for size in plan.sizes:
        for label, share in plan.shares.items():
            for n_tasks in plan.batches:
                main = n_tasks == plan.tasks
                contenders = ours(TOL)
                few, many = plan.published_steps
                contenders += [fista_cg(TOL), published(few), published(few, lean=True)]
                if main:
                    contenders.append(published(many))
                    if cvxpylayers_refusal(size) is None:
                        contenders.append(cvxpylayers(plan.threads))
                pace = plan.pace(_BUDGET if main else _SIDE_BUDGET)
                settings = plan.key(
                    "layer",
                    pace,
                    size=size,
                    share=label,
                    n_tasks=n_tasks,
                    contenders=names_of(contenders),
                    tol=TOL,
                )
                measure = partial(
                    _measure_layer, plan, size, share, n_tasks, contenders, pace
                )
                cells.append(Cell(settings, measure, len(contenders)))
    return cells


def _measure_layer(
    plan: Plan,
    size: Size,
    share: float,
    n_tasks: int,
    contenders: Sequence[Contender],
    pace: Pace,
) -> dict[str, Any]:
    batch = plan.draw(size, share, n_tasks)
    if n_tasks != plan.tasks:
        return race_layers(contenders, batch, pace)
    reference = support_gradient(reference_logits, batch)
    result = race_layers(contenders, batch, pace, reference)
    result["reference"] = {"gradient_error": check_reference(batch, reference)}
    refusal = cvxpylayers_refusal(size)
    if refusal is not None:
        result["cvxpylayers"] = {"skipped": refusal}
    return result


# -- ridge ------------------------------------------------------------------------


def ridge_cells(plan: Plan) -> list[Cell]:
    """lambda1 = 0: the sizes of the table, and Gram matrices that are singular."""
    small = plan.sizes[0] if plan.smoke else Size(5, 5, 64)
    cases = [(size, "regular") for size in plan.sizes]
    cases.append((small, SINGULAR[0]))
    cases.append((small._replace(features=small.way), SINGULAR[1]))
    cells = []
    for size, case in cases:
        for dtype, shift in QPTH_SHIFTS.items():
            tol = RIDGE_TOL[dtype]
            contenders = ours(tol)
            if qpth_refusal(size) is None:
                contenders.append(qpth(shift))
                if case != "regular":
                    contenders.append(qpth(0.0))
            pace = plan.pace(_SHORT_BUDGET)
            settings = plan.key(
                "ridge",
                pace,
                size=size,
                case=case,
                dtype=dtype,
                n_tasks=plan.tasks,
                contenders=names_of(contenders),
                tol=tol,
            )
            measure = partial(_measure_ridge, plan, size, case, dtype, contenders, pace)
            cells.append(Cell(settings, measure, len(contenders)))
    return cells


def _measure_ridge(
    plan: Plan,
    size: Size,
    case: str,
    dtype: str,
    contenders: Sequence[Contender],
    pace: Pace,
) -> dict[str, Any]:
    batch = draw_batch(size, plan.tasks, kind=plan.kind)
    reference = None
    if case == "regular":
        reference = support_gradient(reference_logits, batch)
    elif case == "duplicate rows":
        batch = _with_duplicates(batch)
    batch = batch.to(getattr(torch, dtype))
    result = race_layers(contenders, batch, pace, reference)
    for contender in contenders:
        line = result[contender.name]
        if "skipped" not in line:
            gradient = support_gradient(contender.logits, batch)
            line["finite"] = bool(gradient.isfinite().all())
    refusal = qpth_refusal(size)
    if refusal is not None:
        result["qpth"] = {"skipped": refusal}
    return result


def _with_duplicates(batch: Batch) -> Batch:
    """Every second row repeats the one before, label included."""
    even = 2 * (batch.support.shape[1] // 2)
    support, labels = batch.support.clone(), batch.labels.clone()
    support[:, 1:even:2] = support[:, 0:even:2]
    labels[:, 1:even:2] = labels[:, 0:even:2]
    return replace(batch, support=support, labels=labels)


# -- features ---------------------------------------------------------------------


def feature_cells(plan: Plan) -> list[Cell]:
    """Many features of which the same number matters."""
    n_useful, widths = (4, (8, 32)) if plan.smoke else (200, (1600, 16_384))
    cells = []
    for width in widths:
        size = Size(*plan.sizes[0]) if plan.smoke else Size(5, 5, width)
        size = size._replace(features=width)
        contenders = [*ours(TOL), fista_cg(TOL)]
        pace = plan.pace(_SIDE_BUDGET)
        settings = plan.key(
            "features",
            pace,
            size=size,
            n_useful=n_useful,
            n_tasks=plan.tasks,
            contenders=names_of(contenders),
            tol=TOL,
        )
        measure = partial(_measure_features, plan, size, n_useful, contenders, pace)
        cells.append(Cell(settings, measure, len(contenders)))
    return cells


def _measure_features(
    plan: Plan,
    size: Size,
    n_useful: int,
    contenders: Sequence[Contender],
    pace: Pace,
) -> dict[str, Any]:
    share = n_useful / size.features
    return race_layers(contenders, plan.draw(size, share, plan.tasks, n_useful), pace)


# -- tolerance --------------------------------------------------------------------


def tolerance_cells(plan: Plan) -> list[Cell]:
    """Precision and tolerance of training against those of an answer."""
    cells = []
    for size in plan.sizes:
        names = OURS
        pace = plan.pace(_SHORT_BUDGET)
        settings = plan.key(
            "tolerance",
            pace,
            size=size,
            n_tasks=plan.tasks,
            contenders=names,
            precisions=PRECISIONS,
        )
        measure = partial(_measure_tolerance, plan, size, names, pace)
        cells.append(Cell(settings, measure, len(names) * len(PRECISIONS)))
    return cells


def precision_name(solver: str, dtype: str, tol: float) -> str:
    return f"{solver} {dtype} {tol:g}"


def _measure_tolerance(
    plan: Plan, size: Size, names: Sequence[str], pace: Pace
) -> dict[str, Any]:
    batch = plan.draw(size, SHARES["sparse"], plan.tasks)
    contenders = [
        _in_precision(name, dtype, tol) for name in names for dtype, tol in PRECISIONS
    ]
    reference = support_gradient(reference_logits, batch)
    return race_layers(contenders, batch, pace, reference)


def _in_precision(solver: str, dtype: str, tol: float) -> Contender:
    """The solver on features rounded to another precision."""
    inner, to = our_contender(solver, tol), getattr(torch, dtype)
    return Contender(
        precision_name(solver, dtype, tol),
        lambda batch, support: inner.logits(batch.to(to), support.to(to)),
        lambda batch: inner.dual(batch.to(to)),
    )


# -- gpu --------------------------------------------------------------------------


def gpu_cells(plan: Plan) -> list[Cell]:
    """256 tasks at once, where there is a device."""
    if plan.smoke or not torch.cuda.is_available():
        return []
    cells = []
    for dtype, tol in PRECISIONS:
        contenders = ours(tol)
        pace = plan.pace(_SIDE_BUDGET)
        settings = plan.key(
            "gpu",
            pace,
            size=GPU_SIZE,
            n_tasks=GPU_TASKS,
            device=torch.cuda.get_device_name(),
            dtype=dtype,
            tol=tol,
            contenders=names_of(contenders),
        )
        measure = partial(_measure_gpu, plan, dtype, contenders, pace)
        cells.append(Cell(settings, measure, len(contenders)))
    return cells


def _measure_gpu(
    plan: Plan, dtype: str, contenders: Sequence[Contender], pace: Pace
) -> dict[str, Any]:
    batch = plan.draw(GPU_SIZE, SHARES["sparse"], GPU_TASKS)
    batch = batch.to(getattr(torch, dtype)).to("cuda")
    return race_layers(contenders, batch, pace)


# -- memory -----------------------------------------------------------------------


def memory_cells(plan: Plan) -> list[Cell]:
    """Our first solver, and the plain peer, each in a process of its own."""
    cells = []
    for size, n_tasks, dtype in SMOKE_MEMORY if plan.smoke else MEMORY:
        solvers = [OURS[0]]
        if n_tasks <= _MOST_PEER_TASKS and not plan.smoke:
            solvers.append("fista+cg")
        for solver in solvers:
            request = {
                "solver": solver,
                "size": size,
                "n_tasks": n_tasks,
                "dtype": dtype,
                "tol": TOL if dtype == "float64" else PRECISIONS[0][1],
                "threads": plan.threads,
            }
            measure = partial(_measure_memory, plan, size, request)
            cells.append(
                Cell({"part": "memory", "kind": plan.kind} | request, measure, 1)
            )
    return cells


def _measure_memory(plan: Plan, size: Size, request: dict[str, Any]) -> dict[str, Any]:
    lambda1 = plan.lambda1(size, SHARES["sparse"])
    return measure_memory({**request, "lambda1": lambda1, "kind": plan.kind})
