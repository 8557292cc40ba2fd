"""Data, learners and budgets of the few-shot benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from skorch.callbacks import LRScheduler

from skcausalmeta.datasets import (
    add_rotated_classes,
    fetch_cifar_fs,
    fetch_mini_imagenet,
    fetch_omniglot,
    fetch_tiny_imagenet,
)
from skcausalmeta.heads import GroupLassoSVC, PrototypeHead, RidgeHead
from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier

FETCH = {
    "omniglot": fetch_omniglot,
    "tiny": fetch_tiny_imagenet,
    "mini-imagenet": fetch_mini_imagenet,
    "cifar-fs": fetch_cifar_fs,
}
# A weak ridge: a given share of features then needs less of the group Lasso, which
# shrinks the weights that stay.
GROUP_REGS, RIDGE_REG = (0.1, 0.15, 0.2), 0.1

# Heads on the features of a backbone that learns through them.
HEADS: dict[str, Any] = {
    **{
        f"SparseMeta, {reg:g}": lambda reg=reg: GroupLassoSVC(
            reg, RIDGE_REG, solver="newton"
        )
        for reg in GROUP_REGS
    },
    "SVM (MetaOptNet)": lambda: GroupLassoSVC(0.0, solver="newton"),
    "ridge (R2D2)": RidgeHead,
    "prototypes (ProtoNet)": PrototypeHead,
}
# Gradient steps, on tasks of the size that they are trained on.
STEPS: dict[str, dict[str, Any]] = {
    "MAML": {},
    "ANIL": {"adapt_layers": "head"},
    "KFO": {"update": "kfo"},
}
LEARNERS = (*HEADS, *STEPS)
SPARSE = tuple(name for name in HEADS if name.startswith("SparseMeta"))

# Shots of training tasks unless asked for others, and evaluations (way, shot).
SHOTS = {"omniglot": [1], "tiny": [5], "mini-imagenet": [1, 5], "cifar-fs": [1, 5]}


def evaluations(data: str, n_shot: int) -> tuple[tuple[int, int], ...]:
    """Sizes of test episodes of what was trained on 5-way tasks of so many shots."""
    twenty = ((20, 1),) if data == "omniglot" and n_shot == 1 else ()
    return ((5, n_shot), *twenty)


class Budget(NamedTuple):
    """What every contender gets."""

    backbone: str
    n_filters: int
    out_filters: int | None
    n_way: int
    n_query: int
    tasks_per_batch: int
    n_batches: int
    test_episodes: int
    lr: float

    def images(self, n_shot: int) -> int:
        """Images seen in training, with repetition."""
        a_task = self.n_way * (n_shot + self.n_query)
        return self.n_batches * self.tasks_per_batch * a_task


SMOKE = Budget("conv4", 4, 12, 3, 3, 2, 2, 4, 1e-3)
# Many features for the sparse heads to choose from, for all heads alike.
SMALL = Budget("conv4", 32, 256, 5, 10, 4, 240, 2000, 1e-3)
FULL = Budget("resnet12", 64, None, 5, 10, 8, 20_000, 2000, 1e-3)
BATCHES_PER_EPOCH = 60

Split = tuple[np.ndarray, np.ndarray]


def load(data: str, data_dir: str | None, smoke: bool) -> dict[str, Split]:
    """Images of bytes and labels of every split; labels of no two are the same."""
    if smoke:
        rng, y = np.random.RandomState(0), np.repeat(np.arange(6), 14)
        return {
            split: (rng.randint(0, 256, (len(y), 16, 16)).astype(np.uint8), y + 10 * k)
            for k, split in enumerate(("train", "val", "test"))
        }
    found = {
        split: FETCH[data](data_home=data_dir, split=split)
        for split in ("train", "val", "test")
    }
    splits = {name: (bunch.data, bunch.target) for name, bunch in found.items()}
    if data == "omniglot":
        X, y = add_rotated_classes(*splits["train"])
        # Numbers of the rotated classes would meet those of the other splits.
        splits["train"] = X, y + 10_000
    return splits


def backbone_params(budget: Budget) -> dict[str, Any]:
    """Keywords of the backbone."""
    if budget.backbone != "conv4":
        return {}
    return {"n_filters": budget.n_filters, "out_filters": budget.out_filters}


def make_learner(
    name: str,
    budget: Budget,
    n_shot: int,
    seed: int,
    *,
    augment: str | None,
    validation_classes: np.ndarray,
    device: str,
) -> Any:
    """One contender, not fitted; the weights that validate best are kept."""
    per_epoch = min(BATCHES_PER_EPOCH, budget.n_batches)
    n_epochs = budget.n_batches // per_epoch
    common: dict[str, Any] = {
        "backbone": budget.backbone,
        "backbone_params": backbone_params(budget),
        "n_way": budget.n_way,
        "n_shot": n_shot,
        "n_query": budget.n_query,
        "tasks_per_batch": budget.tasks_per_batch,
        "batches_per_epoch": per_epoch,
        "max_epochs": n_epochs,
        "lr": budget.lr,
        "augment": augment,
        "validation_classes": validation_classes,
        "fit_head": False,
        "callbacks": [LRScheduler("CosineAnnealingLR", T_max=n_epochs)],
        "device": device,
        "verbose": 0,
        "random_state": seed,
    }
    if name in HEADS:
        return SparseMetaClassifier(HEADS[name](), **common)
    return MAMLClassifier(inner_lr=0.1, batch_norm="episode", **common, **STEPS[name])
