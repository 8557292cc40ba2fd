"""Tables of few-shot learning of images: one budget for all, and the recipes."""

from __future__ import annotations

from typing import Any

from .lines import Line, at
from .tables import Benchmark, Column, Table

OWN = "its own"
_DATA = {"omniglot": "Omniglot", "tiny": "Tiny-ImageNet-FS"}


def by_head(lines: list[Line]) -> list[Line]:
    """Make a line of every head that answered the test episodes of a trained net.

    The head that the net was trained with comes first; "used" is the share of the
    features in use, all of them where a learner does not tell.
    """
    found = []
    for line in lines:
        result = line["result"]
        heads = {OWN: result.get("evaluations", {}), **result.get("readers", {})}
        for head, sizes in heads.items():
            for size, one in sizes.items():
                sparsity = one.get("sparsity")
                settings = {**line["settings"], "head": head, "size": size}
                times = at(result, "train_seconds") if head == OWN else None
                facts = {"used": 1 - (sparsity or 0.0), "train_seconds": times}
                found.append({**line, "settings": settings, "result": {**one, **facts}})
    return found


def _budget(data: str, size: str) -> Table:
    dense = {"learner": "ridge (R2D2)", "head": OWN}
    return Table(
        f"{_DATA[data]}, {size}",
        "Same backbone (Conv4), steps of training, images and test episodes for all; "
        'strengths chosen on validation classes. "head" is what solves the test '
        "tasks on the trained features. Learners by gradient steps and those of "
        "learn2learn answer the first 300 of the 2,000 episodes.",
        ("learner", "head"),
        [
            Column("accuracy, %", "scores", "percent"),
            Column("- ridge (R2D2)", "scores", "points", minus=dense),
            Column("features used", "used", "plain"),
            Column("to adapt, s", "adapt_time", "median"),
            Column("training, s", "train_seconds", "median"),
        ],
        {"part": "table", "data": data, "size": size, "n_shot": int(size[-2])},
        prepare=by_head,
    )


def _accuracy(size: str, header: str) -> Column:
    return Column(header, f"evaluations/{size}/scores", "percent")


def _used(size: str) -> Any:
    def share(result: Any) -> float | None:
        sparsity = at(result, f"evaluations/{size}/sparsity")
        return None if sparsity is None else 1 - sparsity

    return share


def _under(part: str, data: str, size: str) -> Table:
    dense = {"contender": "ridge", "head": OWN}
    chosen = {
        "val": "classes of validation, by which the settings were chosen.",
        "test": "test classes, fresh seeds.",
    }
    return Table(
        f"{_DATA[data]}, {size}, {part} classes",
        "Same backbone, tasks and steps for all nets. "
        '"contender" is the head that a net was trained under, '
        '"head" what solves the tasks on its features, frozen. "entries of W that '
        'move": the share that have a derivative in the support features. '
        '"weaker is better": the share of tasks whose loss falls with group_reg. On '
        + chosen[part],
        ("contender", "head"),
        [
            Column("accuracy, %", "scores", "percent"),
            Column("- ridge", "scores", "points", minus=dense),
            Column("features used", "used", "plain"),
            Column("entries of W that move", "moving", "plain"),
            Column("weaker is better", "falling", "plain"),
        ],
        {"part": part, "data": data, "size": size},
        prepare=by_head,
    )


_SIZES = {"5w1s": "5-way 1-shot", "5w5s": "5-way 5-shot", "20w1s": "20-way 1-shot"}
_DENSE_RECIPE = {"recipe": "omniglot"}

BENCHMARKS = [
    Benchmark(
        "few_shot",
        "Few-shot learning of images, the same budget for all",
        [
            *(_budget("omniglot", size) for size in ("5w1s", "5w5s", "20w1s")),
            *(_budget("tiny", size) for size in ("5w5s", "5w1s")),
            Table(
                "Seconds of a training step",
                "A step of 8 tasks of Conv4 against supervised steps on as many rows.",
                ("filters", "tasks"),
                [
                    Column(name, name, "median")
                    for name in ("supervised", "SparseMeta", "SVM")
                ],
                {"part": "step"},
            ),
        ],
    ),
    Benchmark(
        "under_sparse",
        "Nets trained under a sparse head",
        [
            _under(part, data, size)
            for part in ("test", "val")
            for data, size in (("tiny", "5w5s"), ("omniglot", "5w1s"))
        ],
    ),
    Benchmark(
        "recipes",
        "Images, best settings",
        [
            Table(
                "Recipes",
                "One run of each script in examples/recipes, chosen on validation "
                "classes, by accuracy on test classes in per cent.",
                ("recipe",),
                [
                    *(_accuracy(size, header) for size, header in _SIZES.items()),
                    Column("minutes", "train_seconds", "median", 1 / 60),
                ],
            ),
            Table(
                "Features used by the recipes, and what few features cost",
                "Differences in points to the recipe with all features.",
                ("recipe",),
                [
                    *(Column(f"used, {size}", _used(size), "plain") for size in _SIZES),
                    *(
                        Column(
                            f"- omniglot, {size}",
                            f"evaluations/{size}/scores",
                            "points",
                            minus=_DENSE_RECIPE,
                        )
                        for size in _SIZES
                    ),
                ],
                {"recipe": lambda name: str(name).startswith("omniglot")},
            ),
            Table(
                "1-NN on pixels",
                "On the same episodes, in per cent.",
                ("recipe",),
                [
                    Column(header, f"pixels/{size}/scores", "percent")
                    for size, header in _SIZES.items()
                ],
            ),
        ],
    ),
]
