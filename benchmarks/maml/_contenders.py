"""The contenders of the MAML speed benchmark, on one set of tasks.

Run as a module it measures the memory of the request in its only argument.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks._harness import find_peer, peak, reset_peak
from skcausalmeta.backbones import Conv4Module, MLPModule
from skcausalmeta.learners import MAMLClassifier, MAMLRegressor
from skcausalmeta.training import EpisodeTensors, MetaBatch

PEERS = [find_peer(name, name) for name in ("learn2learn", "higher")]
l2l, higher = (peer.module for peer in PEERS)

STEPS, LR, WAYS = 5, 0.1, 5
# What is timed is the step of the fitted net; fitting itself is as short as can be.
SHORTEST_FIT: dict[str, Any] = {
    "n_shot": 1,
    "n_query": 1,
    "tasks_per_batch": 1,
    "batches_per_epoch": 1,
    "max_epochs": 1,
    "fit_head": False,
    "verbose": 0,
    "random_state": 0,
}


class Case(NamedTuple):
    """Network and episodes."""

    kind: str
    n_shot: int
    n_query: int
    n_tasks: int
    first_order: bool
    side: int = 28
    n_filters: int = 64

    @property
    def label(self) -> str:
        order = "first" if self.first_order else "second"
        return f"{self.kind} {self.n_shot}-shot, {order} order"

    def tasks(self) -> list[EpisodeTensors]:
        """Random rows; only their shapes matter here."""
        generator = torch.Generator().manual_seed(0)

        def draw(n: int) -> tuple[Tensor, Tensor]:
            if self.kind == "dense":
                x = torch.rand(n, 1, generator=generator) * 10 - 5
                return x, x[:, 0].sin()
            shape = (WAYS * n, 1, self.side, self.side)
            return torch.rand(shape, generator=generator), torch.arange(WAYS * n) % WAYS

        tasks = []
        for _ in range(self.n_tasks):
            support, given = draw(self.n_shot)
            query, asked = draw(self.n_query)
            n_way = WAYS if self.kind == "conv" else 0
            tasks.append(EpisodeTensors(support, query, given, asked, n_way))
        return tasks

    @property
    def lr(self) -> float:
        return LR if self.kind == "conv" else 0.01

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        if self.kind == "conv":
            return nn.functional.cross_entropy(scores, targets)
        return nn.functional.mse_loss(scores[:, 0], targets)

    def our_backbone(self) -> Conv4Module | MLPModule:
        torch.manual_seed(0)
        if self.kind == "conv":
            return Conv4Module(1, self.side, n_filters=self.n_filters)
        return MLPModule(1, (40,), 40, standardize=False)

    def our_network(self) -> nn.Module:
        backbone = self.our_backbone()
        layers = [backbone, nn.Linear(backbone.out_features, self.n_outputs)]
        return nn.Sequential(*layers)

    @property
    def n_outputs(self) -> int:
        return WAYS if self.kind == "conv" else 1

    def usual_network(self) -> nn.Module:
        """Convolution, batch norm, ReLU, pooling; or linear layers and ReLU."""
        torch.manual_seed(0)
        if self.kind == "dense":
            return nn.Sequential(
                nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.Linear(40, 1)
            )
        layers: list[nn.Module] = []
        channels, side = 1, self.side
        for _ in range(4):
            layers += [
                nn.Conv2d(channels, self.n_filters, 3, padding=1),
                nn.BatchNorm2d(self.n_filters, track_running_stats=False),
                nn.ReLU(),
            ]
            if side >= 2:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            channels = self.n_filters
        out = nn.Linear(self.n_filters * side**2, WAYS)
        return nn.Sequential(*layers, nn.Flatten(), out)


def ours(case: Case) -> Callable[[], Any]:
    params: dict[str, Any] = {
        "backbone": case.our_backbone(),
        "inner_steps": STEPS,
        "inner_lr": case.lr,
        "first_order": case.first_order,
        "batch_norm": "episode",
        **SHORTEST_FIT,
    }
    tasks = case.tasks()
    rows, targets = tasks[0].query.numpy(), tasks[0].query_targets.numpy()
    if case.kind == "conv":
        rows, targets = np.concatenate([rows, rows]), np.concatenate([targets] * 2)
        learner: Any = MAMLClassifier(n_way=WAYS, **params).fit(rows, targets)
    else:
        ids = np.zeros(len(rows), int)
        learner = MAMLRegressor(**params).fit(rows, targets, tasks=ids)
    net, batch = learner.net_, MetaBatch(tasks)

    def run() -> None:
        net.module_.zero_grad()
        net.train_step_single(batch)

    return run


def with_learn2learn(case: Case, network: nn.Module) -> Callable[[], Any]:
    maml = l2l.algorithms.MAML(
        network, lr=case.lr, first_order=case.first_order, allow_unused=True
    )
    tasks = case.tasks()

    def run() -> None:
        maml.zero_grad()
        for task in tasks:
            learner = maml.clone()
            for _ in range(STEPS):
                learner.adapt(case.loss(learner(task.support), task.support_targets))
            loss = case.loss(learner(task.query), task.query_targets)
            (loss / len(tasks)).backward()

    return run


def with_higher(case: Case) -> Callable[[], Any]:
    network, tasks = case.usual_network(), case.tasks()
    inner = torch.optim.SGD(network.parameters(), lr=case.lr)

    def run() -> None:
        network.zero_grad()
        for task in tasks:
            with higher.innerloop_ctx(
                network,
                inner,
                copy_initial_weights=False,
                track_higher_grads=not case.first_order,
            ) as (model, optimizer):
                for _ in range(STEPS):
                    loss = case.loss(model(task.support), task.support_targets)
                    optimizer.step(loss)
                loss = case.loss(model(task.query), task.query_targets)
                if case.first_order:
                    found = torch.autograd.grad(loss, model.parameters())
                    for parameter, gradient in zip(
                        network.parameters(), found, strict=True
                    ):
                        old = parameter.grad
                        parameter.grad = gradient if old is None else old + gradient
                else:
                    (loss / len(tasks)).backward()

    return run


def plain_loop(case: Case) -> Callable[[], Any]:
    network, tasks = case.usual_network(), case.tasks()

    def run() -> None:
        network.zero_grad()
        for task in tasks:
            named = dict(network.named_parameters())
            for _ in range(STEPS):
                scores = functional_call(network, named, (task.support,))
                loss = case.loss(scores, task.support_targets)
                found = torch.autograd.grad(
                    loss, list(named.values()), create_graph=not case.first_order
                )
                named = {
                    name: value - case.lr * gradient
                    for (name, value), gradient in zip(
                        named.items(), found, strict=True
                    )
                }
            scores = functional_call(network, named, (task.query,))
            (case.loss(scores, task.query_targets) / len(tasks)).backward()

    return run


# Calls that leave the outer gradient in the parameters of a network.
CONTENDERS: dict[str, Callable[[Case], Callable[[], Any]]] = {
    "ours": ours,
    "learn2learn": lambda case: with_learn2learn(case, case.usual_network()),
    "learn2learn, our net": lambda case: with_learn2learn(case, case.our_network()),
    "higher": with_higher,
    "loop": plain_loop,
}


def left_out() -> list[str]:
    """Contenders whose package cannot be imported."""
    absent = [peer.name for peer in PEERS if peer.missing]
    return [name for name in CONTENDERS if name.split(",")[0] in absent]


def memory_of(request: dict[str, Any]) -> dict[str, Any]:
    """What a network and two batches add to the imports."""
    torch.set_num_threads(request["threads"])
    case = Case(**request["case"])
    before = reset_peak()
    run = CONTENDERS[request["name"]](case)
    run()
    run()
    return {"peak": peak() - before}


def race(names: Sequence[str], case: Case, repeats: int) -> dict[str, float]:
    """Median seconds of a call, contenders interleaved after a warm-up."""
    runs = {name: CONTENDERS[name](case) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for lap in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if lap:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    print(json.dumps(memory_of(json.loads(sys.argv[1]))))
