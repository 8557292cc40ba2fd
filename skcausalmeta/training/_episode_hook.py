"""Hooks of the learners: transform the features of a task, add a loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..backbones import PreparedBackbone, n_features_out
from ..exceptions import InvalidInputError
from ..utils import isolated_torch_rng

# Names in the history of a net, so that they collide with none of skorch.
FACT_PREFIX = "hook_"
# Name of the seed that a hook is built under.
HOOK_SEED = "hook"
_ROWS_PER_BLOCK = 4


class EpisodeOutcome(NamedTuple):
    """Outcome of tasks of one shape, after their query rows were scored.

    Parameters
    ----------
    scores : Tensor of shape (n_tasks, n_query, n_classes) or (n_tasks, n_query)
        Scores of the query rows after adaptation to the support rows, as a function
        of the parts of the hook. Adapted parameters and features are constants,
        except that solved heads follow the hook exactly.
    targets : Tensor of shape (n_tasks, n_query)
        Class numbers or real targets.
    loss : callable
        ``loss(scores, targets)``, the query loss of the learner as a mean over the
        tasks.
    swap : callable or None
        ``swap(k)`` gives the scores and the targets of the support rows of the first
        k tasks after adaptation to (as many of) their query rows, with the
        backbone fixed. None where support and query are the same rows.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import EpisodeOutcome
    >>> scores, targets = torch.zeros(2, 3), torch.ones(2, 3)
    >>> outcome = EpisodeOutcome(scores, targets, torch.nn.MSELoss(), None)
    >>> print(float(outcome.loss(outcome.scores, outcome.targets)))
    1.0
    """

    scores: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    swap: Callable[[int], tuple[Tensor, Tensor]] | None


class EpisodeHook(nn.Module):
    """Transforms the features of a task between its backbone and its head.

    Pass an object of a subclass as ``hook=`` to a meta-learner, which works on a
    copy. In every task, in training and in prediction alike, ::

        code     = task_code(support features, support targets)
        features = transform(features, code)       of support and query rows

    stand between the backbone and the head or output layer. The code is taken
    once, from the features before any adaptation, and stays as it is while
    parameters adapt. A training step follows, with f the backbone and what the
    learner trains besides, and xi the parameters of the hook ::

        f  <- f  - lr  * grad_f  L_query(f, xi)
        xi <- xi - lr' * grad_xi ( L_query(f, xi) + extra_loss )

    both at the same point. The methods below are the whole contract; this base
    class leaves everything as it is.

    Attributes
    ----------
    out_features : int
        What `build` returned, set by the learner.
    every : int
        The parameters of the hook move, and `extra_loss` is called, in every so
        many steps; 0: never.

    Examples
    --------
    A learned scale per feature, drawn to 1:

    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.learners import MAMLClassifier
    >>> from skcausalmeta.training import EpisodeHook
    >>> class Scale(EpisodeHook):
    ...     def build(self, n_features):
    ...         self.scale = torch.nn.Parameter(torch.ones(n_features))
    ...         return n_features
    ...
    ...     def transform(self, features, code):
    ...         return features * self.scale
    ...
    ...     def extra_loss(self, codes, episodes):
    ...         term = (self.scale - 1).square().sum()
    ...         return term, {"scale": float(term.detach())}
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = MAMLClassifier(hook=Scale(), max_epochs=1, verbose=0, random_state=0)
    >>> sorted(learner.fit(X, y).history_[0])
    ['dur', 'epoch', 'scale', 'train_loss']
    """

    out_features: int = 0
    every: int = 1

    def build(self, n_features: int) -> int:
        """Create the learned parts; called once, before training, under a seed.

        Parameters
        ----------
        n_features : int
            Width of the features of the backbone.

        Returns
        -------
        int
            Width of what `transform` gives.
        """
        return n_features

    def task_code(self, support: Tensor, targets: Tensor, n_way: int) -> Tensor:
        """Return the codes of tasks.

        Parameters
        ----------
        support : Tensor of shape (n_tasks, n_support, n_features)
            Features of the support rows, constants.
        targets : Tensor of shape (n_tasks, n_support)
            Class numbers, or real targets.
        n_way : int
            Number of classes, 0 in regression.

        Returns
        -------
        Tensor of shape (n_tasks, n_code)
            n_code must not depend on the tasks.
        """
        return support.new_zeros(len(support), 0)

    def transform(self, features: Tensor, code: Tensor) -> Tensor:
        """Return the features of rows of tasks with a code.

        Parameters
        ----------
        features : Tensor of shape (..., n, n_features)
            Rows of one task, or of many with leading axes.
        code : Tensor of shape (..., n_code)
            Codes of these tasks.

        Returns
        -------
        Tensor of shape (..., n, out_features)
        """
        return features

    def extra_loss(
        self, codes: Tensor, episodes: Sequence[EpisodeOutcome]
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Return the loss that the hook minimises besides the query loss.

        Called once in a training step, after the query losses.

        Parameters
        ----------
        codes : Tensor of shape (n_tasks, n_code)
            Codes of all tasks of the step.
        episodes : sequence of EpisodeOutcome
            The same tasks in groups, in the order of `codes`.

        Returns
        -------
        loss : Tensor or None
            A scalar. None: nothing besides the query loss.
        facts : dict of str to float
            Values for the history of the learner, averaged over an epoch.
        """
        return None, {}

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of parts, by prefix of the parameter name.

        Returns
        -------
        dict of str to float
            Parts that are not named here get the rate of the learner.
        """
        return {}


class HookedFeatures(nn.Module):
    """Features of tasks, transformed by a hook if there is one.

    The one place that asks whether there is a hook: modules of the nets hold it as
    ``hooked``, and the nets and learners call it in either case.

    Parameters
    ----------
    hook : EpisodeHook, default=None
        Built. None: there are no codes, and features stay as they are.

    Attributes
    ----------
    is_active : bool
        Whether there is a hook.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import HookedFeatures
    >>> rows, hooked = torch.ones(1, 2, 3), HookedFeatures()
    >>> code = hooked.task_code(rows, torch.zeros(1, 2), 0)
    >>> print(code, hooked.transform(rows, code) is rows)
    None True
    """

    def __init__(self, hook: EpisodeHook | None = None) -> None:
        super().__init__()
        self.hook = hook
        self.is_active = hook is not None

    def refuse(self, rule: str, remedy: str) -> None:
        """Refuse a hook where it lacks something.

        Parameters
        ----------
        rule : str
            Rule that is broken by a hook, for the message.
        remedy : str
            What to do besides leaving the hook out.

        Raises
        ------
        InvalidInputError
            If there is a hook.
        """
        if self.hook is not None:
            raise InvalidInputError(
                f"{rule}, which a hook needs. Got hook={type(self.hook).__name__}; "
                f"{remedy} or use hook=None."
            )

    def width(self, n_features: int) -> int:
        """Return the width of the transformed features of a backbone."""
        return n_features if self.hook is None else self.hook.out_features

    def task_code(self, support: Tensor, targets: Tensor, n_way: int) -> Tensor | None:
        """Return the codes of tasks, their support features taken as constants."""
        if self.hook is None:
            return None
        return self.hook.task_code(support.detach(), targets, n_way)

    def transform(self, features: Tensor, code: Tensor | None) -> Tensor:
        """Return the transformed features of tasks with these codes."""
        if self.hook is None or code is None:
            return features
        return self.hook.transform(features, code)

    # -- training ----------------------------------------------------------------------

    def param_groups(self) -> list[tuple[str, dict[str, float]]]:
        """Return the parts with a learning rate of their own, as skorch names them."""
        if self.hook is None:
            return []
        rates = self.hook.learning_rates().items()
        return [(f"hooked.hook.{part}*", {"lr": lr}) for part, lr in rates]

    def has_turn(self, history: Any) -> bool:
        """Tell whether the parameters of the hook move in the step of a history."""
        if self.hook is None or not self.hook.every:
            return False
        epoch = history[-1]["batches"] if len(history) else [{}]
        return (len(epoch) - 1) % self.hook.every == 0

    def follow_extra_loss(
        self,
        history: Any,
        codes: Tensor,
        episodes: Sequence[EpisodeOutcome],
        through_codes: Tensor | None = None,
    ) -> None:
        """Add the gradient of the extra loss to that of the hook's parameters.

        Parameters
        ----------
        history : skorch.history.History
            Gets the facts of the extra loss.
        codes : Tensor of shape (n_tasks, n_code)
            Codes of all tasks of the step.
        episodes : sequence of EpisodeOutcome
            The same tasks in groups, in the order of `codes`.
        through_codes : Tensor of shape (n_tasks, n_code), default=None
            Gradient of the query loss in the codes, where its graph ends there.
        """
        if self.hook is None:
            return
        loss, facts = self.hook.extra_loss(codes, episodes)
        for name, value in facts.items():
            history.record_batch(FACT_PREFIX + name, value)
        outputs, weights = [], []
        if loss is not None and loss.requires_grad:
            outputs.append(loss)
            weights.append(torch.ones_like(loss))
        if through_codes is not None and codes.requires_grad:
            outputs.append(codes)
            weights.append(through_codes)
        parameters = [p for p in self.hook.parameters() if p.requires_grad]
        if not outputs or not parameters:
            return
        gradients = torch.autograd.grad(
            outputs, parameters, weights, retain_graph=True, allow_unused=True
        )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = (
                    gradient if parameter.grad is None else parameter.grad + gradient
                )

    def rest(self) -> None:
        """Keep the optimiser away from the hook in this step."""
        for parameter in self.parameters():
            parameter.grad = None

    # -- arrays ------------------------------------------------------------------------

    def codes_of(
        self, features: NDArray[Any], targets: NDArray[Any], n_way: int
    ) -> NDArray[Any] | None:
        """Return the codes (n_tasks, n_code) of tasks, float64; None without a hook.

        Parameters
        ----------
        features : ndarray of shape (n_tasks, n_support, d)
            Support features of the backbone.
        targets : ndarray of shape (n_tasks, n_support)
            Class numbers or real targets.
        n_way : int
            Classes of the tasks, 0 in regression.
        """
        if self.hook is None:
            return None
        kind = torch.int64 if n_way else torch.float32
        with torch.no_grad():
            code = self.hook.task_code(
                self._tensor(features), self._tensor(targets, kind), n_way
            )
        return code.double().cpu().numpy()

    def features_of(self, features: NDArray[Any], codes: NDArray[Any] | None) -> Any:
        """Return the transformed features (..., n, d) of tasks with codes, float64."""
        if self.hook is None or codes is None:
            return features
        n_rows = features.shape[-2]
        missing = -n_rows % _ROWS_PER_BLOCK
        if missing:
            # The last digits do not depend on which rows come together.
            copies = np.repeat(features[..., :1, :], missing, axis=-2)
            features = np.concatenate([features, copies], axis=-2)
        with torch.no_grad():
            found = self.hook.transform(self._tensor(features), self._tensor(codes))
        return found.double().cpu().numpy()[..., :n_rows, :]

    def episodes_of(
        self,
        support: NDArray[Any],
        targets: NDArray[Any],
        query: NDArray[Any],
        ways: NDArray[Any],
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the transformed support and query features of many tasks.

        Parameters
        ----------
        support, query : ndarray of shape (n_tasks, n, d)
            Features of the backbone.
        targets : ndarray of shape (n_tasks, n_support)
            Class numbers or real targets.
        ways : ndarray of shape (n_tasks,)
            Classes of every task, 0 in regression.
        """
        if self.hook is None:
            return support, query
        found = []
        for k, way in enumerate(ways):  # one by one, as `adapt` would
            one = slice(k, k + 1)
            code = self.codes_of(support[one], targets[one], int(way))
            found.append([self.features_of(X[one], code)[0] for X in (support, query)])
        return np.stack([one for one, _ in found]), np.stack([two for _, two in found])

    def _tensor(
        self, values: NDArray[Any], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        own = [*self.parameters(), *self.buffers()]
        device = own[0].device if own else None
        return torch.as_tensor(values, dtype=dtype, device=device)


def hooked_features(
    learner: Any, backbone: nn.Module, sample_shape: tuple[int, ...], seed: int
) -> HookedFeatures:
    """Build a copy of the hook of a learner for the features of its backbone.

    Parameters
    ----------
    learner : estimator
        Its parameter ``hook``, where it has one, is an `EpisodeHook`, which stays as
        it is, or None.
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    sample_shape : tuple of int
        Shape of a sample.
    seed : int
        Seed of what the hook learns.

    Returns
    -------
    HookedFeatures

    Raises
    ------
    InvalidInputError
        If the backbone runs in float16.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.training import hooked_features
    >>> learner = SparseMetaClassifier()
    >>> hooked_features(learner, nn.Linear(3, 2), (3,), 0).width(2)
    2
    """
    given = getattr(learner, "hook", None)
    if given is None:
        return HookedFeatures()
    if isinstance(backbone, PreparedBackbone) and backbone.precision == "float16":
        raise InvalidInputError(
            "precision='float16' scales the loss against small gradients that vanish, "
            "which the gradients of a hook are not part of. Got a hook; use "
            "precision='bfloat16', which needs no scale."
        )
    hook: EpisodeHook = copy.deepcopy(given)
    with isolated_torch_rng(seed):
        hook.out_features = hook.build(n_features_out(backbone, sample_shape))
    return HookedFeatures(hook)
