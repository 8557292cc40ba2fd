"""Nets trained under a head, and what heads read from their features."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from skorch.callbacks import LRScheduler

from benchmarks.few_shot._contenders import (
    BATCHES_PER_EPOCH,
    Budget,
    Split,
    backbone_of,
)
from benchmarks.few_shot._features import Size, answer
from skcausalmeta.episodes import EpisodeSampler
from skcausalmeta.heads import GroupLassoLogistic, GroupLassoSVC, RidgeHead
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.training import HeadWarmup

# Episodes by which a derivative is looked at, and the step of a difference in units of
# the features.
N_PROBED, STEP = 40, 1e-6


class Contender(NamedTuple):
    """A head to train under.

    Parameters
    ----------
    head : object
        Trained through.
    warmup : bool
        Whether the group Lasso begins after half of the training.
    more_shots : bool
        Whether training tasks have more support rows than test tasks.
    """

    head: Any
    warmup: bool = False
    more_shots: bool = False


def logistic(group_reg: float, ridge_reg: float, **more: Any) -> GroupLassoLogistic:
    """A group Lasso with the logistic loss."""
    return GroupLassoLogistic(group_reg, ridge_reg, **more)


def hinge(group_reg: float, **more: Any) -> GroupLassoSVC:
    """A group Lasso with the hinge, as published."""
    return GroupLassoSVC(group_reg, 0.1, solver="auto", **more)


CHOSEN = logistic(0.25, 0.1)
CONTENDERS: dict[str, Contender] = {
    "ridge": Contender(RidgeHead()),
    "ridge, 2": Contender(RidgeHead(2.0)),
    "hinge, 0.2": Contender(hinge(0.2)),
    "hinge, 0.3, dual_reg": Contender(hinge(0.3, dual_reg=1.0)),
    **{
        f"logistic, {reg:g}": Contender(logistic(reg, 0.1))
        for reg in (0.0, 0.1, 0.15, 0.2, 0.22, 0.25)
    },
    "logistic, 0.25, warm-up": Contender(CHOSEN, warmup=True),
    "logistic, 0.25, more shots": Contender(CHOSEN, more_shots=True),
    "logistic, 0.09, reweighted": Contender(logistic(0.09, 0.2, n_reweight=1)),
    "logistic, 0.38, ridge 1": Contender(logistic(0.38, 1.0)),
    **{
        f"logistic, {reg:g}, refit": Contender(logistic(reg, 0.1, refit=True))
        for reg in (0.12, 0.2, 0.25)
    },
}
# Heads that read the features of every net, frozen, beside its own.
READERS: dict[str, Any] = {
    "ridge": RidgeHead(),
    "logistic, 0.25": CHOSEN,
    "logistic, 0.25, refit": logistic(0.25, 0.1, refit=True),
}
# Support rows a class of training tasks with more of them. Characters of Omniglot have
# 20 drawings, queries among them.
MORE_SHOTS = {"tiny": 15, "omniglot": 5}


def train(
    contender: Contender,
    splits: dict[str, Split],
    budget: Budget,
    n_shot: int,
    seed: int,
) -> SparseMetaClassifier:
    """Train once; the weights that validate best with the head are kept."""
    per_epoch = min(BATCHES_PER_EPOCH, budget.n_batches)
    n_epochs = budget.n_batches // per_epoch
    callbacks: list[Any] = [LRScheduler("CosineAnnealingLR", T_max=n_epochs)]
    if contender.warmup:
        callbacks.append(HeadWarmup("group_reg", n_epochs=n_epochs // 2))
    X, y = (
        np.concatenate(part)
        for part in zip(splits["train"], splits["val"], strict=True)
    )
    return SparseMetaClassifier(
        contender.head,
        backbone=backbone_of(budget),
        n_way=budget.n_way,
        n_shot=n_shot,
        n_query=budget.n_query,
        tasks_per_batch=budget.tasks_per_batch,
        batches_per_epoch=per_epoch,
        max_epochs=n_epochs,
        lr=budget.lr,
        validation=np.unique(splits["val"][1]),
        fit_head=False,
        callbacks=callbacks,
        verbose=0,
        random_state=seed,
    ).fit(X, y)


def measure(
    contender: Contender,
    splits: dict[str, Split],
    part: str,
    budget: Budget,
    shots: tuple[int, int],
    seed: int,
) -> dict[str, Any]:
    """Train once; its own head and others answer the episodes of a split.

    Parameters
    ----------
    contender : Contender
    splits : dict of Split
        Images and labels.
    part : {"val", "test"}
        Classes of the episodes.
    budget : Budget
    shots : tuple of int
        Of training tasks, and of the episodes.
    seed : int
    """
    start = time.process_time()
    learner = train(contender, splits, budget, shots[0], seed)
    seconds = time.process_time() - start
    images, labels = splits[part]
    features = learner.transform(images), labels
    size = Size(budget.n_way, shots[1], budget.test_episodes)
    own = answer(contender.head, features, size).to_dict()
    episodes = episodes_of(features, size)
    own["moving"] = moving_share(contender.head, episodes)
    if getattr(contender.head, "group_reg", 0) and not contender.head.refit:
        own["falling"] = falling_share(contender.head, episodes, scale_of(learner))
    return {
        "cpu_seconds": seconds,
        "evaluations": {size.name: own},
        "readers": {
            kind: {size.name: answer(head, features, size).to_dict()}
            for kind, head in READERS.items()
            if repr(head) != repr(contender.head)
        },
    }


def scale_of(learner: SparseMetaClassifier) -> float:
    """Scale of the logits that training has learned."""
    return learner.net_.module_.scale


class Episodes(NamedTuple):
    """Tasks with features that are centred by the support rows."""

    support: torch.Tensor  # (n_tasks, n_support, n_features)
    query: torch.Tensor  # (n_tasks, n_query, n_features)
    support_targets: torch.Tensor
    query_targets: torch.Tensor
    n_way: int


def episodes_of(split: Split, size: Size) -> Episodes:
    """The first episodes that `answer` draws."""
    features, labels = split
    sampler = EpisodeSampler(labels, **size.arguments(labels), random_state=0)
    some = sampler.draw(min(N_PROBED, size.n_episodes))

    def stacked(part: str, of: Any = None) -> torch.Tensor:
        rows = [getattr(one, part) for one in some]
        return torch.as_tensor(np.stack(rows if of is None else [of[r] for r in rows]))

    support, query = (stacked(p, features).double() for p in ("support", "query"))
    middle = support.mean(dim=1, keepdim=True)
    targets = stacked("support_targets"), stacked("query_targets")
    return Episodes(support - middle, query - middle, *targets, size.n_way)


def moving_share(head: Any, episodes: Episodes) -> float:
    """Share of the entries of W that move with the support features.

    By a difference along a random direction; an entry that a head leaves at 0 stays
    there, and passes no derivative.
    """
    support = episodes.support
    way = torch.from_numpy(np.random.RandomState(0).standard_normal(support.shape))
    step = STEP * support.square().mean().sqrt() * way
    before, after = (
        head.solve_episodes(
            rows, episodes.support_targets, episodes.n_way, tol=1e-12
        ).coef
        for rows in (support - step, support + step)
    )
    return float((before != after).double().mean())


def falling_share(head: Any, episodes: Episodes, scale: float) -> float:
    """Share of tasks whose query loss falls if the group Lasso gets weaker.

    By the derivative in `group_reg`, which a strength would follow that is learned
    with the net, by its loss.
    """
    n_tasks = len(episodes.support)
    strength = torch.full((n_tasks,), float(head.group_reg), dtype=torch.float64)
    strength.requires_grad_()
    logits = (
        clone(head)
        .set_params(group_reg=strength)
        .episode_logits(
            episodes.support, episodes.support_targets, episodes.query, episodes.n_way
        )
    )
    loss = torch.nn.functional.cross_entropy(
        scale * logits.flatten(0, 1), episodes.query_targets.flatten(), reduction="sum"
    )
    (slope,) = torch.autograd.grad(loss, strength)
    return float((slope > 0).double().mean())
