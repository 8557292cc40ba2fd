"""When a sparse predictor needs fewer samples: synthetic regression.

Targets depend on a share of m = 100 independent Gaussian factors, with Gaussian
weights on these; noise takes 5% of the variance of the targets, so that no predictor
can exceed R^2 = 0.95 by more than chance. Features are the factors themselves
("disentangled") or an orthogonal mixture of them ("entangled"); a Lasso and a ridge
regression choose their strength by 5-fold cross-validation. R^2 on 2,000 fresh rows,
mean and 95% interval over the seeds, the same data for all four contenders. At 80%
relevant features sparsity must not help: this is the control.

All folds and strengths of a problem are solved as one batch of tasks, held-out rows
having weight 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks._harness import Harness, make_parser
from skcausalmeta.heads import LassoHead, RidgeRegressionHead
from skcausalmeta.metrics import mean_confidence_interval, paired_difference

MEASURES = ("skcausalmeta/heads", "skcausalmeta/solvers")

RECIPE: dict[str, Any] = {
    "n_features": 100,
    "noise_share": 0.05,
    "n_test": 2000,
    "n_folds": 5,
    "n_strengths": 20,
}
CONTENDERS = (
    ("disentangled", "lasso"),
    ("entangled", "lasso"),
    ("disentangled", "ridge"),
    ("entangled", "ridge"),
)
Array = np.ndarray
Solve = Callable[[Array, Array, Array, Array], tuple[Array, Array]]


def make_problem(
    share: float, n_samples: int, seed: int, recipe: dict[str, Any]
) -> dict[str, Any]:
    """Training and test rows, factors and their mixture, of one random problem."""
    rng = np.random.default_rng(seed)
    m, n = recipe["n_features"], n_samples + recipe["n_test"]
    mixing = np.linalg.qr(rng.standard_normal((m, m)))[0]
    weights = np.zeros(m)
    relevant = rng.permutation(m)[: round(share * m)]
    weights[relevant] = rng.standard_normal(len(relevant))
    factors = rng.standard_normal((n, m))
    ratio = recipe["noise_share"] / (1 - recipe["noise_share"])
    scale = np.linalg.norm(weights) * np.sqrt(ratio)
    return {
        "disentangled": factors,
        "entangled": factors @ mixing.T,
        "y": factors @ weights + scale * rng.standard_normal(n),
    }


def solve_lasso(X: Array, y: Array, weights: Array, strengths: Array) -> Any:
    """Weights and intercepts of a batch of Lassos on the same rows."""
    return _solve(LassoHead(torch.from_numpy(strengths), tol=1e-6), X, y, weights)


def solve_ridge(X: Array, y: Array, weights: Array, strengths: Array) -> Any:
    """Weights and intercepts of a batch of ridge regressions on the same rows."""
    return _solve(RidgeRegressionHead(torch.from_numpy(strengths)), X, y, weights)


def _solve(head: Any, X: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    n = len(weights)
    solution = head.solve_episodes(
        torch.from_numpy(X).expand(n, -1, -1),
        torch.from_numpy(y).expand(n, -1),
        sample_weight=torch.from_numpy(weights),
    )
    return solution.coef[..., 0].numpy(), solution.intercept[:, 0].numpy()


# Relative strengths: fractions of the smallest Lasso that leaves nothing, and of
# the mean squared row norm.
GRIDS: dict[str, tuple[Solve, float, float]] = {
    "lasso": (solve_lasso, 1e-2, 1.0),
    "ridge": (solve_ridge, 1e-3, 1e2),
}


def choose_and_score(
    kind: str, X: Array, y: Array, n_samples: int, recipe: dict[str, Any]
) -> float:
    """R^2 on the test rows at the strength that cross-validation prefers."""
    solve, low, high = GRIDS[kind]
    strengths = np.geomspace(low, high, recipe["n_strengths"])
    rows, targets = X[:n_samples], y[:n_samples]
    held_out = np.arange(n_samples) % recipe["n_folds"]
    folds = np.arange(recipe["n_folds"])
    grid_folds = np.repeat(folds, len(strengths))
    grid_strengths = np.tile(strengths, len(folds))
    weights = (held_out[None] != grid_folds[:, None]).astype(float)
    coef, intercept = solve(rows, targets, weights, grid_strengths)
    errors = np.square(coef @ rows.T + intercept[:, None] - targets) * (1 - weights)
    errors = errors.sum(axis=1).reshape(len(folds), -1).sum(axis=0)
    best = strengths[[int(errors.argmin())]]
    coef, intercept = solve(rows, targets, np.ones((1, n_samples)), best)
    test = X[n_samples:] @ coef[0] + intercept[0]
    truth = y[n_samples:]
    return 1 - np.square(test - truth).sum() / np.square(truth - truth.mean()).sum()


def measure(
    share: float, n_samples: int, seed: int, recipe: dict[str, Any]
) -> dict[str, float]:
    """R^2 of all contenders on one problem."""
    problem = make_problem(share, n_samples, seed, recipe)
    return {
        f"{features} + {kind}": choose_and_score(
            kind, problem[features], problem["y"], n_samples, recipe
        )
        for features, kind in CONTENDERS
    }


def main() -> None:
    """Run all problems and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=30, help="problems of a cell")
    args = parser.parse_args()
    recipe, shares, sizes = dict(RECIPE), (0.05, 0.2, 0.8), (25, 50, 75, 100, 125, 150)
    if args.smoke:
        args.seeds, shares, sizes = 2, (0.1, 0.8), (25, 50)
        recipe.update(n_features=20, n_strengths=4, n_test=100)
    harness = Harness("synthetic_sparsity", args)
    results: dict[tuple[float, int], list[dict[str, float]]] = {}
    for share in shares:
        for n_samples in sizes:
            for seed in range(args.seeds):
                settings = {"share": share, "n": n_samples, "seed": seed, **recipe}

                def run(
                    share: float = share, n_samples: int = n_samples, seed: int = seed
                ) -> dict[str, float]:
                    return measure(share, n_samples, seed, recipe)

                cell = results.setdefault((share, n_samples), [])
                cell.append(harness.run(settings, run))
    report(harness, results, shares, sizes, args.seeds)


def report(
    harness: Harness,
    results: dict[tuple[float, int], list[dict[str, float]]],
    shares: tuple[float, ...],
    sizes: tuple[int, ...],
    n_seeds: int,
) -> None:
    """The table of means and intervals, and the one of paired differences."""
    names = [f"{features} + {kind}" for features, kind in CONTENDERS]

    def values(share: float, n: int, name: str) -> list[float]:
        return [result[name] for result in results[share, n]]

    rows = []
    for share in shares:
        for name in names:
            cells = [
                "{:.3f} +- {:.3f}".format(
                    *mean_confidence_interval(values(share, n, name))
                )
                for n in sizes
            ]
            rows.append((f"{share:.0%}", name, *cells))
    header = ("relevant", "contender", *(f"n = {n}" for n in sizes))
    title = f"Test R^2, {n_seeds} problems a cell, mean and 95% interval"
    harness.table(title, header, rows)
    rows = []
    for share in shares:
        for name in names[1:]:
            cells = []
            for n in sizes:
                mean, half = paired_difference(
                    values(share, n, names[0]), values(share, n, name)
                )
                cells.append(f"{mean:+.3f} +- {half:.3f}")
            rows.append((f"{share:.0%}", name, *cells))
    title = f"Advantage of {names[0]} over the others, paired"
    harness.table(title, header, rows)


if __name__ == "__main__":
    main()
