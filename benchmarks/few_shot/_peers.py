"""Peers of the few-shot benchmark: learn2learn's algorithms, and easyfsl's heads.

learn2learn trains the same backbone on the same number of images, with the optimiser,
the schedule and the validation of our learners. Both are left out, and named with the
reason, where they cannot be imported.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn

from benchmarks._harness import find_peer
from benchmarks.few_shot._contenders import BATCHES_PER_EPOCH, INNER_LR, Budget, Split
from skcausalmeta.backbones import build_backbone
from skcausalmeta.episodes import EpisodeSampler

PEERS = (
    find_peer("learn2learn", "learn2learn"),
    find_peer("easyfsl", "easyfsl.methods"),
)
l2l, easyfsl = (peer.module for peer in PEERS)

INNER_STEPS = 5
VALIDATION_EPISODES = 100  # the default of our learners

Predictor = Callable[[Tensor], Tensor]


class Learn2Learn(ABC, ClassifierMixin, BaseEstimator):
    """An algorithm of learn2learn on our backbone, as an estimator that adapts."""

    # Gradient steps, with statistics of the rows that come together, as published.
    batch_norm_of_episode: ClassVar[bool] = False

    def __init__(self, backbone: str, params: dict[str, Any], n_way: int) -> None:
        self.backbone = backbone
        self.params = params
        self.n_way = n_way

    def build(self, width: int) -> None:
        """Make what the algorithm needs beside `self.features`."""

    @property
    def module(self) -> nn.Module:
        """All that is trained."""
        return self.features

    @abstractmethod
    def solve(self, X: Tensor, y: Tensor, n_way: int) -> Predictor:
        """Logits of query rows, after the support rows."""

    def train(
        self, splits: dict[str, Split], budget: Budget, n_shot: int, seed: int
    ) -> Self:
        """Meta-train; the weights that validate best are kept."""
        torch.manual_seed(seed)
        X, y = splits["train"]
        self.features = build_backbone(
            self.backbone, tensor_of(X[:1]).shape[1:], params=self.params
        )
        self.build(self.features(tensor_of(X[:2])).shape[1])
        optimizer = torch.optim.Adam(self.module.parameters(), lr=budget.lr)
        per_epoch = min(BATCHES_PER_EPOCH, budget.n_batches)
        n_epochs = budget.n_batches // per_epoch
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs)
        size = {"n_way": budget.n_way, "n_shot": n_shot, "n_query": budget.n_query}
        sampler = EpisodeSampler(y, **size, random_state=seed)
        self.history_: list[dict[str, float]] = []
        best = copy.deepcopy(self.module.state_dict())
        for _ in range(n_epochs):
            self.module.train()
            for _ in range(per_epoch):
                optimizer.zero_grad()
                for _ in range(budget.tasks_per_batch):
                    loss = self.loss(X, sampler.sample())
                    (loss / budget.tasks_per_batch).backward()
                optimizer.step()
            schedule.step()
            score = self.validate(splits["val"], size)
            if score > max([row["valid_accuracy"] for row in self.history_], default=0):
                best = copy.deepcopy(self.module.state_dict())
            self.history_.append({"valid_accuracy": score})
        self.module.load_state_dict(best)
        return self

    def loss(self, X: np.ndarray, episode: Any) -> Tensor:
        """Cross-entropy of the query rows."""
        support = tensor_of(X[episode.support])
        targets = torch.as_tensor(episode.support_targets)
        logits = self.solve(support, targets, episode.n_way)
        return nn.functional.cross_entropy(
            logits(tensor_of(X[episode.query])), torch.as_tensor(episode.query_targets)
        )

    def validate(self, split: Split, size: dict[str, int]) -> float:
        """Accuracy on episodes that are the same in every epoch."""
        X, y = split
        sampler = EpisodeSampler(y, **size, random_state=0)
        scores = []
        for _ in range(VALIDATION_EPISODES):
            e = sampler.sample()
            adapted = self.adapt(X[e.support], y[e.support])
            scores.append(np.mean(adapted.predict(X[e.query]) == y[e.query]))
        return float(np.mean(scores))

    def adapt(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Solve a task from its support rows."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.module.train(self.batch_norm_of_episode)
        with torch.set_grad_enabled(self.batch_norm_of_episode):
            self.predictor_ = self.solve(
                tensor_of(X), torch.as_tensor(codes), len(self.classes_)
            )
        return self

    # evaluate_few_shot asks for it.
    fit = adapt

    @torch.no_grad()
    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels of rows."""
        return self.classes_[self.predictor_(tensor_of(X)).argmax(1).numpy()]


class Prototypes(Learn2Learn):
    """l2l.nn.PrototypicalClassifier."""

    def solve(self, X: Tensor, y: Tensor, n_way: int) -> Predictor:
        head = l2l.nn.PrototypicalClassifier(support=self.features(X), labels=y)
        return lambda rows: head(self.features(rows))


class Margins(Learn2Learn):
    """l2l.nn.SVClassifier, MetaOptNet by qpth, with its learned scale."""

    def build(self, width: int) -> None:
        self.all = nn.ModuleDict({"features": self.features})
        self.all.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))

    @property
    def module(self) -> nn.Module:
        return self.all

    def solve(self, X: Tensor, y: Tensor, n_way: int) -> Predictor:
        head = l2l.nn.SVClassifier(self.features(X), y, ways=n_way)
        return lambda rows: self.all.scale * head(self.features(rows))


class GradientSteps(Learn2Learn):
    """l2l.algorithms.MAML of all layers, second order, statistics of the episode."""

    batch_norm_of_episode = True

    def build(self, width: int) -> None:
        network = nn.Sequential(self.features, nn.Linear(width, self.n_way))
        self.maml = l2l.algorithms.MAML(network, lr=INNER_LR)

    @property
    def module(self) -> nn.Module:
        return self.maml

    def solve(self, X: Tensor, y: Tensor, n_way: int) -> Predictor:
        task = self.maml.clone()
        for _ in range(INNER_STEPS):
            task.adapt(nn.functional.cross_entropy(task(X), y))
        return task


class HeadSteps(Learn2Learn):
    """l2l.algorithms.MAML of the head alone: ANIL."""

    batch_norm_of_episode = True

    def build(self, width: int) -> None:
        self.maml = l2l.algorithms.MAML(nn.Linear(width, self.n_way), lr=INNER_LR)
        self.all = nn.ModuleList([self.features, self.maml])

    @property
    def module(self) -> nn.Module:
        return self.all

    def solve(self, X: Tensor, y: Tensor, n_way: int) -> Predictor:
        task, features = self.maml.clone(), self.features(X)
        for _ in range(INNER_STEPS):
            task.adapt(nn.functional.cross_entropy(task(features), y))
        return lambda rows: task(self.features(rows))


ALGORITHMS: dict[str, type[Learn2Learn]] = {
    "learn2learn ProtoNet": Prototypes,
    "learn2learn MetaOptNet": Margins,
    "learn2learn MAML": GradientSteps,
    "learn2learn ANIL": HeadSteps,
}
TRAINED = () if l2l is None else tuple(ALGORITHMS)
# Gradient steps, on tasks of the size that they are trained on.
OF_FIXED_SIZE = ("learn2learn MAML", "learn2learn ANIL")


class EasyFSL(ClassifierMixin, BaseEstimator):
    """A method of easyfsl on features."""

    def __init__(self, method: str) -> None:
        self.method = method

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Take the support features."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.method_ = getattr(easyfsl, self.method)(backbone=nn.Identity())
        rows = torch.as_tensor(X, dtype=torch.float32)
        self.method_.process_support_set(rows, torch.as_tensor(codes))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels of rows; transductive methods look at all of them."""
        scores = self.method_(torch.as_tensor(X, dtype=torch.float32))
        return self.classes_[scores.detach().argmax(1).numpy()]


ON_FEATURES: dict[str, EasyFSL] = {}
if easyfsl is not None:
    ON_FEATURES = {
        "easyfsl SimpleShot": EasyFSL("SimpleShot"),
        "easyfsl Finetune": EasyFSL("Finetune"),
        "easyfsl BD-CSPN (transductive)": EasyFSL("BDCSPN"),
    }


def tensor_of(images: np.ndarray) -> Tensor:
    """Bytes as numbers in [0, 1], channels first."""
    numbers = torch.as_tensor(images, dtype=torch.float32) / 255
    return numbers.movedim(-1, 1) if numbers.ndim == 4 else numbers[:, None]
