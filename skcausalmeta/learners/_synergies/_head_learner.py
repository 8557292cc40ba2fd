"""What learners that solve a head share, around a common predictor or not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ...backbones import MLP
from ...exceptions import InvalidInputError
from ...heads import takes_offset
from ...training import BaseEpisodicNet, HookedFeatures, RowReader, Training
from ...utils import read_rows, refuse_other_index
from .._checks import check_given_ids
from .._episode_plan import EpisodePlan
from .._nested import Makers
from .._row_weights import refuse_weights, weighing_keywords
from .._solved_task import SolvedTask
from .._task_batches import chunk_of, in_task_chunks
from .._task_blocks import TaskBlock
from .._task_rows import TaskRows
from .._training import FitStage
from ._around_common import CommonTraining, check_common, common_kind
from ._batch_tasks import solve_head_tasks
from ._class_weights import check_class_weight, class_shift
from ._common import CommonPredictor, refuse_unweighted
from ._common_task import CommonTask, score_tasks, solve_common_task
from ._differing import deviation_probabilities, kept_rows, learn_deviation_prior
from ._evidence import DeviationPrior
from ._head_block import pack_copies
from ._head_task import HeadTask
from ._known_tasks import KnownTasks, solve_known_tasks
from ._sparsity import refuse_learned, set_numbers, with_numbers
from ._task_heads import tasks_within

# Keywords of the net, as net_params gives them.
NET_KEYWORDS: dict[str, list[Any]] = {
    "head_tol": [Interval(Real, 0, None, closed="neither")],
    "accelerate": ["boolean"],
    "micro_batch": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
}
LENGTH = [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")]
_HIDDEN, _OUT, _DROPOUT = (128,), 64, 0.3


class HeadLearnerMixin:
    """The head of a task and its facts, for a classifier and a regressor."""

    _parts: ClassVar[Makers]
    head: Any
    common: Any
    _task_in_use: Callable[[], HeadTask]
    # Set by fit: whether tasks are solved around a common predictor.
    around_common_: bool = False
    common_: CommonPredictor | None = None
    sparse_reg_: float = 0.0
    # None before: files of learners may hold none.
    deviation_prior_: DeviationPrior | None = None
    _fit_weights: NDArray[Any] | None = None
    fit_head: bool = True
    known_tasks_: KnownTasks | None = None
    _class_shares: NDArray[Any] | None = None

    @property
    def _lengths(self) -> dict[str, int]:
        """What "auto" lengths of training are."""
        if self.around_common_:  # the most; held-out tasks say how many
            return {"max_epochs": 30, "tasks_per_batch": 8}
        return {"max_epochs": 10, "tasks_per_batch": 4}

    # -- heads -------------------------------------------------------------------------

    def _head_template(self) -> Any:
        """Return the head as given, or the default one; strengths may be "learn"."""
        if self.head is not None:
            head = self._adapted_head(clone(self.head))
            if self.around_common_ and hasattr(head, "class_weight"):
                head.class_weight = "auto"  # `class_shift` does what it asks for
            return head
        return self._common_head() if self.around_common_ else self._parts["head"](None)

    def _adapted_head(self, head: Any) -> Any:
        return head

    @abstractmethod
    def _common_head(self) -> Any:
        """Return the default head around a common predictor."""

    def _new_head(self, n_support: float = 1) -> Any:
        """Return an unfitted head with numbers for its strengths."""
        return set_numbers(self._head_template(), self.sparse_reg_, n_support)

    @property
    def _class_shift(self) -> NDArray[Any] | None:
        """What `class_weight` of the head adds to the scores around a common one."""
        class_weight = getattr(self.head, "class_weight", None)
        if not self.around_common_ or self._class_shares is None:
            return None
        classes = self.training_classes_  # type: ignore[attr-defined]
        check_class_weight(class_weight, classes)
        return class_shift(class_weight, classes, self._class_shares)

    def _calibrate(self, *data: Any) -> None:
        """Learn the temperature of scores that weights of classes do not move."""
        shares, self._class_shares = self._class_shares, None
        try:
            super()._calibrate(*data)  # type: ignore[misc]
        finally:
            self._class_shares = shares

    def _check_head(self) -> None:
        """Refuse a head with invalid parameters before any training."""
        head = self._head_template()
        if not self.around_common_:
            refuse_learned(head)
        head = with_numbers(head, 0.0, 1)
        if hasattr(head, "_parameter_constraints"):
            head._validate_params()

    # -- a fit around a common predictor -----------------------------------------------

    def _begin(self, shared: bool, tasks: NDArray[Any] | None) -> Any:
        """Decide what is learned, before any training."""
        check_common(self.common, is_classifier(self))
        kind = common_kind(self.common, shared, tasks)
        if kind is not None and self.head is not None and not takes_offset(self.head):
            self._refuse_common()
            kind = None
        self.around_common_ = kind is not None
        self.common_ = self.known_tasks_ = self._class_shares = None
        self.deviation_prior_ = None
        self.sparse_reg_ = 0.0
        self._check_head()
        if self._fit_weights is not None and self.fit_head:
            weighing_keywords(self, self._new_head(), self._fit_weights)
        if self.around_common_:
            self._refuse_scale()
            refuse_unweighted(self, kind)
        return kind

    def _refuse_scale(self) -> None:
        """Refuse a scale of the scores: around common ones they are logits already.

        Raises
        ------
        InvalidInputError
        """
        given = Training.of(self.net_params).keywords  # type: ignore[attr-defined]
        if "logit_scale" in given:
            raise InvalidInputError(
                "Scores around a common predictor are logits, without a scale. Got "
                f"logit_scale={given['logit_scale']!r}; remove it from net_params, or "
                "use common=None."
            )

    def _refuse_common(self) -> None:
        """Refuse a common predictor that was asked for: the head takes no offset.

        Raises
        ------
        InvalidInputError
        """
        if isinstance(self.common, str) and self.common == "auto":
            return
        raise InvalidInputError(
            "Around a common predictor heads are solved with its scores as offset. Got "
            f"a {type(self.head).__name__}, whose fit or episodes have no parameter "
            "offset (support_offset); use another head, or common=None."
        )

    def _check_weighted(self) -> None:
        """Refuse weights of support rows where more than the head reads the rows."""
        if self.net_.module_.hooked.is_active:  # type: ignore[attr-defined]
            refuse_weights(
                self, "in adapt with a hook, which reads rows alike", "repeat rows"
            )

    def _train_net(
        self,
        stage: FitStage,
        plan: EpisodePlan,
        backbone: nn.Module,
        hooked: HookedFeatures,
    ) -> BaseEpisodicNet:
        if not self.around_common_:
            net: BaseEpisodicNet = super()._train_net(  # type: ignore[misc]
                stage, plan, backbone, hooked
            )
            return net
        kind = common_kind(self.common, True, stage.tasks)
        training = CommonTraining(self, stage, self._n_classes(stage.targets))
        self._class_shares = training.class_shares()
        if self._class_shares is not None:
            given = getattr(self.head, "class_weight", None)
            check_class_weight(given, self.training_classes_)  # type: ignore[attr-defined]
        self.common_, net = training.run(kind, plan, backbone, hooked)
        self.sparse_reg_ = training.sparsity(net, self.common_)
        return net

    @abstractmethod
    def _n_classes(self, targets: NDArray[Any]) -> int:
        """Return the number of labels, 0 for real targets."""

    def _backbone(self, reader: RowReader) -> Any:
        """Return the backbone to build; tables keep their columns beside its own."""
        given = self.backbone  # type: ignore[attr-defined]
        is_table = len(reader.sample_shape) == 1
        if not self.around_common_ or not is_table or given not in ("auto", "mlp"):
            return given
        return MLP(_HIDDEN, _OUT, dropout=_DROPOUT, skip=True)

    # -- tasks around it ---------------------------------------------------------------

    def _solve_common(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        classes: NDArray[Any] | None,
        known: NDArray[Any] | None = None,
        weights: NDArray[Any] | None = None,
    ) -> CommonTask:
        """Solve a task; `targets` are class numbers, or standardised real targets."""
        kept: dict[str, Any] = {}
        if known is None:  # not a training task, whose rows are not kept
            known = self.common_.scores(rows)  # type: ignore[union-attr]
            kept = {"support_targets": targets.copy(), "support_weights": weights}
            if classes is None:  # a classifier keeps its rows with their labels
                kept["support_rows"] = kept_rows(rows)
        module = self.net_.module_  # type: ignore[attr-defined]
        features, code = self._hooked_features(rows, targets)
        head = self._new_head(len(rows) if weights is None else weights.sum())
        keywords = weighing_keywords(self, head, weights)
        found = solve_common_task(
            module.strengths, head, features, targets, known, keywords
        )
        return CommonTask(classes=classes, code=code, **found, **kept)

    # -- many tasks --------------------------------------------------------------------

    def _solve_many(self, tasks: TaskRows) -> tuple[list[TaskBlock], dict[Any, str]]:
        return solve_head_tasks(self, tasks)

    def _pack_tasks(self, tasks: TaskRows, copies: list[Any]) -> list[TaskBlock]:
        return pack_copies(tasks, copies)

    def _task_without_labels(self) -> SolvedTask | None:
        if not self.around_common_:
            return None
        return CommonTask(classes=getattr(self, "training_classes_", None))

    def _hooked_features(
        self, rows: NDArray[Any], targets: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the features of a task's support rows, and its code."""
        features = self._features(rows)  # type: ignore[attr-defined]
        hooked = self.net_.module_.hooked  # type: ignore[attr-defined]
        if not hooked.is_active:
            return features, None
        n_classes = self._n_classes(targets)
        code = hooked.codes_of(features[None], targets[None], n_classes)[0]
        return hooked.features_of(features, code), code

    def _solve_known(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        classes: NDArray[Any] | None,
    ) -> None:
        """Solve every training task on its rows, for ``predict(X, tasks=)``.

        Learns before how tasks deviate.
        """
        assert self.common_ is not None
        assert tasks is not None
        self.deviation_prior_ = learn_deviation_prior(self, rows, targets, tasks)
        if not self.fit_head:
            return
        known = self.common_.training_scores

        def solve(index: NDArray[Any]) -> CommonTask:
            own, some = read_rows(rows, index), None
            if self._fit_weights is not None:
                some = self._fit_weights[index]
            return self._solve_common(own, targets[index], classes, known[index], some)

        self.known_tasks_ = solve_known_tasks(solve, tasks)

    def _known_scores(
        self, rows: NDArray[Any], tasks: ArrayLike, no_task: SolvedTask
    ) -> NDArray[Any]:
        """Return scores of rows, each by its task; unknown ones by the common one."""
        ids = check_given_ids(tasks, rows, "tasks")
        if self.known_tasks_ is None:
            raise InvalidInputError(
                f"{type(self).__name__} predicts by task ids after a fit around a "
                "common predictor with fit_head=True. Got tasks after another fit; "
                "leave them out, or fit with tasks=... and fit_head=True."
            )
        return self.known_tasks_.scores(self, rows, ids, no_task)

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        tasks: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy of `predict`, or of real targets R squared.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            True labels or targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        tasks : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        float
            Over all rows together.
        """
        judge = accuracy_score if is_classifier(self) else r2_score
        refuse_other_index(X=X, y=y, sample_weight=sample_weight, tasks=tasks)
        found = self.predict(X, tasks=tasks)  # type: ignore[attr-defined]
        return float(judge(y, found, sample_weight=sample_weight))

    def _episode_scores(
        self,
        support: Any,
        targets: NDArray[Any],
        query: Any,
        n_outputs: int,
        max_memory: int | None,
    ) -> NDArray[Any]:
        """Return the scores (n_tasks, n_query[, n_classes]) of tasks, in batches."""
        head = self._new_head(targets.shape[1])

        def solve(part: slice) -> NDArray[Any]:
            return score_tasks(
                self,
                head,
                chunk_of(support, part),
                targets[part],
                chunk_of(query, part),
            )

        size = tasks_within(self, support, query, n_outputs, max_memory)
        return in_task_chunks(solve, len(support), size)

    # -- facts -------------------------------------------------------------------------

    @property
    def head_(self) -> Any:
        """The head in use."""
        return self._task_in_use().head

    @property
    def task_code_(self) -> NDArray[Any] | None:
        """Code that the hook gives the task in use; None without a hook."""
        return self._task_in_use().code

    @property
    def dual_gap_(self) -> float:
        """Certificate of the head in use."""
        return self._task_in_use().dual_gap

    @property
    def sparsity_(self) -> float:
        """Share of features that the head in use leaves unused."""
        return self._task_in_use().sparsity(self)

    @property
    def support_features_(self) -> NDArray[Any]:
        """Features that the head in use uses; in which the task deviates."""
        return self._task_in_use().support_features(self)

    @property
    def common_coef_(self) -> NDArray[Any]:
        """Weights of the common predictor (n_scores, n_features), where it is linear.

        Of the columns for an estimator and where the columns are the features, of the
        last layer of its net else; in the units of the targets. Two classes have the
        weights -w / 2 and w / 2.
        """
        if self.common_ is None:
            raise AttributeError(
                "common_coef_ is there after a fit around a common predictor. Got "
                f"{type(self).__name__} without one; fit with tasks that share their "
                "labels, or common=..."
            )
        return self.common_.coef * getattr(self, "target_scale_", 1.0)

    @property
    def common_gain_(self) -> NDArray[Any]:
        """What the task in use multiplies the common scores by, (n_scores, n_scores).

        With common scores c(x) and features f(x), it answers ::

            z(x) = common_gain_ @ c(x) + deviation_ @ f(x) + a constant
        """
        return self._deviating_task("common_gain_").gain(self)

    @property
    def deviation_(self) -> NDArray[Any]:
        """Weights that the task in use adds, (n_scores, n_features)."""
        return self._deviating_task("deviation_").deviation(self)

    @property
    def deviation_probabilities_(self) -> NDArray[np.float64]:
        """Probabilities (n_features,) that the task in use deviates in a feature.

        Of all sets of features that `differing_features` has met, weighed by their
        evidence on the rows given to `adapt`; few labels that leave many sets open
        make them differ from those over all sets. 0 without labels, or with one
        class.
        """
        task = self._deviating_task("deviation_probabilities_")
        found = deviation_probabilities(self, task)
        if found is None:
            raise AttributeError(
                "deviation_probabilities_ asks the rows of a task, which adapt(X, y) "
                "keeps. Got a task without rows, or features too large for numbers; "
                "call adapt with its rows, or differing_features(least=0.5)."
            )
        return found

    def differing_features(self, *, least: float | None = None) -> NDArray[Any]:
        """Return the features in which the task in use differs.

        By default those that deviate with a probability of more than a half given the
        rows of `adapt`, the median probability model [1]_. A set S of features adds to
        the common scores c(x), with standardised features x ::

            u (c(x) - mean c) + b + sum_{j in S} d_j x_j,    d_j ~ N(0, tau^2 I)

        and has the probability ``pi^|S| (1 - pi)^(p - |S|)`` before the labels are
        seen. tau^2, pi, the prior of u and the noise of real targets are learned by
        `fit` from training tasks (``deviation_prior_``). The marginal likelihood of S
        is that of Laplace, of real targets exact. Sets are grown feature by feature,
        and features are dropped from the best. The labels are asked, not the head: a
        feature can differ that its Lasso leaves out.

        Parameters
        ----------
        least : float, default=None
            Ask the head instead: share of the largest deviation, from 0 to 1, that one
            must have; each is the norm of its weights over the scores, times the
            spread of the feature. They were solved for again without the Lasso, which
            makes it a thresholded Lasso [2]_. 0: all of ``support_features_``. None:
            by the rows; 0.5 for tasks whose rows are not kept, those of `fit` and of
            `adapt_tasks`.

        Returns
        -------
        ndarray of int
            Numbers of the features in order; none where nothing deviates.

        Raises
        ------
        InvalidInputError
            If `least` is not from 0 to 1.
        AttributeError
            After a fit without a common predictor.

        References
        ----------
        .. [1] M. Barbieri, J. Berger, "Optimal predictive model selection", Annals of
           Statistics 32(3), 2004.
        .. [2] S. Zhou, "Thresholded Lasso for high dimensional variable selection and
           statistical estimation", arXiv:1002.1583, 2010.
        """
        task = self._deviating_task("differing_features")
        if least is None:
            found = deviation_probabilities(self, task)
            if found is not None:
                return np.flatnonzero(found > 0.5)
            least = 0.5
        if not (isinstance(least, Real) and 0 <= least <= 1):
            raise InvalidInputError(
                "least is a share of the largest deviation and must be from 0 to 1. "
                f"Got {least!r}."
            )
        return task.differing_features(self, float(least))

    def _deviating_task(self, name: str) -> CommonTask:
        task = self._task_in_use()
        if not isinstance(task, CommonTask):
            raise AttributeError(
                f"{name} is there after a fit around a common predictor. Got a task "
                "that was solved by itself; see head_.coef_."
            )
        return task
