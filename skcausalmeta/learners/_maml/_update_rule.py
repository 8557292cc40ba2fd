"""Update rules of gradient-based learners: the contract, and plain steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
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
        """Return the parts of the rule that adapt within a task, none by default."""
        return {}

    @abstractmethod
    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return what to subtract from the parameters.

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


class SGDUpdate(UpdateRule):
    """Plain gradient steps, with a fixed or a learned rate.

    Parameters
    ----------
    learn_lr : bool, default=False
        Learn one rate per step and tensor [1]_.

    References
    ----------
    .. [1] A. Antoniou, H. Edwards, A. Storkey (2019). How to train your MAML. ICLR.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners import SGDUpdate
    >>> rule = SGDUpdate()
    >>> rule.build({"w": torch.zeros(2)}, n_steps=1, lr=0.5)
    >>> rule.direction({"w": torch.tensor([2.0, -3.0])}, {}, 0)
    {'w': tensor([ 1.0000, -1.5000])}
    """

    def __init__(self, learn_lr: bool = False) -> None:
        super().__init__()
        self.learn_lr = learn_lr

    def build(self, named: Named, n_steps: int, lr: float) -> None:
        """Create the rates, (n_steps, n_tensors) if learned."""
        self.lr = lr
        self.columns = {name: k for k, name in enumerate(named)}
        if self.learn_lr:
            rates = torch.full((n_steps, len(named)), float(lr))
            self.rates = nn.Parameter(rates)

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return rate times gradient; later steps than trained take the last rate."""
        if not self.learn_lr:
            return {name: self.lr * g for name, g in gradients.items()}
        rates = self.rates[min(step, len(self.rates) - 1)]
        return {name: rates[self.columns[name]] * g for name, g in gradients.items()}


def learned_copies(tensors: Named) -> nn.ParameterDict:
    """Return learned copies of tensors, by their `flat_name`."""
    copies = nn.ParameterDict()
    for name, tensor in tensors.items():
        copies[flat_name(name)] = nn.Parameter(tensor.detach().clone())
    return copies


def flat_name(name: str) -> str:
    """Return the name of a learned part: those of a ParameterDict hold no dots."""
    return name.replace(".", "/")
