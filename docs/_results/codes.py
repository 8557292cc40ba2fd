"""Tables of sparse heads on known factors: labels they need, codes they lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .lines import at
from .tables import Benchmark, Column, Table

_INNER = ("lasso", "ridge", "ridge + ICA")
_LASSO = "disentangled + lasso"


def _lead(other: str) -> Callable[[Any], float | None]:
    def lead(result: Any) -> float | None:
        own, base = at(result, _LASSO), at(result, other)
        return None if own is None or base is None else own - base

    return lead


def _codes(figure: str) -> list[Column]:
    return [
        Column(f"{mixing}, {name}", f"{name}/{figure}", where={"mixing": mixing})
        for mixing in ("linear", "mlp")
        for name in _INNER
    ]


BENCHMARKS = [
    Benchmark(
        "synthetic_sparsity",
        "Sparse heads on disentangled codes",
        [
            Table(
                "Test R2 by labels and share of relevant factors",
                "One regression on 100 codes: the factors, or a rotation of them "
                "(entangled), which a ridge does not notice. Noise takes 5% of the "
                "variance; strengths by cross-validation on the n labels.",
                ("share", "n"),
                [
                    Column("disentangled, Lasso", _LASSO),
                    Column("entangled, Lasso", "entangled + lasso"),
                    Column("ridge", "disentangled + ridge"),
                    Column("- entangled", _lead("entangled + lasso"), "change"),
                    Column("- ridge", _lead("disentangled + ridge"), "change"),
                ],
            )
        ],
    ),
    Benchmark(
        "disentanglement",
        "Recovery of correlated factors",
        [
            Table(
                "Mean correlation with the matched factors (MCC)",
                "Codes learned from 1,000 tasks that depend on about half of six "
                "factors each, whose pairs have correlation rho in training; judged "
                "where the factors are uniform and independent.",
                ("rho",),
                _codes("mcc"),
                {"block_size": 1, "mixing": lambda name: name != "shapes3d"},
            ),
            Table(
                "R: how well the factors can be read off linearly",
                "Of the same codes.",
                ("rho",),
                [column for column in _codes("r") if "ICA" not in column.header],
                {"block_size": 1, "mixing": lambda name: name != "shapes3d"},
            ),
            *(
                Table(
                    f"DCI: {figure} of the codes",
                    "Of the same codes, by Lasso regressions of the factors on them: "
                    + text,
                    ("rho",),
                    _codes(figure),
                    {"block_size": 1, "mixing": lambda name: name != "shapes3d"},
                )
                for figure, text in (
                    ("disentanglement", "a code is about one factor where it is 1."),
                    ("completeness", "a factor is in one code where it is 1."),
                )
            ),
            Table(
                "Supports in blocks, which the theory excludes (MCC)",
                "The factors of a task come in blocks of so many.",
                ("mixing", "rho", "block_size"),
                [Column(name, f"{name}/mcc") for name in _INNER],
                {
                    "block_size": lambda size: size and size > 1,
                    "mixing": lambda name: name != "shapes3d",
                },
            ),
            *(
                Table(
                    f"Rendered scenes, {title}",
                    "32 x 32 images of one object in a room, six factors.",
                    ("rho", "block_size"),
                    [Column(name, f"{name}/{figure}") for name in _INNER],
                    {"mixing": "shapes3d"},
                )
                for title, figure in (
                    ("MCC", "mcc"),
                    ("R", "r"),
                    ("DCI: disentanglement", "disentanglement"),
                    ("DCI: completeness", "completeness"),
                )
            ),
        ],
    ),
]
