"""Peers that users install: cvxpy, cvxpylayers and qpth, one task at a time or batched.

All but cvxpy are optional; `PEERS` says which of them are there.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

from benchmarks._harness import Peer, find_peer
from benchmarks.solvers._peers import coef_of, data_of
from benchmarks.solvers._problems import Batch

FORMS = ("primal", "dual")
CONIC = ("CLARABEL", "SCS", "ECOS")
_PACKAGES = {
    "cvxpylayers": ("cvxpylayers", "diffcp", "scs"),
    "qpth": ("qpth",),
    **{name: (name.lower(),) for name in CONIC},
}
_MAX_ITERS = 20_000
# Tolerance of diffcp's SCS that leaves gaps around 1e-6.
_LAYER_EPS = 1e-7
_CVXPYLAYERS = find_peer("cvxpylayers", "cvxpylayers.torch")
_QPTH = find_peer("qpth", "qpth.qp")
# None where they cannot be imported.
CvxpyLayer: Any = getattr(_CVXPYLAYERS.module, "CvxpyLayer", None)
QPFunction: Any = getattr(_QPTH.module, "QPFunction", None)
PEERS: tuple[Peer, ...] = (
    _CVXPYLAYERS,
    find_peer("diffcp", "diffcp"),
    _QPTH,
    *(find_peer(name.lower(), name.lower()) for name in CONIC),
)


def peer_versions(contenders: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that these contenders run on."""
    found = {}
    for peer, packages in _PACKAGES.items():
        if any(name.startswith(peer) for name in contenders):
            for package in packages:
                with contextlib.suppress(PackageNotFoundError):
                    found[package] = version(package)
    return found


# -- cvxpy, forward only ----------------------------------------------------------


def conic_options(solver: str, tol: float) -> dict[str, Any]:
    """Keywords of ``cvxpy.Problem.solve`` for this tolerance."""
    if solver == "SCS":
        return {"solver": solver, "eps": tol, "max_iters": _MAX_ITERS}
    if solver == "ECOS":
        return {"solver": solver, "abstol": tol, "reltol": tol, "feastol": tol}
    names = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
    return {"solver": solver, **dict.fromkeys(names, tol)}


def solve_conic(batch: Batch, form: str, options: dict[str, Any]) -> Tensor:
    """B of every task, one after the other; NaN where there is none."""
    program = _dual_program if form == "dual" else _primal_program
    found = [program(batch, task, options) for task in range(batch.n_tasks)]
    return torch.from_numpy(np.stack(found))


def _arrays(batch: Batch, task: int) -> tuple[Any, Any]:
    features = batch.support[task].double().numpy()
    return features, batch.targets[task].double().numpy()


def _solve(program: Any, options: dict[str, Any]) -> bool:
    with warnings.catch_warnings():
        # The certificate judges the answer, not the status word.
        warnings.simplefilter("ignore")
        try:
            program.solve(**options)
        except cp.error.SolverError:
            return False
    return True


def _dual_program(batch: Batch, task: int, options: dict[str, Any]) -> Any:
    features, targets = _arrays(batch, task)
    dual = cp.Variable(targets.shape, nonneg=True)
    correlation = features.T @ (targets - dual)
    if batch.lambda1 > 0:
        norms = cp.norm(correlation, 2, axis=1)
        penalty = cp.sum_squares(cp.pos(norms - batch.lambda1))
    else:
        penalty = cp.sum_squares(correlation)
    objective = cp.sum(cp.multiply(1 - targets, dual)) - penalty / (2 * batch.lambda2)
    program = cp.Problem(cp.Maximize(objective), [cp.sum(dual, axis=1) == 1])
    solved = _solve(program, options) and dual.value is not None
    return dual.value if solved else np.full(targets.shape, np.nan)


def _primal_program(batch: Batch, task: int, options: dict[str, Any]) -> Any:
    """B is the multiplier of the margins."""
    features, targets = _arrays(batch, task)
    n_samples, n_classes = targets.shape
    coef = cp.Variable((features.shape[1], n_classes))
    slack = cp.Variable((n_samples, 1))
    scores = features @ coef
    own = cp.sum(cp.multiply(targets, scores), axis=1, keepdims=True)
    margins = scores + (1 - targets) - (own + slack) @ np.ones((1, n_classes)) <= 0
    objective = batch.lambda2 / 2 * cp.sum_squares(coef) + cp.sum(slack)
    if batch.lambda1 > 0:
        objective += batch.lambda1 * cp.sum(cp.norm(coef, 2, axis=1))
    program = cp.Problem(cp.Minimize(objective), [margins])
    solved = _solve(program, options) and margins.dual_value is not None
    return margins.dual_value if solved else np.full(targets.shape, np.nan)


# -- cvxpylayers ------------------------------------------------------------------


def cvxpylayers_coef(
    batch: Batch, support: Tensor, threads: int
) -> tuple[Tensor, Tensor]:
    """W by the parametrised dual, B differentiable in the features through diffcp.

    The dual in the residual R = Y - B compiles and solves faster than in B.
    """
    layer = _layer(tuple(support.shape[1:]), batch.n_classes, batch.lambda1 > 0)
    root = batch.lambda2**0.5
    parameters = [support / root, batch.targets]
    if batch.lambda1 > 0:
        parameters.append(support.new_full((batch.n_tasks,), batch.lambda1 / root))
    options = {
        "eps": _LAYER_EPS,
        "max_iters": _MAX_ITERS,
        "n_jobs_forward": threads,
        "n_jobs_backward": threads,
    }
    (residual,) = layer(*parameters, solver_args=options)
    dual = batch.targets - residual
    return coef_of(support, dual, data_of(batch)), dual


@lru_cache(maxsize=1)
def _layer(shape: tuple[int, int], n_classes: int, lasso: bool) -> Any:
    features = cp.Parameter(shape)
    targets = cp.Parameter((shape[0], n_classes))
    residual = cp.Variable((shape[0], n_classes))
    correlation = features.T @ residual
    parameters = [features, targets]
    if lasso:
        radius = cp.Parameter(nonneg=True)
        parameters.append(radius)
        norms = cp.norm(correlation, 2, axis=1)
        penalty = cp.sum_squares(cp.pos(norms - radius))
    else:
        penalty = cp.sum_squares(correlation)
    objective = -cp.sum(cp.multiply(1 - targets, residual)) - penalty / 2
    constraints = [cp.sum(residual, axis=1) == 0, residual <= targets]
    program = cp.Problem(cp.Maximize(objective), constraints)
    return CvxpyLayer(program, parameters=parameters, variables=[residual])


# -- qpth, lambda1 = 0 ------------------------------------------------------------


def qpth_coef(batch: Batch, support: Tensor, shift: float) -> tuple[Tensor, Tensor]:
    """W of the ridge SVM by the quadratic program in A = Y - B ::

    min_A  1/2 <A, (K / lambda2 + shift I) A> - <Y, A>
    s.t.   A <= Y,  row sums 0
    """
    targets = batch.targets
    n_tasks, n_samples, n_classes = targets.shape
    gram = support @ support.mT / batch.lambda2
    gram = gram + shift * torch.eye(n_samples, dtype=support.dtype)
    eye = torch.eye(n_classes, dtype=support.dtype)
    # Kronecker product: entry (i, l) of A is number i * n_classes + l.
    blocks = gram[:, :, None, :, None] * eye[None, None, :, None, :]
    size = n_samples * n_classes
    sums = torch.eye(n_samples, dtype=support.dtype).repeat_interleave(n_classes, dim=1)
    with contextlib.redirect_stdout(io.StringIO()):  # its warnings are prints
        flat = QPFunction(verbose=-1)(
            blocks.reshape(n_tasks, size, size),
            -targets.flatten(1),
            torch.eye(size, dtype=support.dtype).expand(n_tasks, -1, -1),
            targets.flatten(1),
            sums.expand(n_tasks, -1, -1),
            torch.zeros(n_tasks, n_samples, dtype=support.dtype),
        )
    residual = flat.view(targets.shape)
    return support.mT @ residual / batch.lambda2, targets - residual
