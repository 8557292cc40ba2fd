"""MAML and its relatives for classes."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...exceptions import InvalidInputError
from ...heads import RidgeHead
from ...training import EpisodeHook
from .._base import in_blocks
from .._classifier import BaseMetaClassifier
from .._tasks import check_tasks, encode_tasks
from ._learner import GradientLearnerMixin
from ._update_rule import UpdateRule

_SCORES_PER_BLOCK = 8


class MAMLClassifier(GradientLearnerMixin, BaseMetaClassifier):
    """Few-shot classifier that adapts by a few gradient steps.

    The start theta of the network, and whatever the update rule U learns, are
    trained so that a few steps on the support rows of a task classify its query
    rows ::

        min_{theta, U}  1/T sum_t  L_query,t(theta_K(t))
        theta_0(t) = theta,
        theta_{k+1}(t) = theta_k(t) - U(grad L_support,t(theta_k(t)))

    with L the mean cross-entropy. The gradient runs through the inner steps.

    Parameters
    ----------
    update : {"sgd", "meta-sgd", "meta-curvature", "kfo"} or UpdateRule, \
            default="sgd"
        What an inner step does with a gradient: `SGDUpdate`, `MetaSGDUpdate`,
        `MetaCurvatureUpdate`, `KFOUpdate`, or an object with the contract of
        `UpdateRule` (copied).
    update_params : dict, default=None
        Keywords of the named rule, such as ``{"psd": True}``.
    inner_steps : int, default=5
        Steps K of the inner loop in training.
    inner_lr : float, default=0.1
        Its learning rate.
    learn_inner_lr : bool, default=False
        Learn one rate per step and tensor, all `inner_lr` at first.
    adapt_steps : int, default=None
        Steps of `adapt` and `predict_episodes`. None: `inner_steps`.
    first_order : bool, default=False
        Drop the dependence of the inner gradients on theta: faster and less
        memory, not the gradient of the objective.
    adapt_layers : {"all", "head", "body"}, default="all"
        What moves within a task: everything (MAML), what follows the backbone
        (ANIL), or the backbone (BOIL). The rest is learned by the outer steps.
    linear_layers : int, default=0
        Linear layers between backbone and output. They add no capacity, but a
        shallow backbone is meta-trained better with them [2]_.
    outer : {"gradient", "reptile"}, default="gradient"
        Outer step along the gradient of the objective, or along the mean move
        ``theta - theta_K`` of the inner loops on all rows of the episodes [4]_.
    multi_step_epochs : int, default=0
        For so many epochs the loss after every inner step counts, its weight
        moving linearly to the last step [3]_.
    task_chunk_size : int or "auto", default="auto"
        Tasks that run at once, which bounds memory. "auto": one if the backbone
        convolves on a CPU, where that is faster, up to 64 elsewhere. Tasks run
        one by one wherever batch norm has weights and running averages.
    checkpoint : bool, default=False
        Keep only the parameters between inner steps and compute the steps again
        in the backward pass: less memory, more time. Running averages of a batch
        norm then move twice. Without effect if only the head is adapted.
    backbone : str, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features already), a `torch.nn.Module`
        (copied, its weights kept), or a class or function that returns one.
    backbone_params : dict, default=None
        Keywords of the backbone, such as ``{"n_blocks": 2}``.
    freeze_backbone : bool, default=False
        Neither adapt nor learn the backbone; a ready module keeps its statistics
        as well.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    n_way : int or "auto", default="auto"
        Classes of an episode, and the most that `adapt` can tell apart. "auto": 5,
        or all if there are fewer. With `tasks`: the most classes of a task.
    n_shot : int or "auto", default="auto"
        Support rows per class. "auto": half of the smallest class, at most 5.
    n_query : int or "auto", default="auto"
        Query rows per class. "auto": what the smallest class leaves, at most
        10. If `n_shot` or `n_query` is "auto", classes of a single row are
        left out of the episodes.
    tasks_per_batch : int, default=4
        Episodes of one training step.
    batches_per_epoch : int, default=20
        Training steps of one epoch.
    max_epochs : int, default=10
        Number of epochs.
    optimizer : {"adam", "adamw", "sgd"} or type, default="adam"
        Optimiser of the outer problem, or a class of `torch.optim`.
    lr : float, default=1e-3
        Its learning rate.
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        "running": statistics of the rows at hand in training, running averages
        after; layers without weights, as the one that standardises the input of
        `MLP`, have fixed statistics of the training rows. "episode": always
        those of the rows given together (support and query apart), as in the
        literature's MAML; predictions depend on which rows come together.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the output layer and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    early_stopping : bool, default=False
        Hold out classes (or tasks) and stop when accuracy on their episodes has not
        improved for `n_iter_no_change` epochs.
    validation_fraction : float, default=0.2
        Share of the classes (or tasks) to hold out.
    validation_classes : array-like, default=None
        Classes of y (or task ids, with `tasks`) to hold out instead. They are
        validated on after every epoch, and the best weights are restored, with
        or without early stopping.
    validation_episodes : int, default=100
        Number of validation episodes, the same after every epoch.
    n_iter_no_change : int, default=5
        Patience of early stopping, in epochs.
    calibrate : int or "auto", default=None
        Number of episodes that the temperature of `predict_proba` is learned on
        after training, 100 for "auto". They come from the held-out classes (or
        tasks) if there are such, by `early_stopping` or `validation_classes`; else
        from the training classes, whose rows the net knows, so that probabilities
        of new classes may stay too sure. None: a temperature of 1 at no cost.
        Classes, scores and training are the same either way.
    fit_head : bool, default=True
        Solve a ridge head on the features of the training rows at the end of
        `fit`, which then answers until `adapt`. False saves that time.
    callbacks : list, default=None
        Callbacks of skorch, such as `skorch.callbacks.GradientNormClipping`.
    checkpoint_path : str or path-like, default=None
        File in which training is saved after every epoch. If it is there, `fit` with
        the same parameters and data continues from it and ends in the same weights, to
        the last bit. None: training is not saved.
    warm_start : bool, default=False
        Begin `fit` with the weights of the fit before, if there was one.
    net_params : dict, default=None
        More keywords of `skorch.NeuralNet`, such as
        ``{"optimizer__weight_decay": 5e-4}``.
    device : str or torch.device, default="cpu"
        Where the net lives.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Number type of the operations of the backbone, where `torch.autocast` finds
        it safe. Its weights and features stay in float32, heads and losses as they
        are. "float16" needs a GPU, ``adapt_layers="head"`` and no `hook`, and scales
        the losses of training (`torch.amp.GradScaler`).
    compile : bool or dict, default=False
        Compile the backbone by `torch.compile`, with dynamic shapes, or with the
        given keywords such as ``{"mode": "reduce-overhead"}``;
        only with ``adapt_layers="head"``.
        Saved learners hold the plain backbone, and compile it when they are used.
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
        What `hook` keeps of that task; None without a hook.
    temperature_ : float
        What the scores of adapted tasks are divided by in `predict_proba`, 1
        without `calibrate`. The probabilities after `fit` are the ridge head's.
    head_ : estimator
        Ridge head of the training rows, after `fit` and before `adapt`.
    classes_ : ndarray of shape (n_classes,)
        Classes it predicts.
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
    of theta, because these classes may outnumber the outputs of the network.
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
    >>> from skcausalmeta.learners import MAMLClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> old, new = y < 6, y >= 6
    >>> learner = MAMLClassifier(
    ...     n_way=4,
    ...     backbone_params={"hidden": (64,)},
    ...     max_epochs=5,
    ...     verbose=0,
    ...     random_state=0,
    ... ).fit(X[old], y[old])
    >>> learner.adapt(X[new][:40], y[new][:40]).classes_
    array([6, 7, 8, 9])
    >>> bool(learner.score(X[new][40:], y[new][40:]) > 0.7)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaClassifier._parameter_constraints,
        **GradientLearnerMixin._parameter_constraints,
    }
    _of_a_task = (*BaseMetaClassifier._of_a_task, *GradientLearnerMixin._of_a_task)

    def __init__(
        self,
        update: str | UpdateRule = "sgd",
        *,
        update_params: dict[str, Any] | None = None,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        learn_inner_lr: bool = False,
        adapt_steps: int | None = None,
        first_order: bool = False,
        adapt_layers: str = "all",
        linear_layers: int = 0,
        outer: str = "gradient",
        multi_step_epochs: int = 0,
        task_chunk_size: int | str = "auto",
        checkpoint: bool = False,
        backbone: str | nn.Module | Callable[..., nn.Module] = "auto",
        backbone_params: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        input_shape: tuple[int, ...] | None = None,
        n_way: int | str = "auto",
        n_shot: int | str = "auto",
        n_query: int | str = "auto",
        tasks_per_batch: int = 4,
        batches_per_epoch: int = 20,
        max_epochs: int = 10,
        optimizer: str | type = "adam",
        lr: float = 1e-3,
        augment: Any = None,
        batch_norm: str = "running",
        hook: EpisodeHook | None = None,
        across_envs: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.2,
        validation_classes: ArrayLike | None = None,
        validation_episodes: int = 100,
        n_iter_no_change: int = 5,
        calibrate: int | str | None = None,
        fit_head: bool = True,
        callbacks: list[Any] | None = None,
        checkpoint_path: str | PathLike[str] | None = None,
        warm_start: bool = False,
        net_params: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        compile: bool | dict[str, Any] = False,
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.update = update
        self.update_params = update_params
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.adapt_steps = adapt_steps
        self.first_order = first_order
        self.adapt_layers = adapt_layers
        self.linear_layers = linear_layers
        self.outer = outer
        self.multi_step_epochs = multi_step_epochs
        self.task_chunk_size = task_chunk_size
        self.checkpoint = checkpoint
        self.backbone = backbone
        self.backbone_params = backbone_params
        self.freeze_backbone = freeze_backbone
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
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.validation_classes = validation_classes
        self.validation_episodes = validation_episodes
        self.n_iter_no_change = n_iter_no_change
        self.calibrate = calibrate
        self.fit_head = fit_head
        self.callbacks = callbacks
        self.checkpoint_path = checkpoint_path
        self.warm_start = warm_start
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.compile = compile
        self.verbose = verbose
        self.random_state = random_state

    # -- learning ----------------------------------------------------------------------

    def _learn(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> None:
        self._train(rows, targets, tasks, envs)
        self.classes_ = np.unique(targets)
        if self.fit_head:
            self.head_ = RidgeHead().fit(self._features(rows), targets)

    def _adapt(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        classes, codes = np.unique(targets, return_inverse=True)
        self._check_ways(len(classes))
        self._adapt_net(rows, codes)
        self.classes_ = classes

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

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes, the score of ``classes_[1]`` minus the other.
        """
        scores = self._class_scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        winners = self._class_scores(X).argmax(axis=1)
        return self.classes_[winners]

    @property
    def _temperature_in_use(self) -> float:
        # Learned on adapted nets, whose scores are not those of the ridge head.
        return self.temperature_ if hasattr(self, "adapted_") else 1.0

    def _class_scores(self, X: ArrayLike) -> NDArray[Any]:
        return self._logits(self._check_known_rows(X))

    def _logits(self, rows: NDArray[Any]) -> NDArray[Any]:
        self._check_has_task()
        if hasattr(self, "adapted_"):
            return self._adapted_scores(rows)[:, : len(self.classes_)]
        score = self.head_.decision_function
        scores = in_blocks(score, self._features(rows), _SCORES_PER_BLOCK)
        return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores

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
            Their labels, at least two classes in every task.
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
            If the shapes do not agree, a task has one class or too many, or
            `max_memory` is less than one task takes.
        """
        return self._predict_by_step(
            X_support, y_support, X_query, staged=False, max_memory=max_memory
        )[-1]

    def staged_predict_episodes(
        self, X_support: ArrayLike, y_support: ArrayLike, X_query: ArrayLike
    ) -> NDArray[Any]:
        """Predictions of `predict_episodes` before and after every inner step.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support)
            Their labels, at least two classes in every task.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.

        Returns
        -------
        ndarray of shape (n_steps + 1, n_tasks, n_query)
            Labels of the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree or a task has one class or too many.
        """
        return self._predict_by_step(X_support, y_support, X_query, staged=True)

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
        codes, classes = encode_tasks(labels)
        ways = np.array([len(names) for names in classes])
        self._check_ways(int(ways.max()))
        scores = self._scores_by_step(support, codes, query, ways, staged, max_memory)
        winners = [
            names[scores[:, k, :, : len(names)].argmax(-1)]
            for k, names in enumerate(classes)
        ]  # (n_points, n_query) each
        return np.stack(winners, axis=1)
