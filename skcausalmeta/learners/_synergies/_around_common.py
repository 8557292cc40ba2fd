"""Learning around a common predictor: pooled model, strengths, sparsity."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import nn

from ...backbones import PreparedBackbone, n_features_out
from ...exceptions import EpisodeError, InvalidInputError
from ...training import (
    DeviationModule,
    DeviationNet,
    HookedFeatures,
    PooledModels,
    RowReader,
    Strengths,
    Validation,
)
from ...utils import isolated_torch_rng, read_rows
from .._episode_plan import EpisodePlan
from .._training import FitStage, episode_keywords, episode_streams, length_of
from ._common import (
    BackboneFeatures,
    CommonPredictor,
    FlatRows,
    PooledNets,
    TrainingRows,
    fit_estimator,
    fit_linear,
    fit_nets,
)
from ._epochs import EpochTrial, helping_epochs
from ._sparsity import choose_sparsity, dense_head, learns, sparse_name

# Episodes of a fold by which epochs are found.
_N_VALID = 60
_FEWEST_TASKS = 4
# Of the logarithms of relevances of columns as they are, by the number of tasks. Where
# a backbone learns beside them, held-out tasks say when to stop.
_RELEVANCE_DECAY = 1.0
_MOST_ROWS, _MOST_OF_TASK = 5000, 400
_BEGIN_EPOCHS = 10
MONITORED = ("valid_loss", True)


def common_kind(common: Any, shared: bool, tasks: NDArray[Any] | None) -> Any:
    """Return the common predictor to learn: None, "linear" or an estimator.

    Raises
    ------
    InvalidInputError
        If one is asked for where tasks share nothing.
    """
    if common is None or (common == "auto" and not shared):
        return None
    if not shared:
        raise InvalidInputError(
            "common= needs tasks that share their labels: fit with tasks=..., and "
            "shared_labels=True or labels that most tasks have. Got common="
            f"{common!r} for other data; use common=None."
        )
    if tasks is not None and len(np.unique(tasks)) < 2:
        if common == "auto":
            return None
        raise InvalidInputError(
            "common= is learned across tasks, of which there must be 2. Got one; use "
            "common=None, or any scikit-learn estimator alone."
        )
    return "linear" if common == "auto" else common


class CommonTraining:
    """One fit around a common predictor.

    Parameters
    ----------
    learner : estimator
        Its parameters decide.
    stage : FitStage
        Checked data and options; targets are labels, or standardised real targets.
    n_classes : int
        Number of classes; 0 for real targets.
    """

    def __init__(self, learner: Any, stage: FitStage, n_classes: int) -> None:
        self.learner, self.stage, self.n_classes = learner, stage, n_classes
        targets = stage.targets
        if n_classes:
            targets = np.searchsorted(np.unique(targets), targets)
        self.data = TrainingRows(
            stage.rows,
            targets,
            np.unique(ids_of(stage), return_inverse=True)[1],
            n_classes,
            stage.reader,
            stage.seeds["common"],
            learner._fit_weights,
        )

    def class_shares(self) -> NDArray[Any] | None:
        """Return the shares (n_classes,) of the training rows; None of real targets."""
        if not self.n_classes:
            return None
        counts = np.bincount(self.data.targets, self.data.weights, self.n_classes)
        return counts / counts.sum()

    def run(
        self, kind: Any, plan: EpisodePlan, backbone: nn.Module, hooked: HookedFeatures
    ) -> tuple[CommonPredictor, DeviationNet]:
        """Return the common predictor and the trained net."""
        nets, backbone = None, backbone.to(self.learner.device)
        if _is_trained(backbone):
            nets = fit_nets(
                lambda: copy.deepcopy(backbone),
                n_features_out(backbone, self.stage.reader.sample_shape),
                self.data,
                device=self.learner.device,
                verbose=bool(self.learner.verbose),
            )
            # Its own, since training goes on and the common predictor stays as it is.
            backbone = copy.deepcopy(nets.members[-1].backbone)
        common = self._common(kind, backbone, nets)
        module = self._module(backbone, hooked, common)
        n_epochs = None if _is_trained(module) else 0
        if n_epochs is None and nets is not None and not hooked.is_active:
            interrupted = self._begin(module.strengths, nets, common)
            n_epochs = 0 if interrupted else self._n_epochs(module, nets, common)
        net = self._net(module, n_epochs)
        if n_epochs == 0:
            return common, net.initialize()
        self.learner._run(net, self.stage, plan, common.training_scores)
        return common, net

    def _common(
        self, kind: Any, backbone: nn.Module, nets: PooledModels | None
    ) -> CommonPredictor:
        if not isinstance(kind, str):
            return fit_estimator(kind, FlatRows(), self.data)
        if nets is not None:
            return PooledNets(nets.members, nets.scores, self.stage.reader)
        return fit_linear(BackboneFeatures(backbone, self.stage.reader), self.data)

    def _module(
        self, backbone: nn.Module, hooked: HookedFeatures, common: CommonPredictor
    ) -> DeviationModule:
        """Return the backbone with strengths where they begin."""
        width = n_features_out(backbone, self.stage.reader.sample_shape)
        width = hooked.width(width)
        prepared = isinstance(backbone, PreparedBackbone)
        inner = backbone.backbone if prepared else backbone
        blocks = getattr(inner, "blocks", None)
        # Convolutions have blocks too, which are layers.
        if not isinstance(blocks, tuple) or sum(blocks) != width:
            blocks = (width,)
        learned = learns(self.learner._head_template(), "ridge_reg")
        strengths = Strengths(blocks, self.n_classes, learned)
        strengths.score_center.copy_(self._middle(common.training_scores))
        if not hooked.is_active:
            some = spread(len(self.data.tasks), _MOST_ROWS)
            self._settle(strengths, backbone, some)
        return DeviationModule(backbone, strengths.to(self.learner.device), hooked)

    def _middle(self, scores: NDArray[Any]) -> torch.Tensor:
        """Return the mean (n_scores,) of scores of the training rows."""
        if self.data.weights is None:
            return torch.from_numpy(scores).mean(0)
        shares = torch.from_numpy(self.data.weights / self.data.weights.sum())
        return shares @ torch.from_numpy(scores)

    def _settle(
        self, strengths: Strengths, backbone: nn.Module, index: NDArray[Any]
    ) -> None:
        rows, weights = read_rows(self.stage.rows, index), self.data.weights
        features = BackboneFeatures(backbone, self.stage.reader)(rows)
        given = None if weights is None else torch.from_numpy(weights[index])
        strengths.settle(torch.from_numpy(features), given)

    def _net(
        self,
        module: DeviationModule,
        n_epochs: int | None = None,
        stage: FitStage | None = None,
        learner: Any = None,
    ) -> DeviationNet:
        """Return the net that trains a module."""
        stage = self.stage if stage is None else stage
        learner = self.learner if learner is None else learner
        keywords = episode_keywords(
            learner, stage.settings, stage.validation, MONITORED
        )
        if n_epochs is not None:
            keywords["max_epochs"] = n_epochs
        head = dense_head(self.learner._head_template())
        n_tasks = len(np.unique(ids_of(stage)))
        decay = 0.0 if _is_trained(module.backbone) else _RELEVANCE_DECAY / n_tasks
        return DeviationNet(module, head=head, relevance_decay=decay, **keywords)

    def _begin(
        self, strengths: Strengths, nets: PooledModels, common: CommonPredictor
    ) -> bool:
        """Learn strengths on features by nets that did not see the task of a row.

        A net knows its own training tasks, whose deviations in its features are larger
        than those of a new task. Tells whether that was interrupted: the strengths so
        far are kept, and nothing more is to be trained.
        """
        if not strengths.learned:
            return False
        stage = self.stage
        index = _some_of_tasks(self.data)
        rows, folds = read_rows(stage.rows, index), nets.folds[index]
        features = np.empty((len(index), len(strengths.center)), dtype=np.float32)
        for fold in np.unique(folds):
            own = folds == fold
            view = BackboneFeatures(nets.members[fold].backbone, stage.reader)
            found = view(rows[own])
            spreads = found.std(axis=0)
            spreads = np.where(spreads > 0, spreads, 1.0)
            features[own] = (found - found.mean(axis=0)) / spreads
        begin = replace(
            self._aside(None),
            rows=features,
            targets=stage.targets[index],
            tasks=stage.tasks[index],  # type: ignore[index]
            envs=None if stage.envs is None else stage.envs[index],
            reader=RowReader(features.shape[1:], device=self.learner.device),
        )
        learner = self._quiet(index)
        plan = self._plan(begin, None, learner)
        trial = copy.deepcopy(strengths)
        trial.center.zero_()
        trial.spread.fill_(1.0)
        trial.relevance.requires_grad_(False)  # features differ from net to net
        module = DeviationModule(nn.Identity(), trial)
        learner.augment = None  # rows are features here
        net = self._net(module, _BEGIN_EPOCHS, begin, learner)
        learner._run(net, begin, plan, common.training_scores[index])
        trial.relevance.requires_grad_(True)
        learned = dict(trial.named_parameters())
        with torch.no_grad():
            for name, value in strengths.named_parameters():
                value.copy_(learned[name])
        return net.interrupted_

    def _aside(self, validation: Validation | None) -> FitStage:
        """Return the stage of a training beside that of the fit."""
        settings = replace(self.stage.settings, warm_start=False)
        return replace(
            self.stage, settings=settings, validation=validation, checkpoint=None
        )

    def _quiet(self, index: NDArray[Any] | None = None) -> Any:
        """Return the learner without the callbacks of its user, who count one fit.

        With `index`, for these rows alone.
        """
        learner = copy.copy(self.learner)
        learner.callbacks = None
        if index is not None and self.data.weights is not None:
            learner._fit_weights = self.data.weights[index]
        return learner

    def _plan(
        self, stage: FitStage, validation: Validation | None, learner: Any
    ) -> EpisodePlan:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said once, by the fit itself
            return learner._plan(
                stage.targets, stage.tasks, stage.envs, validation, stage.seeds
            )

    def _n_epochs(
        self, module: DeviationModule, nets: PooledModels, common: CommonPredictor
    ) -> int | None:
        """Return the epochs that help tasks which no part of a trial has seen."""
        n_tasks = len(np.unique(ids_of(self.stage)))
        if self.stage.validation is not None or n_tasks < _FEWEST_TASKS:
            return None
        folds = np.unique(nets.folds)
        found = [self._trial(module, nets, common, int(fold)) for fold in folds]
        trials = [trial for trial in found if trial is not None]
        if not trials:
            return None
        most = length_of(self.learner, "max_epochs")
        with isolated_torch_rng(self.stage.seeds["training"]):
            n_epochs = helping_epochs(
                trials, most, len(folds), bool(self.learner.verbose)
            )
        return 0 if n_epochs is None else n_epochs

    def _trial(
        self,
        module: DeviationModule,
        nets: PooledModels,
        common: CommonPredictor,
        fold: int,
    ) -> EpochTrial | None:
        """Return a training that leaves a fold out, if both sides have episodes."""
        held_out = np.unique(ids_of(self.stage)[nets.folds == fold])
        searching = self._aside(
            Validation.of(Validation(held_out, n_episodes=_N_VALID))
        )
        learner = self._quiet()
        learner.verbose = 0  # one bar is for all of them
        try:
            plan = self._plan(searching, searching.validation, learner)
        except (EpisodeError, InvalidInputError):  # too few tasks serve on a side
            return None
        train, valid = episode_streams(learner, searching, plan, common.training_scores)
        if valid is None:
            return None
        trial = copy.deepcopy(module)
        trial.backbone = copy.deepcopy(nets.members[fold].backbone)
        some = spread(len(self.data.tasks), _MOST_ROWS)
        self._settle(trial.strengths, trial.backbone, some)
        net = self._net(trial, None, self._aside(None), learner)
        return EpochTrial(net.initialize(), train, valid)

    def sparsity(self, net: DeviationNet, common: CommonPredictor) -> float:
        """Return the sparse strength of new tasks, if the head leaves it open."""
        learner, stage = self.learner, self.stage
        head = learner._head_template()
        if sparse_name(head) is None:
            return 0.0
        fresh = {**stage.seeds, "episodes": stage.seeds["head"]}
        plan = learner._plan(stage.targets, stage.tasks, stage.envs, None, fresh)
        return choose_sparsity(head, net, stage, plan, common.training_scores)


def _is_trained(module: nn.Module) -> bool:
    """Whether a module has anything to learn: not one that gives rows as they are."""
    return any(weight.requires_grad for weight in module.parameters())


def ids_of(stage: FitStage) -> NDArray[Any]:
    """Return the ids of the tasks of a stage, which a common predictor needs."""
    if stage.tasks is None:
        raise TypeError("A common predictor is learned from tasks. Got none.")
    return stage.tasks


def spread(n_rows: int, most: int) -> NDArray[np.int64]:
    """Return at most so many row numbers, evenly chosen."""
    return np.linspace(0, n_rows - 1, min(n_rows, most)).astype(np.int64)


def _some_of_tasks(data: TrainingRows) -> NDArray[np.int64]:
    """Return row numbers, at most 400 of a task, evenly chosen, and of every class."""
    order = np.argsort(data.tasks, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(data.tasks))[:-1])
    some = np.concatenate([own[spread(len(own), _MOST_OF_TASK)] for own in groups])
    if not data.n_classes:
        return some
    missing = np.setdiff1d(data.targets, data.targets[some])
    return np.concatenate([some, np.flatnonzero(np.isin(data.targets, missing))])


def check_common(common: Any, of_classes: bool) -> None:
    """Refuse what is no common predictor, before any training.

    Parameters
    ----------
    common : object
        As given to the learner.
    of_classes : bool
        Whether it has to tell classes apart.

    Raises
    ------
    InvalidInputError
        If it is neither a name nor an estimator of the kind that is needed.
    """
    if common is None or (isinstance(common, str) and common in ("auto", "linear")):
        return
    known = hasattr(common, "fit") and hasattr(common, "get_params")
    if isinstance(common, type) or not known:
        raise InvalidInputError(
            'The \'common\' parameter must be "auto", "linear", None or an instance '
            f"of an estimator, such as LogisticRegression(). Got {common!r}."
        )
    clone(common)
    if of_classes and not _tells_classes(common):
        raise InvalidInputError(
            "The 'common' parameter of a classifier must be a classifier with "
            f"predict_proba or decision_function. Got {common!r}; use "
            'LogisticRegression(), or "linear".'
        )
    if not of_classes and (_tells_classes(common) or not hasattr(common, "predict")):
        raise InvalidInputError(
            "The 'common' parameter of a regressor must be a regressor. Got "
            f'{common!r}; use Ridge(), or "linear".'
        )


def _tells_classes(estimator: Any) -> bool:
    return any(hasattr(estimator, n) for n in ("predict_proba", "decision_function"))
