"""Multi-task learning without spurious sharing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from ...exceptions import InvalidInputError
from .._checks import check_known_rows
from ._base import BaseMultiTask
from ._targets import TargetKind

# Turns the outputs (n, n_pixels, n_outputs) of a task into (n, [n_classes,] n_pixels).
Answer = Callable[[TargetKind, NDArray[Any]], NDArray[Any]]


def _answers_for_one_task(learner: MTCRLClassifier) -> bool:
    after_fit = "net_" in vars(learner) and learner.task_ is None
    if after_fit and learner.targets_.layout != "single":
        raise AttributeError(
            "decision_function answers for one task. Got a fit on "
            f"{len(learner.targets_.kinds)} tasks; use decision_by_task, predict_proba "
            "or adapt first."
        )
    return True


class MTCRLClassifier(ClassifierMixin, BaseMultiTask):
    """Multi-task classifier that does not borrow spurious features (MT-CRL).

    Task t predicts from a routed sum of shared modules, and the routing has to be
    optimal in every environment at once ::

        y_t = f_t( sum_k A_tk phi_k(x) ),     A = sigmoid(Theta)
        min  sum_t w_t L_t + lambda_dec sum_{i<j} || corr(phi_i, phi_j) ||_F^2
             + lambda_sps mean_t H(A_t / |A_t|) - lambda_bal H(mean_t A_t / |A_t|)
             + lambda_irm sum_e sum_t || grad_{A_t} R_t^e ||^2

    with H the entropy and R_t^e the risk of task t in environment e. A feature that
    helps a task in some environments only, through labels that a confounder ties,
    leaves a gradient in one of them and is routed away.

    Parameters
    ----------
    modules : {"mtcrl", "mmoe", "shared", "single"}, default="mtcrl"
        Routing. "mtcrl": as above. The others are baselines with the same modules
        and without the penalties of the graph: "mmoe": softmax gates that depend on
        the row; "shared": all modules serve all tasks, one wide shared net;
        "single": one module per task, which reads everything.
    n_modules : int, default=8
        Number K of modules; "single", and `module_inputs` unless it is "correlated",
        decide it themselves.
    expert : {"auto", "mlp", "conv"}, MLPExpert or ConvExpert, default="auto"
        The modules, and the heads f_t on them. "auto": convolutional
        encoder-decoders for targets per pixel, else fully connected. The parameters
        of an object such as ``MLPExpert(hidden=(16,))``, or of what "mlp" and "conv"
        stand for, are reached as ``expert__hidden`` and so on.
    module_inputs : array-like, "each" or "correlated", default=None
        Which values a module reads. None: all read all. An array (n_features,):
        the group (sensor, modality, patch) of every value, one module per group;
        (n_modules, n_features) booleans; "each": one module per value;
        "correlated": `n_modules` groups of values that vary together in every
        environment, found in the training rows. Fully connected modules only.
    input_shape : tuple, default=None
        Shape that rows are reshaped to.
    task_types : str or list of str, default=None
        "classification", "binary", "multiclass" or "regression", of all tasks or
        one per task. None: classification.
    task_weights : {"equal", "size", "uncertainty"} or array-like of shape \
(n_tasks,), default="equal"
        Weights w_t. "size": in proportion to the labels of a task. "uncertainty":
        every loss is divided by a variance that is learned [2]_.
    lambda_dec : float, default=0.01
        Weight of the decorrelation of modules.
    lambda_sps : float, default=0.1
        Weight of the sparsity of the routing.
    lambda_bal : float, default=0.1
        Weight of the balance of the modules.
    lambda_irm : float, default=1.0
        Weight of the graph invariance.
    irm_form : {"norm", "variance", "unbiased"}, default="norm"
        Squared norm of the gradients, their variance over environments, or the
        product of the gradients of two halves of a batch, which is free of the
        noise of the batch and can be negative.
    irm_scale : {"relative", "absolute", "logits", "outputs", "inputs"}, \
default="relative"
        What the gradients are taken in. "absolute": A, as in the formula; its norm is
        not zero at a module that a task leaves out. "relative": log A, and "logits":
        Theta; zero where a module is switched off, which makes leaving it out
        optimal. "outputs": a factor on the outputs of the task, which is plain
        invariant risk minimisation of the whole net [3]_. "inputs": a factor on every
        input of the task, a graph that routes inputs to tasks; ours, for modules that
        read everything. It costs a second derivative per task. The last two count for
        every `modules`.
    gradients : {"sum", "pcgrad", "gradvac"}, default="sum"
        How the gradients of the tasks are put together in the modules. "pcgrad":
        each loses what opposes that of another task [4]_. "gradvac": each is turned
        until its angles to the others are those seen before, on average [5]_.
        Both cost a backward pass per task. The penalties are added as they are.
    adapt_reg : float, default=0.1
        Strength of the sparsity of a new task in `adapt`: the share of the smallest
        value that leaves every module out.
    batch_size : int, default=256
        Rows of a training step. The invariance is estimated on a batch: large
        batches serve it better.
    max_epochs : int, default=40
        Passes over the rows.
    optimizer : {"adam", "adamw", "sgd"}, object or type, default="adam"
        Optimiser; an object such as ``Adam(weight_decay=1e-4)`` of
        `skcausalmeta.training`, whose parameters are reached as
        ``optimizer__weight_decay`` and so on; or a class of `torch.optim`.
    lr : float, default=5e-3
        Its learning rate.
    validation : float or Validation, default=None
        Share of the rows to hold out: training stops when their loss has not
        improved for 5 epochs, and the best weights are restored. A
        `skcausalmeta.training.Validation` says how many epochs.
    callbacks : list, default=None
        Callbacks of skorch.
    net_params : dict or Training, default=None
        How training runs: `skcausalmeta.training.Training`, or a dictionary of its
        parameters (checkpoint_path, warm_start) and of keywords of the net: those of
        `skorch.NeuralNet`; "warmup", the shares of training at which the weights of
        sparsity and invariance begin to rise and are reached, (0.2, 0.6) by default;
        "routing_lr", the learning rate of Theta, by default ``3 * lr``; and
        "temperature", what Theta is divided by at the end of that rise, in (0, 1],
        1 by default: small values make gates that are open or shut.
    device : str or torch.device, default="cpu"
        Where the net lives.
    verbose : int, default=0
        0: silent. Else: the table of skorch.
    random_state : int, RandomState instance or None, default=None
        Decides weights, order of the rows and folds.

    Attributes
    ----------
    net_ : MultiTaskNet
        The trained skorch net.
    routing_ : ndarray of shape (n_tasks, n_modules)
        Routing A; of "mmoe", the mean gate over training rows.
    module_inputs_ : ndarray of shape (n_modules, n_features) or None
        Whether a module reads a value; None: all read all.
    module_correlation_ : ndarray of shape (n_modules, n_modules)
        Root mean square correlation of the features of two modules.
    task_scores_ : ndarray of shape (n_tasks,)
        Accuracy or R^2 of every task on held-out rows with `validation`, else on
        the training rows.
    tasks_ : ndarray of shape (n_tasks,)
        Task ids, or column numbers.
    task_ : RoutedTask or None
        After `adapt`: the new task, with `coef`, `intercept`, `routing` (the norm of
        the weights of every module, 0 where it is left out) and `dual_gap`.
    dual_gap_ : float
        After `adapt`: objective minus its lower bound at the returned point.
    sparsity_ : float
        After `adapt`: share of the modules that the new task leaves out.
    history_ : list of dict
        Per epoch: loss, every term of the objective without its weight, seconds.
    n_iter_ : int
        Epochs trained.
    classes_ : ndarray or list of ndarray
        Classes; after `fit` on several tasks a list, None for regression.
    n_features_in_ : int
        Length of the second axis of X.

    See Also
    --------
    MTCRLRegressor : The same for values.

    References
    ----------
    .. [1] Z. Hu, Z. Zhao, X. Yi, T. Yao, L. Hong, Y. Sun, E. Chi (2022). Improving
       multi-task generalization via regularizing spurious correlation. NeurIPS.
    .. [2] A. Kendall, Y. Gal, R. Cipolla (2018). Multi-task learning using
       uncertainty to weigh losses. CVPR.
    .. [3] M. Arjovsky, L. Bottou, I. Gulrajani, D. Lopez-Paz (2019). Invariant risk
       minimization. arXiv 1907.02893.
    .. [4] T. Yu, S. Kumar, A. Gupta, S. Levine, K. Hausman, C. Finn (2020). Gradient
       surgery for multi-task learning. NeurIPS.
    .. [5] Z. Wang, Y. Tsvetkov, O. Firat, Y. Cao (2021). Gradient vaccine. ICLR.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_multi_sem
    >>> from skcausalmeta.learners import MTCRLClassifier
    >>> train = make_multi_sem(500, rho=(0.9, 0.2), random_state=0)
    >>> shifted = make_multi_sem(1000, rho=-0.9, random_state=1)
    >>> learner = MTCRLClassifier(module_inputs=train.groups, random_state=0)
    >>> learner.fit(train.data, train.target, envs=train.envs).routing_.shape
    (8, 4)
    >>> bool(learner.score(shifted.data, shifted.target) > 0.6)
    True
    """

    _default_type: ClassVar[str] = "classification"  # type: ignore[misc]
    # The mixin would count a row as right only where all of its tasks are.
    score = BaseMultiTask.score

    @property
    def classes_(self) -> Any:
        """Classes of the task, or of every task."""
        if self.task_ is not None:
            return self.task_.classes
        classes = [kind.classes for kind in self.targets_.kinds]
        return classes[0] if self.targets_.layout == "single" else classes

    @available_if(_answers_for_one_task)
    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Score the classes of one task, after `fit` on one or after `adapt`.

        With several tasks it is not there, as scikit-learn asks for one array then;
        see `decision_by_task`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the logarithm of the odds of ``classes_[1]``, else one
            score per class; per pixel the height and width are added.

        Raises
        ------
        InvalidInputError
            If the only task is a regression.
        """
        scores: NDArray[Any] = self._by_task(X, "decision_function", _decisions)
        return scores

    def decision_by_task(self, X: ArrayLike) -> list[NDArray[Any] | None]:
        """Score the classes of every task, as `decision_function` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        list of ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of every task of `fit`, or of the new task alone after `adapt`; None for
            regression; per pixel the height and width are added.
        """
        return self._each_task(X, _decisions)[0]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any] | list[NDArray[Any] | None]:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or list of such
            After `fit` on several tasks a list, None for regression; per pixel the
            shape is (n_samples, n_classes, height, width).

        Raises
        ------
        InvalidInputError
            If the only task is a regression.
        """
        found: NDArray[Any] | list[NDArray[Any] | None]
        found = self._by_task(X, "predict_proba", TargetKind.probabilities)
        return found

    def _by_task(self, X: ArrayLike, method: str, answer: Answer) -> Any:
        """Return the answers of several tasks as a list, else that of the only one."""
        found, single = self._each_task(X, answer)
        if not single:
            return found
        if found[0] is None:
            raise InvalidInputError(
                f"{method} needs a classification task. Got task_types="
                f"{self.task_types!r}; use predict."
            )
        return found[0]

    def _each_task(
        self, X: ArrayLike, answer: Answer
    ) -> tuple[list[NDArray[Any] | None], bool]:
        """Answer for every task, None for regression; tell if there is only one."""
        answers = self._answers(check_known_rows(self, X))
        found: list[NDArray[Any] | None] = []
        for kind, outputs in zip(answers.kinds, answers.outputs, strict=True):
            if kind.name == "regression":
                found.append(None)
                continue
            values = answer(kind, outputs)  # (n, [n_classes,] n_pixels)
            found.append(values.reshape(*values.shape[:-1], *self.targets_.pixels))
        return found, answers.single


def _decisions(kind: TargetKind, outputs: NDArray[Any]) -> NDArray[Any]:
    scores = kind.scores(outputs)
    return scores[:, 1] - scores[:, 0] if kind.name == "binary" else scores


class MTCRLRegressor(RegressorMixin, BaseMultiTask):
    """Multi-task regressor that does not borrow spurious features (MT-CRL).

    The objective is that of `MTCRLClassifier`, with squared errors on targets that
    are standardised task by task.

    Parameters
    ----------
    modules : {"mtcrl", "mmoe", "shared", "single"}, default="mtcrl"
        Routing. "mtcrl": as above. The others are baselines with the same modules
        and without the penalties of the graph: "mmoe": softmax gates that depend on
        the row; "shared": all modules serve all tasks, one wide shared net;
        "single": one module per task, which reads everything.
    n_modules : int, default=8
        Number K of modules; "single", and `module_inputs` unless it is "correlated",
        decide it themselves.
    expert : {"auto", "mlp", "conv"}, MLPExpert or ConvExpert, default="auto"
        The modules, and the heads f_t on them. "auto": convolutional
        encoder-decoders for targets per pixel, else fully connected. The parameters
        of an object such as ``MLPExpert(hidden=(16,))``, or of what "mlp" and "conv"
        stand for, are reached as ``expert__hidden`` and so on.
    module_inputs : array-like, "each" or "correlated", default=None
        Which values a module reads. None: all read all. An array (n_features,):
        the group (sensor, modality, patch) of every value, one module per group;
        (n_modules, n_features) booleans; "each": one module per value;
        "correlated": `n_modules` groups of values that vary together in every
        environment, found in the training rows. Fully connected modules only.
    input_shape : tuple, default=None
        Shape that rows are reshaped to.
    task_types : str or list of str, default=None
        "classification", "binary", "multiclass" or "regression", of all tasks or
        one per task. None: regression.
    task_weights : {"equal", "size", "uncertainty"} or array-like of shape \
(n_tasks,), default="equal"
        Weights w_t. "size": in proportion to the labels of a task. "uncertainty":
        every loss is divided by a variance that is learned [2]_.
    lambda_dec : float, default=0.01
        Weight of the decorrelation of modules.
    lambda_sps : float, default=0.1
        Weight of the sparsity of the routing.
    lambda_bal : float, default=0.1
        Weight of the balance of the modules.
    lambda_irm : float, default=1.0
        Weight of the graph invariance.
    irm_form : {"norm", "variance", "unbiased"}, default="norm"
        Squared norm of the gradients, their variance over environments, or the
        product of the gradients of two halves of a batch, which is free of the
        noise of the batch and can be negative.
    irm_scale : {"relative", "absolute", "logits", "outputs", "inputs"}, \
default="relative"
        What the gradients are taken in. "absolute": A, as in the formula; its norm is
        not zero at a module that a task leaves out. "relative": log A, and "logits":
        Theta; zero where a module is switched off, which makes leaving it out
        optimal. "outputs": a factor on the outputs of the task, which is plain
        invariant risk minimisation of the whole net [3]_. "inputs": a factor on every
        input of the task, a graph that routes inputs to tasks; ours, for modules that
        read everything. It costs a second derivative per task. The last two count for
        every `modules`.
    gradients : {"sum", "pcgrad", "gradvac"}, default="sum"
        How the gradients of the tasks are put together in the modules. "pcgrad":
        each loses what opposes that of another task [4]_. "gradvac": each is turned
        until its angles to the others are those seen before, on average [5]_.
        Both cost a backward pass per task. The penalties are added as they are.
    adapt_reg : float, default=0.1
        Strength of the sparsity of a new task in `adapt`: the share of the smallest
        value that leaves every module out.
    batch_size : int, default=256
        Rows of a training step. The invariance is estimated on a batch: large
        batches serve it better.
    max_epochs : int, default=40
        Passes over the rows.
    optimizer : {"adam", "adamw", "sgd"}, object or type, default="adam"
        Optimiser; an object such as ``Adam(weight_decay=1e-4)`` of
        `skcausalmeta.training`, whose parameters are reached as
        ``optimizer__weight_decay`` and so on; or a class of `torch.optim`.
    lr : float, default=5e-3
        Its learning rate.
    validation : float or Validation, default=None
        Share of the rows to hold out: training stops when their loss has not
        improved for 5 epochs, and the best weights are restored. A
        `skcausalmeta.training.Validation` says how many epochs.
    callbacks : list, default=None
        Callbacks of skorch.
    net_params : dict or Training, default=None
        How training runs: `skcausalmeta.training.Training`, or a dictionary of its
        parameters (checkpoint_path, warm_start) and of keywords of the net: those of
        `skorch.NeuralNet`; "warmup", the shares of training at which the weights of
        sparsity and invariance begin to rise and are reached, (0.2, 0.6) by default;
        "routing_lr", the learning rate of Theta, by default ``3 * lr``; and
        "temperature", what Theta is divided by at the end of that rise, in (0, 1],
        1 by default: small values make gates that are open or shut.
    device : str or torch.device, default="cpu"
        Where the net lives.
    verbose : int, default=0
        0: silent. Else: the table of skorch.
    random_state : int, RandomState instance or None, default=None
        Decides weights, order of the rows and folds.

    Attributes
    ----------
    net_ : MultiTaskNet
        The trained skorch net.
    routing_ : ndarray of shape (n_tasks, n_modules)
        Routing A; of "mmoe", the mean gate over training rows.
    module_inputs_ : ndarray of shape (n_modules, n_features) or None
        Whether a module reads a value; None: all read all.
    module_correlation_ : ndarray of shape (n_modules, n_modules)
        Root mean square correlation of the features of two modules.
    task_scores_ : ndarray of shape (n_tasks,)
        Accuracy or R^2 of every task on held-out rows with `validation`, else on
        the training rows.
    tasks_ : ndarray of shape (n_tasks,)
        Task ids, or column numbers.
    task_ : RoutedTask or None
        After `adapt`: the new task, with `coef`, `intercept`, `routing` (the norm of
        the weights of every module, 0 where it is left out) and `dual_gap`.
    dual_gap_ : float
        After `adapt`: objective minus its lower bound at the returned point.
    sparsity_ : float
        After `adapt`: share of the modules that the new task leaves out.
    history_ : list of dict
        Per epoch: loss, every term of the objective without its weight, seconds.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
        Length of the second axis of X.

    See Also
    --------
    MTCRLClassifier : The same for classes; has the objective.

    References
    ----------
    .. [1] Z. Hu, Z. Zhao, X. Yi, T. Yao, L. Hong, Y. Sun, E. Chi (2022). Improving
       multi-task generalization via regularizing spurious correlation. NeurIPS.
    .. [2] A. Kendall, Y. Gal, R. Cipolla (2018). Multi-task learning using
       uncertainty to weigh losses. CVPR.
    .. [3] M. Arjovsky, L. Bottou, I. Gulrajani, D. Lopez-Paz (2019). Invariant risk
       minimization. arXiv 1907.02893.
    .. [4] T. Yu, S. Kumar, A. Gupta, S. Levine, K. Hausman, C. Finn (2020). Gradient
       surgery for multi-task learning. NeurIPS.
    .. [5] Z. Wang, Y. Tsvetkov, O. Firat, Y. Cao (2021). Gradient vaccine. ICLR.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_multi_sem
    >>> from skcausalmeta.learners import MTCRLRegressor
    >>> train = make_multi_sem(500, kind="regression", random_state=0)
    >>> learner = MTCRLRegressor(module_inputs=train.groups, random_state=0)
    >>> learner.fit(train.data, train.target, envs=train.envs).predict(
    ...     train.data[:2]
    ... ).shape
    (2, 8)
    """

    _default_type: ClassVar[str] = "regression"  # type: ignore[misc]
    score = BaseMultiTask.score
