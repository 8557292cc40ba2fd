"""Learning around a common predictor: pooled model, strengths, sparsity."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import nn

from ...backbones import is_frozen, n_features_out
from ...exceptions import InvalidInputError
from ...training import (
    DeviationModule,
    DeviationNet,
    HookedFeatures,
    Strengths,
    Validation,
    in_passes,
)
from ...utils import read_rows
from .._episode_plan import EpisodePlan
from .._training import FitStage, episode_keywords
from ._common import (
    CommonPredictor,
    TrainingRows,
    fit_estimator,
    fit_linear,
    fit_nets,
)
from ._sparsity import choose_sparsity, dense_head, learns, sparse_name

# Where no tasks are held out, a share is, to find the number of epochs.
_SEARCH = Validation(0.25, n_episodes=60, patience=5)
_FEWEST_TASKS = 4
_MOST_ROWS = 5000
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
        tasks = stage.tasks
        targets = stage.targets
        if n_classes:
            targets = np.searchsorted(np.unique(targets), targets)
        self.data = TrainingRows(
            stage.rows,
            targets,
            np.unique(tasks, return_inverse=True)[1],
            n_classes,
            stage.reader,
            stage.seeds["common"],
        )

    def fit_common(
        self, kind: Any, backbone: nn.Module
    ) -> tuple[CommonPredictor, nn.Module]:
        """Return the common predictor, and the backbone that it leaves."""
        view = _features_by(backbone, self.stage.reader)
        if kind == "linear" and is_frozen(backbone):
            return fit_linear(view, self.data), backbone
        nets = None
        if not is_frozen(backbone):
            nets, trained = fit_nets(
                lambda: copy.deepcopy(backbone),
                n_features_out(backbone, self.stage.reader.sample_shape),
                self.data,
                device=self.learner.device,
                verbose=bool(self.learner.verbose),
            )
            backbone = trained
        if kind == "linear":
            assert nets is not None
            return nets, backbone
        return fit_estimator(kind, _flat, self.data), backbone

    def module(
        self, backbone: nn.Module, hooked: HookedFeatures, common: CommonPredictor
    ) -> DeviationModule:
        """Return the backbone with strengths at their begin."""
        width = n_features_out(backbone, self.stage.reader.sample_shape)
        width = hooked.width(width)
        blocks = getattr(backbone, "blocks", (width,))
        if sum(blocks) != width:
            blocks = (width,)
        learned = learns(self.learner._head_template(), "ridge_reg")
        strengths = Strengths(blocks, self.n_classes, learned)
        some = np.linspace(
            0, len(self.data.tasks) - 1, min(len(self.data.tasks), _MOST_ROWS)
        ).astype(np.int64)
        scores = torch.from_numpy(common.training_scores)
        if hooked.is_active:
            strengths.score_center.copy_(scores.mean(0))
        else:
            features = _features_by(backbone, self.stage.reader)
            found = features(read_rows(self.stage.rows, some))
            strengths.settle(torch.from_numpy(found), scores)
        return DeviationModule(backbone, strengths.to(self.learner.device), hooked)

    def net(self, module: DeviationModule, n_epochs: int | None = None) -> DeviationNet:
        """Return the net that trains a module."""
        stage = self.stage
        keywords = episode_keywords(
            self.learner, stage.settings, stage.validation, MONITORED
        )
        if n_epochs is not None:
            keywords["max_epochs"] = n_epochs
        head = dense_head(self.learner._head_template())
        return DeviationNet(module, head=head, **keywords)

    def n_epochs(self, module: DeviationModule, common: CommonPredictor) -> int | None:
        """Return the epochs that help tasks which are held out to find them."""
        stage, learner = self.stage, self.learner
        if stage.validation is not None or len(np.unique(stage.tasks)) < _FEWEST_TASKS:
            return None
        searching = replace(stage, validation=_SEARCH, checkpoint=None)
        plan = learner._plan(
            stage.targets, stage.tasks, stage.envs, _SEARCH, stage.seeds
        )
        trial = CommonTraining(learner, searching, self.n_classes)
        net = trial.net(copy.deepcopy(module))
        learner._run(net, searching, plan, common.training_scores)
        losses = [row["valid_loss"] for row in net.history if "valid_loss" in row]
        return int(np.argmin(losses)) + 1 if losses else None

    def run(
        self, kind: Any, plan: EpisodePlan, backbone: nn.Module, hooked: HookedFeatures
    ) -> tuple[CommonPredictor, DeviationNet]:
        """Return the common predictor and the trained net."""
        common, backbone = self.fit_common(kind, backbone)
        module = self.module(backbone, hooked, common)
        net = self.net(module, self.n_epochs(module, common))
        self.learner._run(net, self.stage, plan, common.training_scores)
        return common, net

    def sparsity(self, net: DeviationNet, common: CommonPredictor) -> float:
        """Return the sparse strength of new tasks, if the head leaves it open."""
        learner, stage = self.learner, self.stage
        head = learner._head_template()
        if sparse_name(head) is None:
            return 0.0
        fresh = {**stage.seeds, "episodes": stage.seeds["head"]}
        plan = learner._plan(stage.targets, stage.tasks, stage.envs, None, fresh)
        return choose_sparsity(head, net, stage, plan, common.training_scores)


def _features_by(
    backbone: nn.Module, reader: Any
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def run(part: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            return backbone(reader(part)).flatten(1).double().cpu().numpy()

    def features(rows: NDArray[Any]) -> NDArray[Any]:
        backbone.eval()
        return in_passes(run, rows)

    return features


def _flat(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows as a table for an estimator."""
    return np.asarray(rows).reshape(len(rows), -1)


def check_common(common: Any) -> None:
    """Refuse what is no common predictor, before any training.

    Raises
    ------
    InvalidInputError
        If it is neither a name nor an estimator that can be cloned.
    """
    if common is None or common in ("auto", "linear"):
        return
    if isinstance(common, str) or not hasattr(common, "fit"):
        raise InvalidInputError(
            'The \'common\' parameter must be "auto", "linear", None or a scikit-learn '
            f"estimator. Got {common!r}."
        )
    clone(common)
