"""Adapted tasks, and the part that gradient-based learners share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones import PreparedBackbone, is_frozen, n_features_out
from ...exceptions import DivergenceError, InvalidInputError
from ...training import (
    EpisodeTensors,
    HookedFeatures,
    RowReader,
    Training,
    TrainingSettings,
    in_passes,
    refuse_infinite_rows,
)
from ...utils import read_rows
from .._checks import check_task_rows
from .._episode_plan import EpisodePlan
from .._row_weights import refuse_weights
from .._solved_task import SolvedTask
from .._synergies import HeadTask
from .._task_batches import (
    by_way,
    chunk_of,
    in_task_chunks,
    task_cost,
    tasks_at_once,
)
from ._module import LAYERS, AdaptedModule
from ._net import GradientNet
from ._rules import UPDATES, build_rule
from ._update_rule import Named, UpdateRule

# Keywords of the net, as net_params gives them.
_KEYWORDS: dict[str, list[Any]] = {
    "linear_layers": [Interval(Integral, 0, None, closed="left")],
    "outer": [StrOptions({"gradient", "reptile"})],
    "multi_step_epochs": [Interval(Integral, 0, None, closed="left")],
    "task_chunk_size": [
        StrOptions({"auto"}),
        Interval(Integral, 1, None, closed="left"),
    ],
    "recompute": ["boolean"],
    "accelerate": ["boolean"],
}
# Rows, and values, that the standardisation of the input is computed from, at most.
_MOST_ROWS = 10_000
_MOST_VALUES = 2**25


@dataclass(frozen=True, eq=False, kw_only=True)
class NetTask(SolvedTask):
    """A task that the network answers for, with parameters of the task.

    Attributes
    ----------
    code : Tensor of shape (1, n_code) or None
        Code that the hook gives the task; None without a hook.
    center, scale : float
        Units of the targets in regression.
    """

    code: Tensor | None = None
    center: float = 0.0
    scale: float = 1.0

    @abstractmethod
    def parameters_in(self, learner: Any) -> Named:
        """Return the parameters of the task, by their names in the module."""

    def scores(self, learner: Any, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of the classes (n, n_classes), or targets (n,)."""
        parameters = self.parameters_in(learner)

        def scores(X: NDArray[Any]) -> NDArray[Any]:
            tensor = learner.reader_(X)
            found = learner.net_.scores(parameters, tensor, self.code)
            return found.double().cpu().numpy()

        whole = learner.batch_norm == "episode"
        found = scores(rows) if whole else in_passes(scores, rows)
        refuse_infinite_rows(found, "scores")
        if self.classes is not None:
            return found[:, : len(self.classes)]
        return self.center + self.scale * found[:, 0]


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptedTask(NetTask):
    """A task that the network has adapted to by gradient steps.

    Attributes
    ----------
    parameters : dict of str to Tensor
        Adapted parameters, by their names in the module.
    """

    parameters: Named

    def parameters_in(self, learner: Any) -> Named:
        """Return the adapted parameters."""
        return self.parameters


@dataclass(frozen=True, eq=False, kw_only=True)
class StartTask(NetTask):
    """A task without labels, answered by what the training tasks share: the start."""

    def parameters_in(self, learner: Any) -> Named:
        """Return the parameters where adaptation starts."""
        found: Named = learner.net_.module_.start()
        return found


class GradientLearnerMixin:
    """Inner loop, update rule and outer step as parameters of a learner."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "update": [StrOptions(set(UPDATES)), UpdateRule],
        "inner_steps": [Interval(Integral, 1, None, closed="left")],
        "inner_lr": [Interval(Real, 0, None, closed="neither")],
        "adapt_steps": [Interval(Integral, 0, None, closed="left"), None],
        "first_order": ["boolean"],
        "adapt_layers": [StrOptions(set(LAYERS))],
    }
    _net_keywords: ClassVar[tuple[str, dict[str, list[Any]]]] = (
        "GradientNet",
        _KEYWORDS,
    )

    net_: GradientNet
    reader_: RowReader
    task_: SolvedTask | None
    update: Any
    inner_steps: int
    inner_lr: float
    adapt_steps: int | None
    first_order: bool
    adapt_layers: str
    backbone: Any
    batch_norm: str
    net_params: Any
    _features: Callable[[NDArray[Any]], NDArray[Any]]

    # -- learning ----------------------------------------------------------------------

    def _make_net(
        self,
        backbone: nn.Module,
        hooked: HookedFeatures,
        reader: RowReader,
        rows: NDArray[Any],
        plan: EpisodePlan,
        keywords: dict[str, Any],
    ) -> GradientNet:
        linear_layers = keywords.pop("linear_layers", 0)
        rule = build_rule(self.update)
        is_ready = isinstance(self.backbone, nn.Module) and is_frozen(backbone)
        if self.batch_norm == "running" and not is_ready:
            fix_input_statistics(backbone, rows, reader)
        width = n_features_out(backbone, reader.sample_shape)
        module = AdaptedModule(
            backbone,
            hooked.width(width),
            plan.n_way or 1,
            rule,
            self.inner_steps,
            float(self.inner_lr),
            linear_layers=linear_layers,
            adapt_layers=self.adapt_layers,
            hooked=hooked,
        )
        settings = Training.of(self.net_params)
        _check_outer(keywords, rule, self.adapt_layers, hooked)
        _check_backward(keywords, rule, module, settings, self.adapt_layers)
        criterion = nn.CrossEntropyLoss if plan.n_way else nn.MSELoss
        return GradientNet(
            module,
            n_steps=self.inner_steps,
            first_order=self.first_order,
            **{"criterion": criterion, **keywords},
        )

    # -- tasks -------------------------------------------------------------------------

    @property
    def _n_steps(self) -> int:
        return self.inner_steps if self.adapt_steps is None else self.adapt_steps

    def _solve_weighted(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        weights: NDArray[Any],
    ) -> AdaptedTask:
        refuse_weights(
            self,
            "in adapt, whose inner steps follow the mean loss of the rows",
            "repeat rows instead",
        )

    @torch.inference_mode(mode=False)  # the caller's, in which no gradient is
    def _adapted(
        self, rows: NDArray[Any], targets: NDArray[Any], n_way: int
    ) -> tuple[Named, Tensor | None]:
        """Run the inner loop from what `fit` learned; return parameters and code."""
        support = self.reader_(rows)
        wanted = torch.as_tensor(targets, device=self.reader_.device)
        adapted, code = self.net_.adapted(support, wanted, self._n_steps, n_way)
        for value in adapted.values():
            if not torch.isfinite(value).all():
                raise DivergenceError(
                    "The inner loop must stay finite. Got infinite or undefined "
                    f"parameters after {self._n_steps} steps on {len(rows)} rows; "
                    "lower adapt_steps, fit with a lower inner_lr, or scale the rows."
                )
        return adapted, code

    def _start_code(
        self, rows: NDArray[Any], targets: NDArray[Any], n_way: int
    ) -> Tensor | None:
        """Return the code of a task without labels: that of all tasks in one.

        Parameters
        ----------
        rows : ndarray of shape (n, ...)
            Rows of all training tasks.
        targets : ndarray of shape (n,)
            Numbers of their labels, or their real targets.
        n_way : int
            Number of labels, 0 in regression.
        """
        hooked = self.net_.module_.hooked
        if not hooked.is_active:
            return None
        index = _spread_rows(rows)
        features = self._features(read_rows(rows, index))
        code = hooked.codes_of(features[None], targets[index][None], n_way)
        return torch.as_tensor(code, dtype=torch.float32, device=self.reader_.device)

    @property
    def adapted_(self) -> Named:
        """Parameters adapted to the task in use."""
        return self._adapted_task().parameters

    @property
    def task_code_(self) -> Tensor | None:
        """Code that the hook gives the task in use; None without a hook."""
        task = self.task_
        return task.code if isinstance(task, StartTask) else self._adapted_task().code

    @property
    def head_(self) -> Any:
        """The ridge head that answers after `fit`, before a task is adapted to."""
        if not isinstance(self.task_, HeadTask):
            raise AttributeError("There is no head: the learner answers for a task.")
        return self.task_.head

    def _task_without_labels(self) -> SolvedTask | None:
        """Return the task after `fit`, where that is what all tasks share."""
        return self.task_ if isinstance(self.task_, StartTask) else None

    def _adapted_task(self) -> AdaptedTask:
        if not isinstance(self.task_, AdaptedTask):
            raise AttributeError("There are no adapted parameters before 'adapt'.")
        return self.task_

    def _scores_by_step(
        self,
        support: NDArray[Any],
        targets: NDArray[Any],
        query: NDArray[Any],
        ways: NDArray[Any],
        staged: bool,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Return the query scores (n_points, n_tasks, n_query, n_outputs).

        Parameters
        ----------
        support, query : ndarray of shape (n_tasks, n, ...)
            Rows of the tasks.
        targets : ndarray of shape (n_tasks, n_support)
            Class numbers or real targets.
        ways : ndarray of shape (n_tasks,)
            Classes of every task, 0 in regression.
        staged : bool
            Score before the first and after every step, not after the last alone.
        max_memory : int, default=None
            Bytes that the work may take.
        """

        def solve(part: slice) -> NDArray[Any]:
            rows = [check_task_rows(self, chunk_of(X, part)) for X in (support, query)]
            scores = self._chunk_scores(rows, targets[part], ways[part], staged)
            _refuse_infinite(scores, self._n_steps, part.start)
            return scores.swapaxes(0, 1)

        size = self._tasks_within(support, query, staged, max_memory)
        return in_task_chunks(solve, len(support), size).swapaxes(0, 1)

    def _tasks_within(
        self, support: Any, query: Any, staged: bool, max_memory: int | None
    ) -> int:
        """Count the tasks of a chunk of `predict_episodes`."""
        if max_memory is None:
            return tasks_at_once(support, query)
        module = self.net_.module_
        cost = task_cost(
            module.backbone,
            self.reader_.sample_shape,
            support,
            query,
            module.output[-1].in_features,
            module.output[-1].out_features,
            adapted=sum(tensor.numel() for tensor in module.start().values()),
            n_points=self._n_steps + 1 if staged else 1,
        )
        return cost.tasks_within(max_memory, len(support))

    @torch.inference_mode(mode=False)
    def _chunk_scores(
        self,
        rows: list[NDArray[Any]],
        targets: NDArray[Any],
        ways: NDArray[Any],
        staged: bool,
    ) -> NDArray[Any]:
        """Return the scores of `_scores_by_step` for tasks that are in memory."""
        net = self.net_
        wanted = torch.as_tensor(targets, device=self.reader_.device)
        n_outputs = net.module_.output[-1].out_features
        n_points = self._n_steps + 1 if staged else 1
        found = np.empty((n_points, *rows[1].shape[:2], n_outputs))
        for positions in by_way(ways, size=len(ways)):
            for part in net.parts(len(positions)):
                some = positions[part]
                tasks = [
                    EpisodeTensors(
                        self.reader_(rows[0][k]),
                        self.reader_(rows[1][k]),
                        wanted[k],
                        wanted[k][:0],
                        int(ways[k]),
                    )
                    for k in some
                ]
                steps = net.query_scores(tasks, self._n_steps, staged=staged)
                found[:, some] = torch.stack(steps).double().cpu().numpy()
        return found


def _refuse_infinite(scores: NDArray[Any], n_steps: int, first: int) -> None:
    """Refuse scores (n_points, n_tasks, ...) of tasks that diverged."""
    lost = np.flatnonzero(~np.isfinite(scores).all(axis=(0, 2, 3)))
    if len(lost):
        raise DivergenceError(
            "The inner loop of every task must stay finite. Got infinite or undefined "
            f"scores for {len(lost)} of {scores.shape[1]} tasks (first: task "
            f"{first + lost[0]}) within {n_steps} steps; lower adapt_steps, fit with a "
            "lower inner_lr, or scale the rows."
        )


def fix_input_statistics(
    backbone: nn.Module, X: NDArray[Any], reader: RowReader
) -> None:
    """Fix the statistics of layers that standardise the input to those of the rows."""
    if isinstance(backbone, PreparedBackbone):
        backbone = backbone.backbone
    layers = [
        layer
        for layer in backbone.modules()
        if isinstance(layer, _BatchNorm) and not layer.affine
    ]
    if not layers:
        return
    rows = reader(read_rows(X, _spread_rows(X)))
    backbone.to(rows.device).eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # a plain average, here of one batch
    with torch.no_grad():
        backbone(rows)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.eval()
        layer.momentum = momentum


def _spread_rows(X: NDArray[Any]) -> NDArray[np.intp]:
    """Return the numbers of rows spread over all of them, of a bounded size."""
    most = min(_MOST_ROWS, max(1, _MOST_VALUES // X[0].size))
    return np.linspace(0, len(X) - 1, min(len(X), most)).astype(np.intp)


def _check_outer(
    keywords: dict[str, Any],
    rule: UpdateRule,
    adapt_layers: str,
    hooked: HookedFeatures,
) -> None:
    """Refuse an outer step that follows no query loss where one is needed."""
    if keywords.get("outer") != "reptile":
        return
    hooked.refuse("outer='reptile' follows no query loss", "use outer='gradient'")
    learned = next(rule.parameters(), None) is not None
    if learned or adapt_layers != "all":
        raise InvalidInputError(
            "outer='reptile' moves the adapted parameters only: it needs "
            "adapt_layers='all' and an update rule without learned parts. Got "
            f"adapt_layers={adapt_layers!r} and update={type(rule).__name__}; change "
            "them or use outer='gradient'."
        )
    if keywords.get("multi_step_epochs"):
        raise InvalidInputError(
            "outer='reptile' follows no query loss, so it has no multi_step_epochs. "
            f"Got {keywords['multi_step_epochs']}; use 0 or outer='gradient'."
        )


def _check_backward(
    keywords: dict[str, Any],
    rule: UpdateRule,
    module: AdaptedModule,
    settings: TrainingSettings,
    adapt_layers: str,
) -> None:
    """Refuse what cannot be differentiated twice, or computed again."""
    asked = {"compile": settings.compile, "precision": settings.precision}
    twice = not module.features_are_fixed
    if twice and (asked["compile"] is not False or asked["precision"] == "float16"):
        raise InvalidInputError(
            "compile and precision='float16' need adapt_layers='head': inner steps "
            "through the backbone differentiate it twice, with small gradients. "
            f"Got {asked} with adapt_layers={adapt_layers!r}; use "
            "precision='bfloat16' and compile=False, or adapt the head."
        )
    if keywords.get("recompute") and rule.start():
        raise InvalidInputError(
            "recompute=True cannot be used with a rule that adapts parts of its own. "
            f"Got update={type(rule).__name__}; use recompute=False."
        )
