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
from skcausalmeta.heads import GroupLassoSVC, PrototypeHead, RelaxedHead, RidgeHead
from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier
from skcausalmeta.training import HeadWarmup

FETCH = {
    "omniglot": fetch_omniglot,
    "tiny": fetch_tiny_imagenet,
    "mini-imagenet": fetch_mini_imagenet,
    "cifar-fs": fetch_cifar_fs,
}
# A weak ridge: a given share of features then needs less of the group Lasso, which
# shrinks the weights that stay.
RIDGE_REG = 0.1
GROUP_REGS, RELAXED_REGS = (0.1, 0.2), (0.2, 0.25)


def sparse(group_reg: float) -> GroupLassoSVC:
    """The group-Lasso SVM of the benchmark."""
    return GroupLassoSVC(group_reg, RIDGE_REG, solver="newton")


class Contender(NamedTuple):
    """A head to train through, and the one that answers test episodes.

    Parameters
    ----------
    head : object
        Trained through.
    reader : object
        Solved on the features of test episodes; None: `head`.
    warmup : bool
        Whether the group Lasso begins after half of the training.
    """

    head: Any
    reader: Any = None
    warmup: bool = False

    @property
    def answers(self) -> Any:
        """The head of test episodes."""
        return self.head if self.reader is None else self.reader


def relaxed(group_reg: float) -> Contender:
    """The SVM chooses features; ridge trains them, class means read them."""
    chooses = sparse(group_reg)
    return Contender(RelaxedHead(chooses, RidgeHead()), RelaxedHead(chooses), True)


# Heads on the features of a backbone that learns through them.
HEADS: dict[str, Contender] = {
    **{f"SparseMeta, {reg:g}": Contender(sparse(reg)) for reg in GROUP_REGS},
    **{f"SparseMeta, {reg:g}, relaxed": relaxed(reg) for reg in RELAXED_REGS},
    "SVM (MetaOptNet)": Contender(sparse(0.0)),
    "ridge (R2D2)": Contender(RidgeHead()),
    "prototypes (ProtoNet)": Contender(PrototypeHead()),
}
# Other heads on the same features, so that nobody wins by its reader alone.
READERS: dict[str, Any] = {
    "prototypes": PrototypeHead(),
    **{f"relaxed, {reg:g}": RelaxedHead(sparse(reg)) for reg in (0.15, 0.2)},
}
CHOOSING = tuple(kind for kind in READERS if kind.startswith("relaxed"))
# Gradient steps, on tasks of the size that they are trained on.
STEPS: dict[str, dict[str, Any]] = {
    "MAML": {},
    "ANIL": {"adapt_layers": "head"},
    "KFO": {"update": "kfo"},
}
# Rate of the steps, learn2learn's too: the best on validation classes of .003, .01, .03
# (ANIL: .001 too; MAML on tiny: .01 and .03, in half of the steps).
INNER_LR = 0.01
LEARNERS = (*HEADS, *STEPS)
SPARSE = tuple(name for name in HEADS if name.startswith("SparseMeta"))
DENSE = tuple(name for name in HEADS if name not in SPARSE)

# Shots of training tasks unless asked for others, and evaluations (way, shot).
SHOTS = {"omniglot": [1], "tiny": [5], "mini-imagenet": [1, 5], "cifar-fs": [1, 5]}


def evaluations(data: str, n_shot: int) -> tuple[tuple[int, int], ...]:
    """Sizes of test episodes of what was trained on 5-way tasks of so many shots."""
    twenty = ((20, 1),) if data == "omniglot" and n_shot == 1 else ()
    return ((5, n_shot), *twenty)


class Budget(NamedTuple):
    """What every contender gets.

    Learners by gradient steps and classifiers of others answer the first
    `few_episodes` of the test episodes.
    """

    backbone: str
    n_filters: int
    out_filters: int | None
    n_way: int
    n_query: int
    tasks_per_batch: int
    n_batches: int
    test_episodes: int
    few_episodes: int
    lr: float

    def images(self, n_shot: int) -> int:
        """Images seen in training, with repetition."""
        a_task = self.n_way * (n_shot + self.n_query)
        return self.n_batches * self.tasks_per_batch * a_task


SMOKE = Budget("conv4", 4, 12, 3, 3, 2, 2, 4, 3, 1e-3)
SMALL = Budget("conv4", 32, 256, 5, 10, 4, 240, 2000, 300, 1e-3)
# A thousand features for the sparse heads to choose from, for all heads alike: 256 maps
# of 2 x 2 where images have 32 x 32 pixels, of 1 x 1 where they have 28 x 28.
OUT_FILTERS = {"omniglot": 1024}
FULL = Budget("resnet12", 64, None, 5, 10, 8, 20_000, 2000, 2000, 1e-3)
BATCHES_PER_EPOCH = 60


def small_budget(data: str) -> Budget:
    """What fits two cores."""
    return SMALL._replace(out_filters=OUT_FILTERS.get(data, SMALL.out_filters))


Split = tuple[np.ndarray, np.ndarray]


def load(
    data: str, data_dir: str | None, *, smoke: bool, rotations: bool = True
) -> dict[str, Split]:
    """Images of bytes and labels of every split; labels of no two are the same.

    The rotations of a training character of Omniglot are characters of their own.
    """
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
    if data == "omniglot" and rotations:
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
    augment: list[str] | None,
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
        contender = HEADS[name]
        if contender.warmup:
            warmup = HeadWarmup("selector__group_reg", n_epochs=n_epochs // 2)
            common["callbacks"] = [*common["callbacks"], warmup]
        return SparseMetaClassifier(contender.head, **common)
    return MAMLClassifier(
        inner_lr=INNER_LR, batch_norm="episode", **common, **STEPS[name]
    )
