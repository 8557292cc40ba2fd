"""Hooks of the learners: transform the features of a task, add a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn


class EpisodeOutcome(NamedTuple):
    """What a hook learns of tasks of one shape after their query rows were scored.

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
    """What happens to features between the backbone and the head of a task.

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
        """What is kept of a task.

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
        """Features of rows of tasks with a code.

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
        """What the parameters of the hook minimise besides the query loss.

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
        """Learning rates of parts, by prefix of the parameter name.

        Returns
        -------
        dict of str to float
            Parts that are not named here get the rate of the learner.
        """
        return {}
