"""The contenders of the MAML speed benchmark, on one set of tasks."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skcausalmeta.backbones import Conv4Module, MLPModule
from skcausalmeta.learners import SGDUpdate
from skcausalmeta.learners._maml._module import AdaptedModule
from skcausalmeta.learners._maml._net import GradientNet
from skcausalmeta.training._stream import EpisodeTensors, MetaBatch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import learn2learn as l2l
    except Exception as error:  # its optional parts fail in many ways
        l2l, _WHY_L2L = None, f"{type(error).__name__}: {error}"[:80]
    try:
        import higher
    except ImportError as error:
        higher, _WHY_HIGHER = None, str(error)[:80]

STEPS, LR, WAYS = 5, 0.1, 5


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

    def our_backbone(self) -> Conv4 | MLP:
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
    backbone = case.our_backbone()
    module = AdaptedModule(
        backbone, backbone.out_features, case.n_outputs, SGDUpdate(), STEPS, case.lr
    )
    criterion = nn.CrossEntropyLoss if case.kind == "conv" else nn.MSELoss
    net = GradientNet(
        module,
        n_steps=STEPS,
        first_order=case.first_order,
        batch_norm="episode",
        criterion=criterion,
        train_split=None,
        verbose=0,
    ).initialize()
    net.history.new_epoch()
    net.history.new_batch()
    batch = MetaBatch(case.tasks())

    def run() -> None:
        net.optimizer_.zero_grad()
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


CONTENDERS: dict[str, Callable[[Case], Callable[[], Any]]] = {
    "ours": ours,
    "learn2learn": lambda case: with_learn2learn(case, case.usual_network()),
    "learn2learn, our net": lambda case: with_learn2learn(case, case.our_network()),
    "higher": with_higher,
    "loop": plain_loop,
}


def missing() -> dict[str, str]:
    """Contenders that cannot run here, and why."""
    found = {}
    if l2l is None:
        found |= dict.fromkeys(("learn2learn", "learn2learn, our net"), _WHY_L2L)
    if higher is None:
        found["higher"] = _WHY_HIGHER
    return found


def outer_gradient(name: str, case: Case) -> Callable[[], Any]:
    """A call that leaves the outer gradient in the parameters of its network."""
    return CONTENDERS[name](case)


def race(names: Sequence[str], case: Case, repeats: int) -> dict[str, float]:
    """Median seconds of a call, contenders interleaved after a warm-up."""
    runs = {name: outer_gradient(name, case) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for lap in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if lap:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
