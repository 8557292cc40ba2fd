"""Pictures of the few-shot benchmark, from the lines of its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

mpl.use("agg")

import matplotlib.pyplot as plt


class Point(NamedTuple):
    """A contender on the frontier, in percent."""

    name: str
    used: float
    accuracy: float
    half: float


def draw_frontier(panels: dict[str, Sequence[Point]], path: str | Path) -> None:
    """Accuracy against the share of features that a task uses, a panel a title."""
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4 * len(panels) + 2, 3.6),
        layout="constrained",
        squeeze=False,
    )
    markers = "os^Dv<>phX*P"
    for ax, (title, points) in zip(axes[0], panels.items(), strict=True):
        for k, point in enumerate(points):
            ax.errorbar(
                point.used,
                point.accuracy,
                yerr=point.half,
                marker=markers[k % len(markers)],
                capsize=2,
                linestyle="none",
                label=point.name,
            )
        ax.set(xlabel="features in use, %", ylabel="accuracy, %", xlim=(0, 105))
        ax.set_title(title, loc="left")
    axes[0, -1].legend(fontsize="x-small", bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


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
