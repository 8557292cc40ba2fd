"""What the gradient-based classifier and regressor share."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones import n_features_out
from ...exceptions import DivergenceError, InvalidInputError, NotFittedError
from ...training import EpisodeHook, EpisodeTensors, HookedFeatures, RowReader
from ...utils import read_rows
from .._checks import check_finite_rows
from .._episode_plan import EpisodePlan
from .._task_chunks import TASKS_AT_ONCE, chunk_of, in_task_chunks, task_cost
from ._module import LAYERS, AdaptedModule
from ._net import GradientNet
from ._rules import UPDATES, build_rule
from ._update_rule import UpdateRule

# Rows, and values, that the standardisation of the input is computed from, at most.
_MOST_ROWS = 10_000
_MOST_VALUES = 2**25


class GradientLearnerMixin:
    """Inner loop, update rule and outer step as parameters of a learner."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "update": [StrOptions(set(UPDATES)), UpdateRule],
        "update_params": [dict, None],
        "inner_steps": [Interval(Integral, 1, None, closed="left")],
        "inner_lr": [Interval(Real, 0, None, closed="neither")],
        "learn_inner_lr": ["boolean"],
        "adapt_steps": [Interval(Integral, 0, None, closed="left"), None],
        "first_order": ["boolean"],
        "adapt_layers": [StrOptions(set(LAYERS))],
        "linear_layers": [Interval(Integral, 0, None, closed="left")],
        "outer": [StrOptions({"gradient", "reptile"})],
        "multi_step_epochs": [Interval(Integral, 0, None, closed="left")],
        "task_chunk_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "checkpoint": ["boolean"],
        "fit_head": ["boolean"],
    }
    _of_a_task: ClassVar[tuple[str, ...]] = ("head_", "adapted_", "task_code_")

    net_: GradientNet
    reader_: RowReader
    update: Any
    update_params: Any
    inner_steps: int
    inner_lr: float
    learn_inner_lr: bool
    adapt_steps: int | None
    first_order: bool
    adapt_layers: str
    linear_layers: int
    outer: str
    multi_step_epochs: int
    task_chunk_size: int | str
    checkpoint: bool
    precision: str
    compile: Any
    batch_norm: str
    hook: EpisodeHook | None
    backbone: Any
    freeze_backbone: bool

    # -- learning ----------------------------------------------------------------------

    def _new_rule(self) -> UpdateRule:
        """The update rule, refused where its parameters do not go together."""
        params = dict(self.update_params or {})
        if self.learn_inner_lr:
            if self.update != "sgd":
                raise InvalidInputError(
                    "learn_inner_lr=True needs update='sgd'; the other rules learn "
                    f"what scales a gradient themselves. Got update={self.update!r}."
                )
            params["learn_lr"] = True
        return build_rule(self.update, params)

    def _check_together(self, rule: UpdateRule, module: AdaptedModule) -> None:
        if self.outer == "reptile":
            if self.hook is not None:
                raise InvalidInputError(
                    "outer='reptile' follows no query loss, which a hook needs. Got "
                    f"hook={type(self.hook).__name__}; use outer='gradient' or "
                    "hook=None."
                )
            learned = next(rule.parameters(), None) is not None
            if learned or self.adapt_layers != "all":
                raise InvalidInputError(
                    "outer='reptile' moves the adapted parameters only: it needs "
                    "adapt_layers='all' and an update rule without learned parts. Got "
                    f"adapt_layers={self.adapt_layers!r} and update={self.update!r}; "
                    "change them or use outer='gradient'."
                )
            if self.multi_step_epochs:
                raise InvalidInputError(
                    "outer='reptile' follows no query loss, so it has no "
                    f"multi_step_epochs. Got {self.multi_step_epochs}; use 0 or "
                    "outer='gradient'."
                )
        asked = {"compile": self.compile, "precision": self.precision}
        if not module.features_are_fixed and (
            self.compile is not False or self.precision == "float16"
        ):
            raise InvalidInputError(
                "compile and precision='float16' need adapt_layers='head': inner steps "
                "through the backbone differentiate it twice, with small gradients. "
                f"Got {asked} with adapt_layers={self.adapt_layers!r}; use "
                "precision='bfloat16' and compile=False, or adapt the head."
            )
        if self.checkpoint and rule.start():
            raise InvalidInputError(
                "checkpoint=True cannot be used with a rule that adapts parts of its "
                f"own. Got update={self.update!r} with update_params="
                f"{self.update_params!r}; use checkpoint=False."
            )

    def _make_net(
        self,
        backbone: nn.Module,
        reader: RowReader,
        plan: EpisodePlan,
        arguments: dict[str, Any],
        hooked: HookedFeatures,
    ) -> GradientNet:
        rule = self._new_rule()
        width = n_features_out(backbone, reader.sample_shape)
        module = AdaptedModule(
            backbone,
            hooked.width(width),
            plan.n_way or 1,
            rule,
            self.inner_steps,
            float(self.inner_lr),
            linear_layers=self.linear_layers,
            adapt_layers=self.adapt_layers,
            hooked=hooked,
        )
        self._check_together(rule, module)
        criterion = nn.CrossEntropyLoss if plan.n_way else nn.MSELoss
        return GradientNet(
            module,
            n_steps=self.inner_steps,
            first_order=self.first_order,
            outer=self.outer,
            multi_step_epochs=self.multi_step_epochs,
            task_chunk_size=self.task_chunk_size,
            recompute=self.checkpoint,
            batch_norm=self.batch_norm,
            **{"criterion": criterion, **arguments},
        )

    def _prepare_backbone(
        self, backbone: nn.Module, X: NDArray[Any], reader: RowReader
    ) -> None:
        """Fix the statistics of layers that standardise the input."""
        layers = [
            layer
            for layer in backbone.modules()
            if isinstance(layer, _BatchNorm) and not layer.affine
        ]
        ready = self.freeze_backbone and isinstance(self.backbone, nn.Module)
        if not layers or ready or self.batch_norm != "running":
            return
        most = min(_MOST_ROWS, max(1, _MOST_VALUES // X[0].size))
        index = np.linspace(0, len(X) - 1, min(len(X), most)).astype(np.intp)
        rows = reader(read_rows(X, index))
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

    # -- tasks -------------------------------------------------------------------------

    @property
    def _n_steps(self) -> int:
        return self.inner_steps if self.adapt_steps is None else self.adapt_steps

    def _adapt_net(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Run the inner loop from what `fit` learned."""
        support, wanted = self.reader_(rows), self._as_targets(targets)
        adapted, code = self.net_.adapted(support, wanted, self._n_steps)
        if not all(torch.isfinite(value).all() for value in adapted.values()):
            raise DivergenceError(
                "The inner loop must stay finite. Got infinite or undefined "
                f"parameters after {self._n_steps} steps on {len(rows)} rows; lower "
                "adapt_steps, fit with a lower inner_lr, or scale the rows."
            )
        self.adapted_ = adapted
        self.task_code_ = code
        self.__dict__.pop("head_", None)

    def _as_targets(self, targets: NDArray[Any]) -> Tensor:
        return torch.as_tensor(targets, device=self.reader_.device)

    def _adapted_scores(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Scores (n, n_outputs) of checked rows for the task last adapted to."""

        def scores(X: NDArray[Any]) -> NDArray[Any]:
            found = self.net_.scores(self.adapted_, self.reader_(X), self.task_code_)
            return found.double().cpu().numpy()

        scored: NDArray[Any] = self._in_passes(scores, rows)  # type: ignore[attr-defined]
        check_finite_rows(scored, "scores")
        return scored

    def _check_has_task(self) -> None:
        if not hasattr(self, "head_") and not hasattr(self, "adapted_"):
            raise NotFittedError(
                f"This {type(self).__name__} knows no task: it was fitted with "
                "fit_head=False. Call 'adapt' with the support rows of a task first."
            )

    def _scores_by_step(
        self,
        support: NDArray[Any],
        targets: NDArray[Any],
        query: NDArray[Any],
        ways: NDArray[Any],
        staged: bool,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Query scores (n_points, n_tasks, n_query, n_outputs).

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
            rows = [self._task_rows(chunk_of(X, part)) for X in (support, query)]
            scores = self._chunk_scores(rows, targets[part], ways[part], staged)
            _refuse_infinite(scores, self._n_steps, part.start)
            return scores.swapaxes(0, 1)

        size = self._tasks_within(support, query, staged, max_memory)
        return in_task_chunks(solve, len(support), size).swapaxes(0, 1)

    def _tasks_within(
        self, support: Any, query: Any, staged: bool, max_memory: int | None
    ) -> int:
        """Tasks of a chunk of `predict_episodes`."""
        if max_memory is None:
            return min(TASKS_AT_ONCE, len(support))
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

    def _chunk_scores(
        self,
        rows: list[NDArray[Any]],
        targets: NDArray[Any],
        ways: NDArray[Any],
        staged: bool,
    ) -> NDArray[Any]:
        """Scores of `_scores_by_step` for tasks that are in memory."""
        net = self.net_
        n_outputs = net.module_.output[-1].out_features
        n_points = self._n_steps + 1 if staged else 1
        found = np.empty((n_points, *rows[1].shape[:2], n_outputs))
        for way in np.unique(ways):
            positions = np.flatnonzero(ways == way)
            tasks = [
                EpisodeTensors(
                    self.reader_(rows[0][k]),
                    self.reader_(rows[1][k]),
                    self._as_targets(targets[k]),
                    self._as_targets(targets[k][:0]),
                    int(way),
                )
                for k in positions
            ]
            begin = 0
            for chunk in net.chunks(tasks):
                part = positions[begin : begin + len(chunk)]
                steps = net.query_scores(chunk, self._n_steps, staged=staged)
                found[:, part] = torch.stack(steps).double().cpu().numpy()
                begin += len(chunk)
        return found

    def _task_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        """Checked rows (n_tasks, n, ...)."""
        rows = self._check_rows(X.reshape(-1, *X.shape[2:]))  # type: ignore[attr-defined]
        self.reader_.check(rows)
        return rows.reshape(X.shape)


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
