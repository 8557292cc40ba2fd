"""Contenders and their race: the same batches, interleaved in one process."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.solvers._conic import (
    CvxpyLayer,
    QPFunction,
    cvxpylayers_coef,
    qpth_coef,
)
from benchmarks.solvers._peers import fista_cg_coef, published_coef
from benchmarks.solvers._problems import (
    Batch,
    Size,
    gradient_errors,
    relative_gaps,
    support_gradient,
)

# Our solvers in the order of the tables.
OURS = ("auto", "compiled", "newton", "fista")
_CG_STEPS = 5
_MAX_FISTA = 5000
# Entries n C d above which a peer takes minutes or does not answer at all.
_CVXPYLAYERS_ENTRIES = 200_000
_QPTH_VARIABLES = 125


class Contender(NamedTuple):
    """One way to the query logits of a batch.

    ``logits(batch, support)`` is differentiable in the support features;
    ``dual(batch)`` is the point that its certificate is computed at.
    """

    name: str
    logits: Callable[[Batch, Tensor], Tensor]
    dual: Callable[[Batch], Tensor]
    compiles: bool = False


class Pace(NamedTuple):
    """How long a contender may take.

    Parameters
    ----------
    repeats : int
        Timed calls after the warm-up.
    budget : float
        Seconds for all timed calls of a contender; one that needs more gets
        fewer tasks, and only its pilot counts if one task is too much.
    """

    repeats: int
    budget: float


def our_contender(solver: str, tol: float) -> Contender:
    # A training makes its head once; cvxpylayers too keeps what it has compiled.
    heads: dict[Any, Any] = {}

    def head_of(batch: Batch) -> Any:
        support = batch.support
        key = batch.lambda1, batch.lambda2, support.dtype, support.device
        if key not in heads:
            heads[key] = batch.head(solver, tol)
        return heads[key]

    def logits(batch: Batch, support: Tensor) -> Tensor:
        return head_of(batch).episode_logits(
            support, batch.labels, batch.query, batch.n_classes
        )

    def dual(batch: Batch) -> Tensor:
        head = head_of(batch)
        return head.solve_episodes(batch.support, batch.labels, batch.n_classes).dual

    return Contender(solver, logits, dual)


def _by_coef(
    name: str,
    coef: Callable[[Batch, Tensor], tuple[Tensor, Tensor]],
    compiles: bool = False,
) -> Contender:
    def logits(batch: Batch, support: Tensor) -> Tensor:
        return batch.query @ coef(batch, support)[0]

    def dual(batch: Batch) -> Tensor:
        # cvxpylayers refuses its options where no gradient is asked for.
        support = batch.support.detach().clone().requires_grad_()
        return coef(batch, support)[1].detach()

    return Contender(name, logits, dual, compiles)


def fista_cg(tol: float) -> Contender:
    coef = partial(fista_cg_coef, tol=tol, max_iter=_MAX_FISTA)
    return _by_coef("fista+cg", coef)


def published(n_steps: int, *, lean: bool = False) -> Contender:
    coef = partial(published_coef, n_steps=n_steps, n_cg=_CG_STEPS, lean=lean)
    name = f"{'lean' if lean else 'published'}-{n_steps}"
    # The first function transform imports a compiler.
    return _by_coef(name, coef, compiles=not lean)


def cvxpylayers(threads: int) -> Contender:
    coef = partial(cvxpylayers_coef, threads=threads)
    return _by_coef("cvxpylayers", coef, compiles=True)


def qpth(shift: float) -> Contender:
    return _by_coef(f"qpth shift {shift:g}", partial(qpth_coef, shift=shift))


def cvxpylayers_refusal(size: Size) -> str | None:
    """Why cvxpylayers does not run, if it does not."""
    if CvxpyLayer is None:
        return "cvxpylayers is not installed"
    if size.entries > _CVXPYLAYERS_ENTRIES:
        return f"over the limit of {_CVXPYLAYERS_ENTRIES} entries n C d"
    return None


def qpth_refusal(size: Size) -> str | None:
    """Why qpth does not run, if it does not."""
    if QPFunction is None:
        return "qpth is not installed"
    if size.way**2 * size.shot > _QPTH_VARIABLES:
        return f"over the limit of {_QPTH_VARIABLES} variables n C"
    return None


# -- timing -----------------------------------------------------------------------


class Lap(NamedTuple):
    """A call for some tasks; one that compiles has a first call that is slower."""

    call: Callable[[Batch], Any]
    compiles: bool = False


def race(laps: Mapping[str, Lap], batch: Batch, pace: Pace) -> dict[str, Any]:
    """Milliseconds a task of every lap: medians of wall and CPU time, least CPU time.

    Rounds are interleaved.

    A pilot on one task settles the number of tasks. A lap that raises is out,
    and its line says why; one that takes longer than the budget for a single
    task keeps the time of its pilot.
    """
    results: dict[str, Any] = {}
    ready: dict[str, Callable[[], Any]] = {}
    for name, lap in laps.items():
        try:
            results[name] = _plan(lap, batch, pace)
            if "seconds" not in results[name]:
                ready[name] = partial(lap.call, batch.first(results[name]["n_tasks"]))
                if pace.repeats > 1:
                    ready[name]()
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            ready.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            results[name] = {"skipped": reason[:80]}
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    processor: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(pace.repeats):
        for name, found in seconds.items():
            before = time.process_time()
            found.append(seconds_of(ready[name]))
            processor[name].append(time.process_time() - before)
    for name, found in seconds.items():
        results[name]["seconds"] = statistics.median(found)
        cpu = statistics.median(processor[name])
        results[name]["cpu_ms_per_task"] = 1000 * cpu / results[name]["n_tasks"]
        least = min(processor[name])
        results[name]["least_cpu_ms_per_task"] = 1000 * least / results[name]["n_tasks"]
    for line in results.values():
        if "seconds" in line:
            line["ms_per_task"] = 1000 * line.pop("seconds") / line["n_tasks"]
    return results


def _plan(lap: Lap, batch: Batch, pace: Pace) -> dict[str, Any]:
    """Number of tasks and of timed calls, with the time if the pilot is all."""
    one = partial(lap.call, batch.first(1))
    processor = time.process_time()
    pilot = seconds_of(one)
    # The first call pays for imports, caches and compilation.
    if pace.repeats > 1 and (lap.compiles or pilot < pace.budget):
        processor = time.process_time()
        pilot = seconds_of(one)
    processor = time.process_time() - processor
    affordable = int(pace.budget / (pace.repeats * max(pilot, 1e-9)))
    if affordable == 0:
        return {
            "n_tasks": 1,
            "runs": 1,
            "seconds": pilot,
            "cpu_ms_per_task": 1000 * processor,
            "least_cpu_ms_per_task": 1000 * processor,
        }
    return {"n_tasks": min(batch.n_tasks, affordable), "runs": pace.repeats}


def seconds_of(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def race_layers(
    contenders: Sequence[Contender],
    batch: Batch,
    pace: Pace,
    reference: Tensor | None = None,
) -> dict[str, Any]:
    """Forward + backward: time, gap and, given a reference, gradient error."""
    laps = {
        contender.name: Lap(
            partial(support_gradient, contender.logits), contender.compiles
        )
        for contender in contenders
    }
    with warnings.catch_warnings():
        # Gaps are in the lines.
        warnings.simplefilter("ignore", UserWarning)
        results = race(laps, batch, pace)
        for contender in contenders:
            line = results[contender.name]
            if "skipped" not in line:
                part = batch.first(line["n_tasks"])
                line |= accuracy(contender, part, reference)
    return results


def accuracy(
    contender: Contender, batch: Batch, reference: Tensor | None
) -> dict[str, float]:
    """Largest gap and gradient error of the tasks that a reference is known for."""
    if reference is None:
        return {"gap": largest(relative_gaps(batch, contender.dual(batch)))}
    part = batch.first(reference.shape[0])
    gradient = support_gradient(contender.logits, part)
    errors = gradient_errors(gradient, reference[: part.n_tasks])
    gap = largest(relative_gaps(part, contender.dual(part)))
    return {"gap": gap, "gradient_error": largest(errors)}


def largest(values: Tensor) -> float:
    """Largest value; NaN if there is one."""
    return math.nan if bool(values.isnan().any()) else float(values.max())
