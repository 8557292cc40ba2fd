"""MAML and its relatives for classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...backbones import Backbone
from ...exceptions import InvalidInputError
from ...heads import RidgeHead
from ...training import EpisodeHook, Training, Validation
from ...utils import check_sortable
from .._classifier import BaseMetaClassifier
from .._known_labels import number_known_labels
from .._novelty import Rejection
from .._solved_task import SolvedTask
from .._synergies import HeadTask
from .._task_batches import check_tasks, encode_tasks
from ._learner import AdaptedTask, GradientLearnerMixin, NetTask, StartTask
from ._update_rule import UpdateRule


class MAMLClassifier(GradientLearnerMixin, BaseMetaClassifier):
    """Few-shot classifier that adapts by a few gradient steps.

    The start theta of the network, and whatever the update rule U learns, are
    trained so that a few steps on the support rows of a task classify its query
    rows ::

        min_{theta, U}  1/T sum_t  L_query,t(theta_K(t))
        theta_0(t) = theta,
        theta_{k+1}(t) = theta_k(t) - U(grad L_support,t(theta_k(t)))

    with L the mean cross-entropy. The gradient runs through the inner steps. Where
    tasks share their labels, theta is a common predictor: it answers for a new task
    before any of its labels is known, and the steps correct it.

    Parameters
    ----------
    update : {"sgd", "meta-sgd", "meta-curvature", "kfo", "t-net", "warp-grad"} or \
UpdateRule, default="sgd"
        How an inner step uses a gradient; an object such as
        ``KFOUpdate(psd=True)`` or ``SGDUpdate(learn_lr=True)`` (copied).
    inner_steps : int, default=5
        Steps K of the inner loop in training.
    inner_lr : float, default=0.1
        Its learning rate.
    adapt_steps : int, default=None
        Steps of `adapt` and `predict_episodes`. None: `inner_steps`.
    first_order : bool, default=False
        Drop the dependence of the inner gradients on theta: faster and less
        memory, not the gradient of the objective.
    adapt_layers : {"all", "head", "body"}, default="all"
        What moves within a task: everything (MAML), what follows the backbone
        (ANIL), or the backbone (BOIL). The rest is learned by the outer steps.
    backbone : str, Backbone, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features already), an object such as
        ``Conv4(n_filters=32)``, whose parameters are reached as
        ``backbone__n_filters`` and so on, a `torch.nn.Module` (copied, its weights
        kept; frozen if none of its parameters requires a gradient), or a class or
        function that returns one.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    n_way : int or "auto", default="auto"
        Classes of an episode, and the most that `adapt` can tell apart. "auto": 5,
        or all if there are fewer. With `tasks`: the most classes of a task, or all
        labels if they are shared.
    n_shot : int, pair of int, (int, int, "class") or "auto", default="auto"
        Support rows per class. A pair (low, high): drawn anew for every training
        step, log-uniformly; (low, high, "class"): for every class of an episode.
        "auto": half of the class of median size, at most 5.
    n_query : int or "auto", default="auto"
        Query rows per class. "auto": what the class of median size leaves, at most
        10. Smaller classes give what they have of "auto" sizes and of pairs; those
        that lack a row of each kind, or rows asked for by a number, are left out of
        the episodes with a warning. With shared labels: rows of a task; "auto": half
        of the task of median size, at most 10 a class.
    tasks_per_batch : int, default=4
        Episodes of one training step.
    batches_per_epoch : int, default=20
        Training steps of one epoch.
    max_epochs : int, default=10
        Number of epochs.
    optimizer : {"adam", "adamw", "sgd"}, object or type, default="adam"
        Optimiser of the outer problem; an object such as ``Adam(weight_decay=1e-4)``
        of `skcausalmeta.training`, whose parameters are reached as
        ``optimizer__weight_decay`` and so on; or a class of `torch.optim`.
    lr : float, default=1e-3
        Its learning rate.
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        "running": statistics of the rows at hand in training, running averages
        after; batch norms without weights have fixed statistics of the training
        rows. "episode": always
        those of the rows given together (support and query apart), as in the
        literature's MAML; predictions depend on which rows come together.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the output layer and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    shared_labels : bool or "auto", default="auto"
        Whether a label means the same in every task, such as "active" in every assay.
        True: episodes keep the labels, every label of the training data has an output
        of its own, and a new task may have any of them: one class, one row, unequal
        numbers. False: the classes of every episode are numbered at random, so that
        new tasks may have labels of their own. "auto": True if `fit` gets ``tasks=``
        that know on average at least half of all labels, one of them in two tasks.
    validation : float, array-like or Validation, default=None
        What to hold out: a share of the classes (or tasks), with which training stops
        when accuracy on their episodes has not improved for 5 epochs; classes of y
        (or task ids, with `tasks`), with which all epochs are trained; or a
        `skcausalmeta.training.Validation`, which says all of this. Episodes of what
        is held out are scored after every epoch, and the best weights are restored.
    calibrate : int or "auto", default=None
        Number of episodes that the temperature of `predict_proba` is learned on
        after training, 100 for "auto". They come from the held-out classes (or
        tasks) if there are such, by `validation`; else
        from the training classes, whose rows the net knows, so that probabilities
        of new classes may stay too sure. None: a temperature of 1 at no cost.
        Classes, scores and training are the same either way.
    reject : float or Rejection, default=None
        Share of the rows of a task's classes that `predict` may take for none of them,
        answered by `rejected_label_`; or a `skcausalmeta.learners.Rejection`. The
        threshold is learned on episodes of what `validation` holds out; else of the
        training classes, whose rows the net knows, so that more of the rows of new
        classes are refused. Scores and probabilities stay as they are. None: no row.
    fit_head : bool, default=True
        Solve a ridge head on the features of the training rows at the end of
        `fit`, which then answers until `adapt`. False saves that time. Where labels
        are shared, theta answers, whatever this says.
    callbacks : list, default=None
        Callbacks of skorch, such as `skorch.callbacks.GradientNormClipping`.
    net_params : dict or Training, default=None
        How training runs: `skcausalmeta.training.Training`, or a dictionary of its
        parameters (precision, compile, checkpoint_path, warm_start) and of keywords
        of the net, `GradientNet` and `skorch.NeuralNet`, such as
        ``{"outer": "reptile", "recompute": True}``.
    device : str or torch.device, default="cpu"
        Where the net lives.
    verbose : int, default=1
        0: silent. Else: a progress bar.
    random_state : int, RandomState instance or None, default=None
        Decides weights, episodes and augmentation. Torch's and numpy's global
        random states are left alone.

    Attributes
    ----------
    net_ : GradientNet
        The trained skorch net; ``net_.module_`` is where adaptation starts, with
        the learned update rule as ``net_.module_.rule``.
    adapted_ : dict of str to Tensor
        Parameters adapted to the task last given to `adapt`.
    task_code_ : Tensor of shape (1, n_code)
        Code that `hook` gives that task; None without a hook. After `fit` with shared
        labels, the code of all training tasks taken for one.
    shared_labels_ : bool
        Whether episodes kept the labels of their tasks.
    temperature_ : float
        What the scores of adapted tasks are divided by in `predict_proba`, 1
        without `calibrate`. Probabilities before `adapt` are those of the ridge head,
        or of theta, and are not divided.
    novelty_threshold_ : float
        What `reject` refuses rows above, see `novelty_score`. None without.
    rejected_label_ : int or str
        Label of refused rows. None without `reject`.
    head_ : estimator
        Ridge head of the training rows, after `fit` and before `adapt`; none with
        shared labels.
    classes_ : ndarray of shape (n_classes,)
        Classes it predicts; with shared labels always those of `fit`.
    support_rows_, support_labels_ : ndarray
        Support rows and labels of the task last given to `adapt`, in the order given,
        which ``adapt(X, y, keep_classes=True)`` adds to.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Losses, validation accuracy and seconds of every epoch.
    n_features_in_ : int
        Length of the second axis of X.
    n_features_out_ : int
        Number of features of the backbone.

    See Also
    --------
    MAMLRegressor : The same for real targets.
    SparseMetaClassifier : Solves a convex head instead of taking steps.
    skcausalmeta.inspection.AdaptationCurveDisplay : Score against inner steps.

    Notes
    -----
    After `fit` it answers for the training classes by a ridge head on the features
    of theta, because these classes may outnumber the outputs of the network. With
    shared labels they do not: theta itself answers, which is the prediction for a task
    of which no label is known.
    Interrupting training with Ctrl-C keeps what was learned so far.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine (2017). Model-agnostic meta-learning for fast
       adaptation of deep networks. ICML.
    .. [2] S. Arnold, S. Iqbal, F. Sha (2021). When MAML can adapt fast and how to
       assist when it cannot. AISTATS.
    .. [3] A. Antoniou, H. Edwards, A. Storkey (2019). How to train your MAML. ICLR.
    .. [4] A. Nichol, J. Achiam, J. Schulman (2018). On first-order meta-learning
       algorithms. arXiv 1803.02999.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.backbones import MLP
    >>> from skcausalmeta.learners import MAMLClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> old, new = y < 6, y >= 6
    >>> learner = MAMLClassifier(
    ...     n_way=4,
    ...     backbone=MLP(hidden=(64,)),
    ...     max_epochs=3,
    ...     verbose=0,
    ...     random_state=0,
    ... ).fit(X[old], y[old])
    >>> learner.adapt(X[new][:40], y[new][:40]).classes_
    array([6, 7, 8, 9])
    >>> bool(learner.score(X[new][40:], y[new][40:]) > 0.7)
    True

    Tasks with a common label, the sign of a weighted sum; in each of them the first
    column weighs another amount. A new task is known before its first label, and
    one label of one class is enough to adapt:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X, tasks = rng.standard_normal((3000, 4)), np.repeat(np.arange(60), 50)
    >>> y = np.where(
    ...     X[:, 1] + X[:, 2] + rng.normal(size=60)[tasks] * X[:, 0] > 0, "yes", "no"
    ... )
    >>> train, new = tasks < 59, tasks == 59
    >>> learner = MAMLClassifier(max_epochs=1, verbose=0, random_state=0)
    >>> learner = learner.fit(X[train], y[train], tasks=tasks[train])
    >>> bool(learner.score(X[new], y[new]) > 0.7)
    True
    >>> learner.adapt(X[new][:1], y[new][:1]).classes_
    array(['no', 'yes'], dtype='<U3')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaClassifier._parameter_constraints,
        **GradientLearnerMixin._parameter_constraints,
        "hook": [EpisodeHook, None],
    }

    def __init__(
        self,
        update: str | UpdateRule = "sgd",
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        adapt_steps: int | None = None,
        first_order: bool = False,
        adapt_layers: str = "all",
        backbone: str | Backbone | nn.Module | Callable[..., nn.Module] = "auto",
        input_shape: tuple[int, ...] | None = None,
        n_way: int | str = "auto",
        n_shot: int | str | tuple[int, int] = "auto",
        n_query: int | str = "auto",
        tasks_per_batch: int = 4,
        batches_per_epoch: int = 20,
        max_epochs: int = 10,
        optimizer: Any = "adam",
        lr: float = 1e-3,
        augment: Any = None,
        batch_norm: str = "running",
        hook: EpisodeHook | None = None,
        across_envs: bool = False,
        shared_labels: bool | str = "auto",
        validation: float | ArrayLike | Validation | None = None,
        calibrate: int | str | None = None,
        reject: float | Rejection | None = None,
        fit_head: bool = True,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | Training | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.update = update
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.adapt_steps = adapt_steps
        self.first_order = first_order
        self.adapt_layers = adapt_layers
        self.backbone = backbone
        self.input_shape = input_shape
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.tasks_per_batch = tasks_per_batch
        self.batches_per_epoch = batches_per_epoch
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.augment = augment
        self.batch_norm = batch_norm
        self.hook = hook
        self.across_envs = across_envs
        self.shared_labels = shared_labels
        self.validation = validation
        self.calibrate = calibrate
        self.reject = reject
        self.fit_head = fit_head
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    # -- learning ----------------------------------------------------------------------

    def _solve_training(
        self, rows: NDArray[Any], targets: NDArray[Any], tasks: NDArray[Any] | None
    ) -> None:
        self.task_ = None
        if self.shared_labels_:
            numbers = np.searchsorted(self.training_classes_, targets)
            code = self._start_code(rows, numbers, len(self.training_classes_))
            self.task_ = StartTask(classes=self.training_classes_, code=code)
        elif self.fit_head:
            head = RidgeHead().fit(
                self._features(rows), targets, sample_weight=self._fit_weights
            )
            self.task_ = HeadTask(classes=head.classes_, head=head)

    def _solve(self, rows: NDArray[Any], targets: NDArray[Any]) -> AdaptedTask:
        classes, numbers = self._number_classes(targets)
        parameters, code = self._adapted(rows, numbers, len(classes))
        return AdaptedTask(classes=classes, parameters=parameters, code=code)

    def _number_classes(
        self, labels: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the classes of a task, all of `fit` if shared, and their numbers."""
        if self.shared_labels_:
            classes = self.training_classes_
            return classes, number_known_labels(labels, classes, self)
        classes, numbers = np.unique(labels, return_inverse=True)
        self._check_ways(len(classes))
        return classes, numbers

    def _check_ways(self, n_classes: int) -> None:
        most = self.net_.module_.output[-1].out_features
        if n_classes > most:
            raise InvalidInputError(
                f"A task may have at most the {most} classes that the network was "
                f"trained to tell apart. Got {n_classes} classes; fit with "
                f"n_way={n_classes}, or use SparseMetaClassifier, which takes any "
                "number."
            )

    # -- prediction --------------------------------------------------------------------

    def _logits(self, task: SolvedTask, rows: NDArray[Any]) -> NDArray[Any]:
        scores = task.scores(self, rows)
        if isinstance(task, NetTask) or scores.shape[1] > 2:
            return scores
        of_second = scores[:, 1] - scores[:, 0]
        return np.stack([-of_second, of_second], axis=1) / 2

    def _is_calibrated(self, task: SolvedTask) -> bool:
        # Learned on adapted nets, whose scores are not those of the start or a head.
        return isinstance(task, AdaptedTask)

    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Adapt to many tasks and predict their query rows.

        The learner itself stays as it is.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support)
            Their labels, at least two classes in every task; any of those
            of `fit` if they are shared.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.
        max_memory : int, default=None
            Bytes that the work may take beside the arguments and the answer, as
            estimated from the shapes: tasks are then solved in chunks, and stored
            arrays and memory maps are read by chunk. None: a thousand tasks at once.

        Returns
        -------
        ndarray of shape (n_tasks, n_query)
            Labels of the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree, a task has one class or too many, or an
            unknown label where labels are shared, or `max_memory` is less than one
            task takes.
        """
        if self.reject is not None:
            check_is_fitted(self)
            tasks = check_tasks(X_support, y_support, X_query)
            return self._predict_each(*tasks)
        return self._predict_by_step(
            X_support, y_support, X_query, staged=False, max_memory=max_memory
        )[-1]

    def staged_predict_episodes(
        self, X_support: ArrayLike, y_support: ArrayLike, X_query: ArrayLike
    ) -> NDArray[Any]:
        """Predict as `predict_episodes` does, before and after every inner step.

        Rows are not refused, whatever `reject` is.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support)
            Their labels, at least two classes in every task; any of those
            of `fit` if they are shared.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.

        Returns
        -------
        ndarray of shape (n_steps + 1, n_tasks, n_query)
            Labels of the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree, or a task has one class or too many, or an
            unknown label where labels are shared.
        """
        return self._predict_by_step(X_support, y_support, X_query, staged=True)

    def _encode(
        self, labels: NDArray[Any]
    ) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
        """Return class numbers (n_tasks, n_support) and the classes of every task."""
        if self.shared_labels_:
            check_sortable(labels.ravel(), "y_support")
            classes = self.training_classes_
            numbers = number_known_labels(labels, classes, self)
            return numbers, [classes] * len(labels)
        numbers, names = encode_tasks(labels)
        self._check_ways(max(map(len, names)))
        return numbers, names

    def _predict_by_step(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        staged: bool,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        check_is_fitted(self)
        support, labels, query = check_tasks(X_support, y_support, X_query)
        numbers, classes = self._encode(labels)
        ways = np.array([len(names) for names in classes])
        scores = self._scores_by_step(support, numbers, query, ways, staged, max_memory)
        winners = [
            names[scores[:, k, :, : len(names)].argmax(-1)]
            for k, names in enumerate(classes)
        ]  # (n_points, n_query) each
        return np.stack(winners, axis=1)
