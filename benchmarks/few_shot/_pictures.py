"""Pictures of the few-shot benchmark, from the lines of its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

# Points in per cent from the best to the bottom of a panel.
SHOWN = 6.0
MARKERS = "osD^v<>phX*P"


class Point(NamedTuple):
    """A learner, the head that reads its features, and what they reach in percent."""

    learner: str
    head: str
    used: float
    accuracy: float
    half: float


def draw_frontier(panels: dict[str, Sequence[Point]], path: str | Path) -> None:
    """Accuracy against the share of features that a task uses, a panel a title.

    A learner has a colour and a head a marker; the line joins what nothing with fewer
    features surpasses. What is far below the best is only named.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.4 * len(panels) + 2.4, 4.2),
        layout="constrained",
        squeeze=False,
    )
    shown = [point for panel in panels.values() for point in near_the_best(panel)]
    learners = list(dict.fromkeys(point.learner for point in shown))
    heads = list(dict.fromkeys(point.head for point in shown))
    colors = {name: f"C{k % 10}" for k, name in enumerate(learners)}
    markers = {head: MARKERS[k % len(MARKERS)] for k, head in enumerate(heads)}
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        draw_panel(ax, panel, colors, markers)
        ax.set_title(title, loc="left")
    keys = [(name, colors[name], "o") for name in learners]
    keys += [(f"read by {head}", "grey", markers[head]) for head in heads]
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="none", label=label)
        for label, color, marker in keys
    ]
    figure.legend(handles=handles, fontsize="x-small", loc="outside right upper")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_panel(
    ax: Any, panel: Sequence[Point], colors: dict[str, str], markers: dict[str, str]
) -> None:
    """The points near the best, their frontier, and the names of the others."""
    near = near_the_best(panel)
    line = [(point.used, point.accuracy) for point in frontier(near)]
    ax.plot(*zip(*line, strict=True), color="lightgrey", zorder=0)
    for point in near:
        ax.errorbar(
            point.used,
            point.accuracy,
            yerr=point.half,
            color=colors[point.learner],
            marker=markers[point.head],
            capsize=2,
        )
    below = [f"{p.learner} {p.accuracy:.1f}" for p in panel if p not in near]
    if below:
        ax.margins(y=0.04 * (len(below) + 2))  # room for their names
        text = "\n".join(["below:", *below])
        ax.text(0.02, 0.02, text, transform=ax.transAxes, fontsize="x-small")
    ax.set(xlabel="features in use, %", ylabel="accuracy, %", xlim=(0, 105))


def near_the_best(panel: Sequence[Point]) -> list[Point]:
    """Points that are less than `SHOWN` percent below the best."""
    bottom = max(point.accuracy for point in panel) - SHOWN
    return [point for point in panel if point.accuracy > bottom]


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that nothing with as few features surpasses, by features in use."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.used, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def draw_overlap(used: np.ndarray, title: str, path: str | Path) -> None:
    """Which features which test task uses, and how much two tasks share."""
    shared = overlap(used)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=[1.5, 1]
    )
    order = np.argsort(-used.mean(axis=0), kind="stable")
    left.imshow(used[:, order], aspect="auto", cmap="Greys", interpolation="nearest")
    left.set(xlabel="feature, most used first", ylabel="test task")
    left.set_title(title, loc="left")
    image = right.imshow(shared, vmin=0, vmax=1, cmap="viridis")
    right.set(xlabel="test task", ylabel="test task")
    right.set_title("shared, of features in either", loc="left")
    figure.colorbar(image, ax=right)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def pack_masks(used: np.ndarray) -> dict[str, Any]:
    """Features in use (n_tasks, n_features) as short text for a line of results."""
    rows = np.packbits(used, axis=1)
    return {"n_features": used.shape[1], "used": [row.tobytes().hex() for row in rows]}


def unpack_masks(packed: dict[str, Any]) -> np.ndarray:
    """What `pack_masks` was given."""
    rows = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in packed["used"]]
    return np.unpackbits(np.stack(rows), axis=1, count=packed["n_features"]) == 1


def overlap(used: np.ndarray) -> np.ndarray:
    """Features that both tasks use, of those that either uses (Jaccard)."""
    rows = used.astype(float)
    both = rows @ rows.T
    either = rows.sum(1)[:, None] + rows.sum(1) - both
    return both / np.maximum(either, 1)


def overlap_facts(used: np.ndarray) -> dict[str, float]:
    """Mean overlap of two tasks, and of as many features drawn at random."""
    pairs = np.triu_indices(len(used), 1)
    share = used.mean(axis=1)
    by_chance = share[:, None] * share
    either = share[:, None] + share - by_chance
    return {
        "overlap": float(overlap(used)[pairs].mean()),
        "by chance": float((by_chance / np.maximum(either, 1e-12))[pairs].mean()),
        "features never used": float((~used.any(axis=0)).mean()),
    }
