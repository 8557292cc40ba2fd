"""Part "forward": time to each relative gap, without gradients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cvxpy as cp
from torch import Tensor

from benchmarks.solvers._conic import CONIC, FORMS, conic_options, solve_conic
from benchmarks.solvers._peers import solve_plain_fista
from benchmarks.solvers._plan import PLAIN_FISTA, TOL, Cell, Plan
from benchmarks.solvers._problems import Batch, Size, relative_gaps
from benchmarks.solvers._race import (
    OURS,
    Lap,
    Pace,
    largest,
    our_contender,
    published,
    race,
)

TOLERANCES = (1e-3, 1e-6, 1e-9)
_BUDGET = 0.7
_MAX_FISTA = 5000
# A solver that misses the gap at its own tolerance is tried again with less.
_TIGHTER = (1.0, 1e-2, 1e-4)
# The gap of the pilot, so that the other tasks keep to theirs.
_SLACK = 0.5
# Entries n C d above which one task takes seconds to minutes.
_CONIC_ENTRIES = {"CLARABEL": 200_000, "SCS": 600_000, "ECOS": 200_000}

Solve = Callable[[Batch], Tensor]


def forward_cells(plan: Plan) -> list[Cell]:
    """Conic solvers, whose tasks are solved one by one, run in one batch only."""
    cells = []
    for size in plan.sizes:
        for label, share in plan.shares.items():
            for n_tasks in plan.batches:
                main = n_tasks == plan.tasks
                conic = _conic_for(size) if main else ()
                steps = plan.published_steps if main else ()
                ours = OURS
                pace = plan.pace(_BUDGET)
                settings = plan.key(
                    "forward",
                    pace,
                    size=size,
                    share=label,
                    n_tasks=n_tasks,
                    contenders=(*ours, PLAIN_FISTA, *conic),
                    published=steps,
                    tolerances=TOLERANCES,
                )
                measure = partial(
                    _measure, plan, size, share, n_tasks, ours, conic, steps, pace
                )
                n_laps = len(TOLERANCES) * (len(ours) + 1 + len(conic)) + len(steps)
                cells.append(Cell(settings, measure, n_laps))
    return cells


def _conic_for(size: Size) -> tuple[str, ...]:
    return tuple(
        name
        for name in CONIC
        if name in cp.installed_solvers() and size.entries <= _CONIC_ENTRIES[name]
    )


def conic_refusal(name: str, size: Size) -> str | None:
    """Why a conic solver does not run, if it does not."""
    if name not in cp.installed_solvers():
        return f"{name} is not installed"
    if size.entries > _CONIC_ENTRIES[name]:
        return f"over the limit of {_CONIC_ENTRIES[name]} entries n C d"
    return None


def _measure(
    plan: Plan,
    size: Size,
    share: float,
    n_tasks: int,
    ours: Sequence[str],
    conic: Sequence[str],
    steps: Sequence[int],
    pace: Pace,
) -> dict[str, Any]:
    batch = plan.draw(size, share, n_tasks)
    solves: dict[str, Solve] = {}
    for tol in TOLERANCES:
        for name in ours:
            solves[lap_name(name, tol)] = our_contender(name, tol).dual
        solves[lap_name(PLAIN_FISTA, tol)] = partial(
            solve_plain_fista, tol=tol, max_iter=_MAX_FISTA
        )
    for n_steps in steps:
        solves[f"published-{n_steps}"] = published(n_steps).dual
    chosen = {}
    for name in conic:
        for tol, (form, options) in settle_conic(name, batch.first(1)).items():
            solves[lap_name(name, tol)] = partial(
                solve_conic, form=form, options=options
            )
            chosen[lap_name(name, tol)] = {"form": form, "options": options}
    results = race({name: Lap(solve) for name, solve in solves.items()}, batch, pace)
    for name, solve in solves.items():
        line = results[name]
        if "skipped" not in line:
            part = batch.first(min(line["n_tasks"], plan.tasks))
            line["gap"] = largest(relative_gaps(part, solve(part)))
            line |= chosen.get(name, {})
    refusals = {name: conic_refusal(name, size) for name in CONIC}
    if n_tasks == plan.tasks:
        results |= {name: {"skipped": why} for name, why in refusals.items() if why}
    return results


def lap_name(contender: str, tol: float) -> str:
    return f"{contender} {tol:g}"


def settle_conic(solver: str, task: Batch) -> dict[float, tuple[str, dict[str, Any]]]:
    """Form and options for each gap: the faster form, the loosest that will do."""
    trials = {form: _loosest(solver, form, task, TOL) for form in FORMS}
    # A form that misses the gap is the second choice, however fast it was.
    form = min(FORMS, key=lambda form: (trials[form][0], trials[form][1]))
    found = {TOL: (form, trials[form][2])}
    for tol in TOLERANCES:
        if tol != TOL:
            found[tol] = (form, _loosest(solver, form, task, tol)[2])
    return found


def _loosest(
    solver: str, form: str, task: Batch, tol: float
) -> tuple[bool, float, dict[str, Any]]:
    """Whether the gap is missed, seconds, and the options."""
    gap, seconds, options = math.inf, math.inf, conic_options(solver, tol)
    for factor in _TIGHTER:
        options = conic_options(solver, factor * tol)
        start = time.perf_counter()
        dual = solve_conic(task, form, options)
        seconds = time.perf_counter() - start
        gap = largest(relative_gaps(task, dual))
        if gap <= _SLACK * tol:
            break
    return not gap <= tol, seconds, options
