"""Tables of the heads and of the solvers behind them."""

from __future__ import annotations

from .tables import Benchmark, Column, Table, ratio

_LAYER = (
    *("auto", "newton", "fista", "fista+cg", "cvxpylayers"),
    *("published-5", "lean-5", "published-1000"),
)
_RIDGE = ("auto", "newton", "fista", "qpth shift 1e-06", "qpth shift 1.0")


def _times(names: tuple[str, ...]) -> list[Column]:
    return [Column(name, f"{name}/cpu_ms_per_task", "median") for name in names]


def _over(name: str, ours: str, key: str) -> Column:
    return Column(name, ratio(f"{name}/{key}", f"{ours}/{key}"), "median")


BENCHMARKS = [
    Benchmark(
        "group_lasso_svc",
        "The group-Lasso SVM",
        [
            Table(
                "Certificates of random problems",
                "Largest relative duality gap, and distance to the objective of "
                "cvxpy's primal program; 2 to 20 classes, 1 to 30 shots, 2 to 2,000 "
                "features, from no Lasso to all features off.",
                (),
                [
                    Column("cvxpy, largest gap", "cvxpy/relative_gap", "max"),
                    Column("newton, largest gap", "newton/relative_gap", "max"),
                    Column("cvxpy, difference", "cvxpy/difference", "max"),
                    Column("newton, difference", "newton/difference", "max"),
                ],
                {"part": "certificates"},
            ),
            Table(
                "Gradients through the solved head",
                "Largest relative error against central differences.",
                (),
                [Column("error", "relative_error", "max")],
                {"part": "hypergradient"},
            ),
            Table(
                "Working set against the plain dual",
                "5-way 5-shot; seconds, medians of 5; shares of features in use.",
                ("n_features", "share"),
                [
                    Column("GroupLassoSVC", "seconds", "median"),
                    Column("CLARABEL", "CLARABEL/seconds", "median"),
                    Column("SCS", "SCS/seconds", "median"),
                    Column(
                        "times CLARABEL", ratio("CLARABEL/seconds", "seconds"), "max"
                    ),
                    Column("times SCS", ratio("SCS/seconds", "seconds"), "max"),
                ],
                {"part": "working-set"},
            ),
        ],
    ),
    Benchmark(
        "solvers",
        "Solvers as layers",
        [
            Table(
                "Forward and backward",
                "CPU milliseconds a task, by ways, shots and features; 35% of the "
                "features on, float64, 8 tasks at once, one thread, medians of 5 in "
                "one process. "
                '"published-5" is the published scheme of 5 projected steps, "lean-5" '
                "the same numbers with less overhead: neither is solved, and their "
                "gradients are not those of the problem.",
                ("size",),
                _times(_LAYER),
                {"part": "layer"},
            ),
            Table(
                "What the times are worth: relative duality gap",
                "Largest of the 8 tasks.",
                ("size",),
                [Column(name, f"{name}/gap", "max") for name in _LAYER],
                {"part": "layer"},
            ),
            Table(
                "Relative error of the gradient",
                "Against a solution to 1e-12; -- where it is not finite.",
                ("size",),
                [Column(name, f"{name}/gradient_error", "max") for name in _LAYER],
                {"part": "layer"},
            ),
            Table(
                "Times the time of ours",
                "Other layers over solver='auto', forward and backward.",
                ("size",),
                [
                    _over(name, "auto", "cpu_ms_per_task")
                    for name in ("fista+cg", "cvxpylayers", "lean-5")
                ],
                {"part": "layer"},
            ),
            Table(
                "Before the compiled solver",
                "CPU milliseconds a task of solver='auto', and times that an earlier "
                "commit takes for the same, both in one process: ``fit`` of one task, "
                "solutions without gradients, and forward and backward of 1, 8 and 64 "
                "tasks.",
                ("size", "call", "n_tasks"),
                [
                    Column("auto", "auto/cpu_ms_per_task", "median"),
                    _over("earlier", "auto", "cpu_ms_per_task"),
                ],
                {"part": "earlier"},
            ),
            Table(
                "Without a Lasso",
                "CPU milliseconds a task, forward and backward, against qpth.",
                ("size", "case", "dtype"),
                _times(_RIDGE),
                {"part": "ridge"},
            ),
            Table(
                "At other tolerances",
                "CPU milliseconds a task, forward and backward, by precision and "
                "relative gap.",
                ("size",),
                _times(
                    tuple(
                        f"{solver} {precision}"
                        for solver in ("auto", "fista")
                        for precision in (
                            *("float32 0.001", "float32 1e-06", "float64 1e-06"),
                        )
                    )
                ),
                {"part": "tolerance"},
            ),
        ],
    ),
    Benchmark(
        "small_fits",
        "Small fits",
        [
            Table(
                "One task",
                "CPU milliseconds of ``fit``, and over those of LogisticRegression.",
                ("size",),
                [
                    Column("GroupLassoSVC", "GroupLassoSVC/median", "median"),
                    _over("GroupLassoSVC", "LogisticRegression", "median"),
                    _over("GroupLassoLogistic", "LogisticRegression", "median"),
                ],
                {"part": "head"},
            ),
            Table(
                "One task without a Lasso",
                "CPU milliseconds against LIBLINEAR's solver of Crammer and Singer, at "
                "its own tolerance and at 1e-6.",
                ("size",),
                [
                    Column("fit", "fit/median", "median"),
                    Column("solve_episodes", "layer/median", "median"),
                    Column("LIBLINEAR", "LIBLINEAR/median", "median"),
                    Column("LIBLINEAR to 1e-6", "LIBLINEAR to 1e-6/median", "median"),
                ],
                {"part": "liblinear"},
            ),
            Table(
                "Whole fits",
                "CPU seconds of ``SparseMetaClassifier().fit``: WISDM, and 14,820 rows "
                "of 29 tasks with 9 columns.",
                ("table",),
                [Column("CPU s", "cpu_seconds", "median")],
                {"part": "tables"},
            ),
        ],
    ),
]
