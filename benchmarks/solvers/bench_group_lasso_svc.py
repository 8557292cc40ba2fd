"""GroupLassoSVC against cvxpy: certificates, working set, hypergradient.

certificates
    200 random problems (2-20 classes, 1-30 shots, 2-2000 features, all drawn
    log-uniformly; lambda1 from 0 to the value that switches every feature off):
    relative duality gap, and difference of the objective to cvxpy's primal
    program (CLARABEL at tight tolerances). Problems with more than 200,000
    entries n_samples * n_classes * n_features are drawn again: above, the primal
    program takes minutes. Target: both at most 1e-6.
working-set
    5-way, 5-shot, 1600 features: ``GroupLassoSVC(solver="cvxpy").fit`` against
    the dual written as plain cvxpy on all features, at three levels of group_reg,
    to the same relative duality gap of 1e-6. Target: 5 times faster.
hypergradient
    Largest relative error of the implicit gradient of the query logits in the
    support features against central differences on 50 random problems.
    Target: at most 1e-5.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any

import cvxpy as cp
import numpy as np
import torch

from benchmarks._harness import Harness, make_parser, median_time
from benchmarks.solvers._hypergradient import Draw, regular_draws, relative_error
from skcausalmeta.exceptions import ConvergenceWarning
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.losses import CrammerSinger
from skcausalmeta.penalties import GroupLasso
from skcausalmeta.solvers import Problem

MEASURES = (
    "skcausalmeta/heads",
    "skcausalmeta/implicit",
    "skcausalmeta/losses",
    "skcausalmeta/penalties",
    "skcausalmeta/solvers",
)

TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
SOLVERS = ("cvxpy", "newton")
SHARES = (0.07, 0.2, 0.5)
GAP = 1e-6
# From the defaults to ever tighter tolerances, until the gap is reached.
PEERS: dict[str, list[dict[str, Any]]] = {
    "CLARABEL": [{}, TIGHT],
    "SCS": [{"eps": eps, "max_iters": 50_000} for eps in (1e-5, 1e-6, 1e-7, 1e-8)],
}


# -- certificates -----------------------------------------------------------------


def draw_certificate_problem(seed: int, cap: int) -> dict[str, Any]:
    """Data and parameters of one random problem, at most `cap` entries."""
    rng = np.random.RandomState(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    size = cap + 1
    while size > cap:
        n_classes = round(log_uniform(2, 20))
        n_shot = round(log_uniform(1, 30))
        n_features = round(log_uniform(2, 2000))
        size = n_classes**2 * n_shot * n_features
    y = np.repeat(np.arange(n_classes), n_shot)
    means = rng.randn(n_classes, n_features) * (rng.rand(n_features) < 0.3)
    X = rng.randn(len(y), n_features) + log_uniform(0.1, 3) * means[y]
    # A tenth without any Lasso, a tenth with every feature off.
    group_reg = float(np.clip(rng.uniform(-0.125, 1.125), 0.0, 1.0))
    return {
        "X": log_uniform(1e-2, 1e2) * X,
        "y": y,
        "group_reg": group_reg,
        "ridge_reg": log_uniform(0.1, 10),
    }


def primal_objective(
    X: np.ndarray, y: np.ndarray, coef: np.ndarray, lambda1: float, lambda2: float
) -> float:
    """P(W), written out."""
    scores = X @ coef
    rows = np.arange(len(y))
    margins = scores + 1.0
    margins[rows, y] -= 1.0
    hinge = (margins.max(axis=1) - scores[rows, y]).sum()
    lasso = np.linalg.norm(coef, axis=1).sum()
    return float(lambda2 / 2 * np.sum(coef**2) + lambda1 * lasso + hinge)


def solve_primal(
    X: np.ndarray, y: np.ndarray, lambda1: float, lambda2: float
) -> np.ndarray:
    """W of the primal program, which cvxpy sees on features of unit scale."""
    unit = np.sqrt(np.mean((X**2).sum(axis=1)))
    targets = np.eye(y.max() + 1)[y]
    coef = cp.Variable((X.shape[1], targets.shape[1]))
    scores = (X / unit) @ coef
    hinge = cp.sum(cp.max(scores + 1 - targets, axis=1)) - cp.sum(
        cp.multiply(targets, scores)
    )
    objective = (
        lambda2 / unit**2 / 2 * cp.sum_squares(coef)
        + lambda1 / unit * cp.sum(cp.norm(coef, 2, axis=1))
        + hinge
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        cp.Problem(cp.Minimize(objective)).solve(solver=cp.CLARABEL, **TIGHT)
    return coef.value / unit


def measure_certificate(seed: int, cap: int) -> dict[str, Any]:
    """Gaps, differences and seconds of both solvers on one problem."""
    drawn = draw_certificate_problem(seed, cap)
    X, y = drawn.pop("X"), drawn.pop("y")
    result: dict[str, Any] = {
        "n_samples": len(y),
        "n_classes": int(y.max()) + 1,
        "n_features": X.shape[1],
        **drawn,
    }
    peer = None
    for solver in SOLVERS:
        svc = GroupLassoSVC(**drawn, reg_scale="relative", solver=solver)
        start = time.perf_counter()
        with warnings.catch_warnings():
            # The gap of a run that stops early is in the table.
            warnings.simplefilter("ignore", ConvergenceWarning)
            svc.fit(X, y)
        seconds = time.perf_counter() - start
        if peer is None:
            strengths = svc.lambda1_, svc.lambda2_
            peer = primal_objective(X, y, solve_primal(X, y, *strengths), *strengths)
        result[solver] = {
            "relative_gap": svc.dual_gap_ / svc.objective_,
            "difference": abs(svc.objective_ - peer) / peer,
            "sparsity": svc.sparsity_,
            "seconds": seconds,
        }
    return result


def run_certificates(harness: Harness, smoke: bool) -> None:
    n_problems, cap = (3, 2_000) if smoke else (200, 200_000)
    results = [
        harness.run(
            {"part": "certificates", "seed": seed, "cap": cap},
            partial(measure_certificate, seed, cap),
        )
        for seed in range(n_problems)
    ]
    rows = []
    for solver in SOLVERS:
        gaps = [result[solver]["relative_gap"] for result in results]
        differences = [result[solver]["difference"] for result in results]
        seconds = float(np.median([result[solver]["seconds"] for result in results]))
        rows.append([solver, len(results), max(gaps), max(differences), seconds])
    harness.table(
        "certificates (targets: 1e-6 and 1e-6)",
        ["solver", "problems", "max rel. gap", "max rel. difference", "median s"],
        rows,
    )


# -- working set ------------------------------------------------------------------


def draw_working_set_problem(seed: int, n_features: int) -> tuple[Any, Any]:
    """5-way 5-shot features whose use for the classes falls off smoothly."""
    rng = np.random.RandomState(seed)
    y = np.repeat(np.arange(5), 5)
    strength = 2.0 / (1.0 + np.arange(n_features) / 50.0)
    X = rng.randn(25, n_features) + strength * rng.randn(5, n_features)[y]
    return X, y


def group_reg_of_share(X: np.ndarray, y: np.ndarray, share: float) -> float:
    """The largest group_reg that leaves more than this share of the features on."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        svc = GroupLassoSVC(middle, solver="newton", tol=1e-4).fit(X, y)
        low, high = (middle, high) if 1 - svc.sparsity_ > share else (low, middle)
    return low


def plain_dual(
    X: np.ndarray, y: np.ndarray, lambda1: float, lambda2: float, options: Any
) -> np.ndarray | None:
    """B of the dual as anybody would write it down, on all features."""
    targets = np.eye(y.max() + 1)[y]
    dual = cp.Variable(targets.shape, nonneg=True)
    norms = cp.norm(X.T @ (targets - dual), 2, axis=1)
    objective = cp.sum(cp.multiply(1 - targets, dual)) - cp.sum_squares(
        cp.pos(norms - lambda1)
    ) / (2 * lambda2)
    program = cp.Problem(cp.Maximize(objective), [cp.sum(dual, axis=1) == 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            program.solve(**options)
        except cp.error.SolverError:
            return None
    return dual.value


def relative_gap(
    X: np.ndarray, y: np.ndarray, lambda1: float, lambda2: float, dual: np.ndarray
) -> float:
    """Certificate of any dual point."""
    ones = torch.ones(1).double()
    problem = Problem(
        torch.from_numpy(X)[None],
        torch.eye(int(y.max()) + 1).double()[torch.from_numpy(y)][None],
        torch.ones(1, len(y)).double(),
        CrammerSinger(),
        GroupLasso(lambda1 * ones, lambda2 * ones),
    )
    point = problem.loss.project(torch.from_numpy(dual)[None])
    return float(problem.certificate(point)[1])


def measure_peer(
    X: np.ndarray, y: np.ndarray, strengths: tuple[float, float], name: str, n: int
) -> dict[str, Any]:
    """Seconds of the loosest tolerance of a conic solver that reaches the gap."""
    gap = np.inf
    for keywords in PEERS[name]:
        options = {"solver": name, **keywords}
        dual = plain_dual(X, y, *strengths, options)
        gap = np.inf if dual is None else relative_gap(X, y, *strengths, dual)
        if gap <= GAP:
            break
    seconds = median_time(lambda: plain_dual(X, y, *strengths, options), repeats=n)
    return {"seconds": seconds, "relative_gap": gap, "options": keywords}


def measure_working_set(
    seed: int, share: float, n_features: int, repeats: int
) -> dict[str, Any]:
    """Seconds of the estimator and of the plain programs at one level."""
    X, y = draw_working_set_problem(seed, n_features)
    group_reg = group_reg_of_share(X, y, share)
    svc = GroupLassoSVC(
        group_reg, solver="cvxpy", tol=GAP, solver_options={"solver": "CLARABEL"}
    ).fit(X, y)
    result: dict[str, Any] = {
        "group_reg": group_reg,
        "active": 1 - svc.sparsity_,
        "relative_gap": svc.dual_gap_ / svc.objective_,
        "seconds": median_time(lambda: svc.fit(X, y), repeats=repeats),
    }
    strengths = svc.lambda1_, svc.lambda2_
    for name in PEERS:
        result[name] = measure_peer(X, y, strengths, name, repeats)
    return result


def run_working_set(harness: Harness, smoke: bool) -> None:
    n_features, repeats = (60, 1) if smoke else (1600, 5)
    rows = []
    for share in SHARES:
        settings = {
            "part": "working-set",
            "seed": 0,
            "share": share,
            "n_features": n_features,
            "repeats": repeats,
        }
        result = harness.run(
            settings,
            partial(measure_working_set, 0, share, n_features, repeats),
        )
        reached = [
            result[name]["seconds"]
            for name in PEERS
            if result[name]["relative_gap"] <= GAP
        ]
        ours = result["seconds"]
        rows.append(
            [
                f"{result['active']:.0%}",
                1000 * ours,
                *(1000 * result[name]["seconds"] for name in PEERS),
                result["CLARABEL"]["seconds"] / ours,
                min(reached, default=float("nan")) / ours,
                max(result["relative_gap"], result["CLARABEL"]["relative_gap"]),
            ]
        )
    harness.table(
        f"working set, 5-way 5-shot, {n_features} features, ms (target: ratios of 5)",
        [
            "active",
            "GroupLassoSVC",
            *(f"plain {name}" for name in PEERS),
            "ratio CLARABEL",
            "ratio best",
            "max rel. gap",
        ],
        rows,
    )


# -- hypergradient ----------------------------------------------------------------


def measure_hypergradient(draw: Draw) -> dict[str, float]:
    return {"relative_error": relative_error(draw)}


def run_hypergradient(harness: Harness, smoke: bool) -> None:
    n_problems = 3 if smoke else 50
    errors = [
        harness.run(
            {"part": "hypergradient", "seed": draw.seed},
            partial(measure_hypergradient, draw),
        )["relative_error"]
        for draw in regular_draws(n_problems, 3 * n_problems)
    ]
    harness.table(
        "hypergradient against central differences (target: 1e-5)",
        ["problems", "max rel. error", "median rel. error"],
        [[n_problems, max(errors), float(np.median(errors))]],
    )


PARTS = {
    "certificates": run_certificates,
    "working-set": run_working_set,
    "hypergradient": run_hypergradient,
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    arguments = parser.parse_args()
    harness = Harness("group_lasso_svc", arguments)
    for name, run in PARTS.items():
        if arguments.part in (name, "all"):
            run(harness, arguments.smoke)


if __name__ == "__main__":
    main()
