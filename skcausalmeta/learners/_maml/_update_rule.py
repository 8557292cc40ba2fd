"""Update rules: what a gradient-based learner does with a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

Named = dict[str, Tensor]


class UpdateRule(nn.Module, ABC):
    """How adapted parameters move, given their gradients.

    The contract has three methods. Everything a rule learns across tasks is a
    parameter of this module, created by `build`, and trained by the optimiser of
    the outer problem together with the network.

    1. ``build(named, n_steps, lr)``: create the learned parts for the tensors that
       will be adapted. Called once, before training.
    2. ``start()``: what the rule itself adapts within a task, {} for nothing; it
       follows its own gradient at the rate ``lr``.
    3. ``direction(gradients, fast, step)``: what to subtract from the parameters, a
       differentiable function of its arguments and of what was learned. It takes
       later steps than `n_steps`, writes to nothing, and runs on many tasks at once
       (`torch.func.vmap`), so that it cannot branch on values.

    See Also
    --------
    check_update_rule : Runs the contract.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import UpdateRule
    >>> class Sign(UpdateRule):
    ...     def build(self, named, n_steps, lr):
    ...         self.lr = lr
    ...
    ...     def direction(self, gradients, fast, step):
    ...         return {name: self.lr * g.sign() for name, g in gradients.items()}
    >>> rule = Sign()
    >>> rule.build({}, 1, 0.5)
    >>> rule.direction({"w": torch.tensor([2.0, -3.0])}, rule.start(), 0)
    {'w': tensor([ 0.5000, -0.5000])}
    """

    lr: float = 0.0

    @abstractmethod
    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the learned parts.

        Parameters
        ----------
        named : dict of str to Tensor
            Tensors that will be adapted.
        n_steps : int
            Steps of the inner loop.
        lr : float
            Learning rate of the inner loop.
        """

    def start(self) -> Named:
        """Parts of the rule that are adapted within a task, none by default."""
        return {}

    @abstractmethod
    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """What to subtract from the parameters.

        Parameters
        ----------
        gradients : dict of str to Tensor
            Gradients of the support loss.
        fast : dict of str to Tensor
            What `start` gave, as it has been adapted since.
        step : int
            Number of the inner step, from 0.

        Returns
        -------
        dict of str to Tensor
        """
