"""What the multi-task learners share: data, net, predictions."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import Tensor

from ...exceptions import InvalidInputError
from ...training import ReadRows, RowReader, TrainingCheckpoint
from ...utils import isolated_torch_rng, named_seeds, read_rows, stays_on_disk
from .._checks import check_scale
from .._training import OPTIMIZERS, best_weights, checkpoint_of, copied_callbacks, train
from ._adapt import NewTasksMixin
from ._experts import ConvExperts, MLPExperts
from ._graph_terms import correlations
from ._module_inputs import module_masks
from ._net import MultiTaskNet, RowStream
from ._new_task import ModuleFeatures
from ._predict import score_codes
from ._routing import RoutedExperts
from ._targets import TaskTargets, read_targets

_ROWS_FOR_FACTS = 2000
# Values that the standardisation of rows on disk is computed from, at most.
_MOST_VALUES = 2**25
_PIXELS_FOR_UNITS = 10_000
_TERMS = ("train_loss", "tasks", "decorrelation", "sparsity", "balance", "irm")
_WEIGHT = Interval(Real, 0, None, closed="left")
_COUNT = Interval(Integral, 1, None, closed="left")


class BaseMultiTask(
    NewTasksMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """Modules routed to tasks, trained by a skorch net that is held."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "modules": [StrOptions({"mtcrl", "mmoe", "shared", "single"})],
        "n_modules": [_COUNT],
        "expert": [StrOptions({"auto", "mlp", "conv"})],
        "hidden": [tuple, list],
        "out_features": [_COUNT],
        "head_hidden": [Interval(Integral, 0, None, closed="left")],
        "module_inputs": ["array-like", StrOptions({"each"}), None],
        "input_shape": [tuple, list, None],
        "task_types": ["array-like", str, None],
        "task_weights": ["array-like", StrOptions({"equal", "size"})],
        "uncertainty_weighting": ["boolean"],
        "lambda_dec": [_WEIGHT],
        "lambda_sps": [_WEIGHT],
        "lambda_bal": [_WEIGHT],
        "lambda_irm": [_WEIGHT],
        "irm_form": [StrOptions({"norm", "variance", "unbiased"})],
        "irm_scale": [StrOptions({"relative", "absolute"})],
        "warmup": [tuple, list],
        "env_folds": [_COUNT],
        "adapt_reg": [_WEIGHT],
        "batch_size": [_COUNT],
        "max_epochs": [_COUNT],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "routing_lr": [Interval(Real, 0, None, closed="neither"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_COUNT],
        "callbacks": [list, None],
        "checkpoint_path": [str, PathLike, None],
        "warm_start": ["boolean"],
        "net_params": [dict, None],
        "device": [str, torch.device],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        modules: str = "mtcrl",
        *,
        n_modules: int = 8,
        expert: str = "auto",
        hidden: Sequence[int] = (32,),
        out_features: int = 8,
        head_hidden: int = 0,
        module_inputs: ArrayLike | str | None = None,
        input_shape: tuple[int, ...] | None = None,
        task_types: Sequence[str] | str | None = None,
        task_weights: ArrayLike | str = "equal",
        uncertainty_weighting: bool = False,
        lambda_dec: float = 0.01,
        lambda_sps: float = 0.1,
        lambda_bal: float = 0.1,
        lambda_irm: float = 1.0,
        irm_form: str = "norm",
        irm_scale: str = "relative",
        warmup: tuple[float, float] = (0.2, 0.6),
        env_folds: int = 2,
        adapt_reg: float = 0.1,
        batch_size: int = 256,
        max_epochs: int = 40,
        optimizer: str | type = "adam",
        lr: float = 5e-3,
        routing_lr: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        callbacks: list[Any] | None = None,
        checkpoint_path: str | PathLike[str] | None = None,
        warm_start: bool = False,
        net_params: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.modules = modules
        self.n_modules = n_modules
        self.expert = expert
        self.hidden = hidden
        self.out_features = out_features
        self.head_hidden = head_hidden
        self.module_inputs = module_inputs
        self.input_shape = input_shape
        self.task_types = task_types
        self.task_weights = task_weights
        self.uncertainty_weighting = uncertainty_weighting
        self.lambda_dec = lambda_dec
        self.lambda_sps = lambda_sps
        self.lambda_bal = lambda_bal
        self.lambda_irm = lambda_irm
        self.irm_form = irm_form
        self.irm_scale = irm_scale
        self.warmup = warmup
        self.env_folds = env_folds
        self.adapt_reg = adapt_reg
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.routing_lr = routing_lr
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.checkpoint_path = checkpoint_path
        self.warm_start = warm_start
        self.net_params = net_params
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @property
    @abstractmethod
    def _default_type(self) -> str:
        """Type of the tasks without `task_types`."""

    # -- learning ----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        tasks: ArrayLike | None = None,
        envs: ArrayLike | None = None,
    ) -> BaseMultiTask:
        """Learn modules, routing and heads of all tasks together.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows: vectors, or images (height, width) or with channels first or last.
        y : array-like of shape (n_samples,), (n_samples, n_tasks) or \
(n_samples, n_tasks, height, width)
            One column per task, NaN (None among strings) where a label is missing;
            or one column with `tasks`; or targets per pixel.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row, with one label column.
        envs : array-like of shape (n_samples,), default=None
            Environment id of every row (time, site, user group...). None: random
            folds stand in for environments.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        ValueError
            For invalid rows, targets or parameters, before any training. A learner
            that was fitted before stays as it was.
        """
        self._check_y_given(y, "label")
        rows = self._check_rows(X)
        targets = read_targets(
            y,
            len(rows),
            self._check_ids(tasks, rows, "tasks"),
            self._default_type if self.task_types is None else self.task_types,
        )
        seeds = named_seeds(
            self.random_state, "weights", "order", "held-out", "folds", "training"
        )
        env_ids = self._check_ids(envs, rows, "envs")
        checkpoint = checkpoint_of(self, rows, targets.codes, env_ids)
        if checkpoint is not None:
            seeds = checkpoint.open(seeds)
        env_codes = self._env_codes(env_ids, len(rows), seeds["folds"])
        fitted = copy.copy(self)  # a failure leaves self as it was
        fitted.__dict__.pop("new_task_", None)
        validate_data(fitted, X, skip_check_array=True)
        fitted._learn(rows, targets, env_codes, seeds, checkpoint)
        self.__dict__ = fitted.__dict__
        return self

    def _learn(
        self,
        rows: NDArray[Any],
        targets: TaskTargets,
        envs: NDArray[Any],
        seeds: dict[str, int],
        checkpoint: TrainingCheckpoint | None,
    ) -> None:
        check_scale(rows)
        self.reader_ = RowReader(rows.shape[1:], self.input_shape, self.device)
        source = self._source(rows)
        held_out = self._held_out(len(rows), seeds["held-out"])
        with isolated_torch_rng(seeds["weights"]):
            module = self._build(self.reader_.sample_shape, targets)
        module.experts.set_statistics(source[self._statistics_rows(rows, ~held_out)])
        net = MultiTaskNet(
            module,
            kinds=[(task.kind, task.n_classes) for task in targets.tasks],
            task_weights=self._task_weights(targets),
            weights={
                "decorrelation": self.lambda_dec,
                "sparsity": self.lambda_sps,
                "balance": self.lambda_bal,
                "irm": self.lambda_irm,
            },
            irm_form=self.irm_form,
            irm_scale=self.irm_scale,
            warmup=self._warmup(),
            uncertainty=self.uncertainty_weighting,
            **self._net_arguments(bool(held_out.any())),
        )
        streams = self._streams(source, targets, envs, held_out, seeds["order"])
        with isolated_torch_rng(seeds["training"]):
            train(self, net, streams, checkpoint)
        self.net_, self.targets_ = net, targets
        self.history_ = _history_of(net)
        self.n_iter_ = len(self.history_)
        self._state_facts(rows, targets, held_out)

    def _source(self, rows: NDArray[Any]) -> Tensor | ReadRows:
        """Samples: in memory, unless the rows are on disk and stay there."""
        if stays_on_disk(rows):
            return ReadRows(rows, self.reader_)
        return self.reader_(rows)

    def _statistics_rows(self, rows: NDArray[Any], chosen: NDArray[Any]) -> Tensor:
        """Positions of the rows that inputs are standardised by: all, if they fit."""
        index = np.flatnonzero(chosen)
        most = max(1, _MOST_VALUES // int(np.prod(rows.shape[1:])))
        if len(index) > most and stays_on_disk(rows):
            index = index[np.linspace(0, len(index) - 1, most).astype(np.intp)]
        return torch.from_numpy(index)

    def _state_facts(
        self, rows: NDArray[Any], targets: TaskTargets, held_out: NDArray[Any]
    ) -> None:
        """Fitted facts: routing, correlation of the modules, scores of the tasks."""
        self.tasks_ = targets.ids
        self.n_features_out_ = self.net_.module_.experts.out_features * (
            self.net_.module_.experts.n_modules
        )
        seen = held_out if held_out.any() else ~held_out
        codes = targets.codes[:, seen]
        outputs = self._outputs(rows, np.flatnonzero(seen))
        self.task_scores_ = np.array(
            [
                score_codes(task, out, code)
                for task, out, code in zip(targets.tasks, outputs, codes, strict=True)
            ]
        )
        self.module_units_ = self._module_units(rows, targets.codes.shape[2])
        with torch.no_grad():
            # Rows all over: they may come sorted by time or environment.
            spread = np.arange(0, len(rows), -(-len(rows) // _ROWS_FOR_FACTS))
            part = self.reader_(read_rows(rows, spread))
            self.routing_ = self.net_.module_.gate(part).mean(dim=0).cpu().numpy()
            self.module_correlation_ = _correlation(self.net_.module_.experts(part))

    def _module_units(self, rows: NDArray[Any], n_pixels: int) -> ModuleFeatures:
        """Centre and scale of the features of the modules, from rows all over."""
        step = -(-len(rows) * n_pixels // _PIXELS_FOR_UNITS)
        features = self._features(rows[::step], pooled=False)
        n_modules = self.net_.module_.experts.n_modules
        return ModuleFeatures.of(features.reshape(-1, self.n_features_out_), n_modules)

    def _build(self, shape: Sequence[int], targets: TaskTargets) -> RoutedExperts:
        n_tasks = len(targets.tasks)
        dense = targets.layout == "pixels"
        masks = module_masks(self.module_inputs, shape, self.n_modules)
        n_modules = self.n_modules if masks is None else len(masks)
        if self.modules == "single":
            # A task of its own sees everything and shares nothing.
            n_modules, masks = n_tasks, None
        convolutional = self.expert == "conv" or (self.expert == "auto" and dense)
        if dense and not convolutional:
            raise InvalidInputError(
                "Targets per pixel need convolutional modules. Got expert='mlp'; pass "
                "expert='conv' or 'auto'."
            )
        if dense and targets.pixels != tuple(shape[-2:]):
            raise InvalidInputError(
                "Targets per pixel must have the height and width of the images. Got "
                f"{targets.pixels} for images of shape {tuple(shape)}."
            )
        if not convolutional:
            experts: Any = MLPExperts(
                int(np.prod(shape)),
                n_modules,
                tuple(self.hidden),
                self.out_features,
                masks,
            )
            gate_features = experts.in_features
        else:
            if len(shape) != 3:
                raise InvalidInputError(
                    "expert='conv' needs images. Got rows of shape "
                    f"{tuple(shape)}; set input_shape or use expert='mlp'."
                )
            width = self.hidden[0] if len(self.hidden) else 8
            experts = ConvExperts(shape[0], n_modules, width, self.out_features, dense)
            gate_features = shape[0]
        return RoutedExperts(
            experts,
            n_tasks,
            targets.n_outputs,
            self.modules,
            gate_features,
            self.head_hidden,
        )

    def _streams(
        self,
        rows: Tensor | ReadRows,
        targets: TaskTargets,
        envs: NDArray[Any],
        held_out: NDArray[Any],
        seed: int,
    ) -> tuple[RowStream, RowStream | None]:
        codes = torch.from_numpy(targets.codes).to(rows.device)
        numbers = torch.from_numpy(envs).to(rows.device)

        def part(index: NDArray[Any], seed: int | None) -> RowStream:
            places = np.flatnonzero(index)
            where = torch.from_numpy(places).to(rows.device)
            some = rows[where] if isinstance(rows, Tensor) else rows.part(places)
            size = self.batch_size if seed is not None else len(where)
            if not isinstance(rows, Tensor):
                size = min(size, max(self.batch_size, _ROWS_FOR_FACTS))
            return RowStream(some, codes[:, where], numbers[where], size, seed=seed)

        train = part(~held_out, seed)
        return train, part(held_out, None) if held_out.any() else None

    def _net_arguments(self, validated: bool) -> dict[str, Any]:
        callbacks = copied_callbacks(self.callbacks)
        if validated:
            callbacks.append(best_weights("valid_loss", self.n_iter_no_change))
        arguments: dict[str, Any] = {
            "optimizer": OPTIMIZERS.get(self.optimizer, self.optimizer),
            "lr": self.lr,
            "max_epochs": self.max_epochs,
            "callbacks": callbacks,
            "device": self.device,
            "verbose": self.verbose,
            "train_split": None,
        }
        if self.modules == "mtcrl":
            routing_lr = 3 * self.lr if self.routing_lr is None else self.routing_lr
            groups = [("theta", {"lr": routing_lr, "weight_decay": 0.0})]
            arguments["optimizer__param_groups"] = groups
        return {**arguments, **(self.net_params or {})}

    def _task_weights(self, targets: TaskTargets) -> Tensor:
        n_tasks = len(targets.tasks)
        if isinstance(self.task_weights, str):
            weights = np.ones(n_tasks)
            if self.task_weights == "size":
                known = np.isfinite(targets.codes).sum(axis=(1, 2))
                weights = known / known.mean()
        else:
            weights = np.asarray(self.task_weights, dtype=float)
            if weights.shape != (n_tasks,) or (weights < 0).any():
                raise InvalidInputError(
                    "task_weights must hold one weight of at least 0 per task. Got "
                    f"{self.task_weights!r} for {n_tasks} tasks."
                )
        return torch.as_tensor(weights, dtype=torch.float32, device=self.device)

    def _warmup(self) -> tuple[float, float]:
        pair = tuple(self.warmup)
        if len(pair) != 2 or not 0 <= pair[0] <= pair[1] <= 1:
            raise InvalidInputError(
                "warmup must be a pair (begin, end) with 0 <= begin <= end <= 1. "
                f"Got {self.warmup!r}."
            )
        return float(pair[0]), float(pair[1])

    def _held_out(self, n_rows: int, seed: int) -> NDArray[Any]:
        held_out = np.zeros(n_rows, dtype=bool)
        if self.early_stopping:
            size = round(self.validation_fraction * n_rows)
            if not 1 <= size < n_rows:
                raise InvalidInputError(
                    "validation_fraction must leave rows on both sides. Got "
                    f"{self.validation_fraction} of {n_rows} rows."
                )
            order = np.random.RandomState(seed).permutation(n_rows)
            held_out[order[:size]] = True
        return held_out

    def _env_codes(
        self, ids: NDArray[Any] | None, n_rows: int, seed: int
    ) -> NDArray[Any]:
        if ids is not None:
            return np.unique(ids, return_inverse=True)[1].astype(np.int64)
        folds = np.arange(n_rows) % min(self.env_folds, n_rows)
        return np.random.RandomState(seed).permutation(folds)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def _correlation(modules: Tensor) -> NDArray[np.float64]:
    """Root mean square of the correlations of the units of two modules (K, K)."""
    squares = correlations(modules).pow(2).mean(dim=(1, 3))
    return squares.sqrt().double().cpu().numpy()


def _history_of(net: MultiTaskNet) -> list[dict[str, Any]]:
    keys = ("epoch", *_TERMS, "valid_loss", "dur")
    return [
        {key: row[key] for key in keys if key in row}
        for row in net.history
        if "train_loss" in row
    ]
