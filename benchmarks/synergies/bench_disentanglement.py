"""Which inner problem recovers correlated factors.

`SparseMetaRegressor` learns 6 codes from tasks that depend on about half of 6
factors each, once with an inner Lasso and once with an inner ridge regression; the
ridge codes are given to FastICA as well. Pairs of factors have correlation rho in
training; codes are judged where the factors are *uniform and independent*, on rows
never seen: the mean correlation of matched codes and factors (MCC), the multiple
correlation R, and DCI. Mixings: linear, an MLP, and rendered scenes (32 x 32). Supports
that come in blocks of two or three violate the assumption of the theory: supports
cannot tell the factors of a block apart.

The table is long: run parts of it with ``--mixings``, ``--rhos`` and ``--seeds``; all
finished cells are shown.
"""

from __future__ import annotations

from typing import Any

from benchmarks._harness import Harness, make_parser
from benchmarks.synergies._disentangle import COMMON, RECIPES, measure_cell
from skcausalmeta.metrics import mean_confidence_interval

MEASURES = (
    "skcausalmeta/heads",
    "skcausalmeta/learners/_synergies",
    "skcausalmeta/metrics",
    "skcausalmeta/training",
)

RHOS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
BLOCK_SIZES = (2, 3)
CONTENDERS = ("lasso", "ridge", "ridge + ICA")
FIGURES = ("mcc", "r", "disentanglement", "completeness", "seconds")


def cells(args: Any) -> list[dict[str, Any]]:
    """Settings without seed: correlations with free supports, then blocks."""
    supports = [(rho, "bernoulli", 1) for rho in args.rhos]
    supports += [
        (rho, "blocks", size)
        for rho in args.rhos
        if rho in args.block_rhos
        for size in args.block_sizes
    ]
    return [
        {
            "mixing": mixing,
            "rho": rho,
            "support": support,
            "block_size": size,
            **COMMON,
            **RECIPES[mixing],
        }
        for mixing in args.mixings
        for rho, support, size in supports
    ]


def main() -> None:
    """Run the cells and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--mixings", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--rhos", type=float, nargs="+", default=list(RHOS))
    parser.add_argument(
        "--block-rhos",
        type=float,
        nargs="*",
        default=[0.0, 0.9],
        help="violated supports",
    )
    parser.add_argument("--block-sizes", type=int, nargs="+", default=list(BLOCK_SIZES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    if args.smoke:
        args.rhos, args.block_rhos, args.seeds = [0.9], [], [0]
    harness = Harness("disentanglement", args)
    rows = []
    for cell in cells(args):
        if args.smoke:
            cell |= {"n_tasks": 8, "n_batches": 2, "n_test": 60, "hidden": (4,)}
        results = []
        for seed in args.seeds:
            settings = {**cell, "seed": seed}

            def run(settings: dict[str, Any] = settings) -> dict[str, Any]:
                return measure_cell(settings)

            results.append(harness.run(settings, run))
        rows += rows_of(cell, results)
    title = f"Uniform factors, {len(args.seeds)} seeds, mean and 95% interval"
    harness.table(title, HEADER, rows)


HEADER = ("mixing", "rho", "supports", "inner", "MCC", "R", "D", "C", "seconds")


def rows_of(cell: dict[str, Any], results: list[dict[str, Any]]) -> list[tuple]:
    """Rows of the table for one cell."""
    rows = []
    for name in CONTENDERS:
        figures = []
        for figure in FIGURES:
            values = [result[name][figure] for result in results]
            mean, half = mean_confidence_interval(values)
            if figure == "seconds":
                figures.append(f"{mean:.1f}")
            else:
                figures.append(f"{mean:.3f} +- {half:.3f}")
        supports = "free" if cell["block_size"] == 1 else f"by {cell['block_size']}"
        rows.append((cell["mixing"], cell["rho"], supports, name, *figures))
    return rows


if __name__ == "__main__":
    main()
