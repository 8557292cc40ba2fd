"""The inner loop of gradient-based meta-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ._update_rule import Named

Loss = Callable[[Named], Tensor]


class Rule(Protocol):
    """Methods of an `UpdateRule` that the inner loop calls."""

    lr: float

    def start(self) -> Named: ...

    def direction(self, gradients: Named, fast: Named, step: int) -> Named: ...


@torch.enable_grad()
def inner_loop(
    loss: Loss,
    parameters: Named,
    rule: Rule,
    n_steps: int,
    *,
    first_order: bool = False,
    record: bool = True,
    recompute: bool = False,
) -> list[Named]:
    """Adapt parameters to one task by steps of an update rule.

    With support loss L, parameters theta and rule U ::

        theta_{k+1} = theta_k - U(grad L(theta_k)),      k = 0..n_steps-1

    Where the rule adapts parts xi of its own (`UpdateRule.start`), these follow
    the gradient of L(theta_k) from the second step on, before they are used.

    Parameters
    ----------
    loss : callable
        ``loss(parameters)``, the support loss.
    parameters : dict of str to Tensor
        Where to start: tensors that require gradients.
    rule : UpdateRule
        What to do with a gradient.
    n_steps : int
        Number of steps.
    first_order : bool, default=False
        Treat gradients as constants: their dependence on theta is dropped.
    record : bool, default=True
        Keep the graph from the adapted to the given parameters and those of the
        rule. False: for prediction, memory does not grow with the steps.
    recompute : bool, default=False
        Keep the parameters of every step only, and compute the step again in the
        backward pass, which then has to be ``backward()``. Not for rules that
        adapt parts of their own.

    Returns
    -------
    list of dict of str to Tensor
        Parameters before the first and after every step.

    Examples
    --------
    One step on ``(w - 3)^2 / 2`` at rate 0.1 contracts the distance to 3 by 0.9:

    >>> import torch
    >>> from skcausalmeta.learners import SGDUpdate
    >>> from skcausalmeta.learners._maml._inner_loop import inner_loop
    >>> w = torch.tensor(1.0, requires_grad=True)
    >>> rule = SGDUpdate()
    >>> rule.build({"w": w}, 1, 0.1)
    >>> path = inner_loop(lambda p: (p["w"] - 3) ** 2 / 2, {"w": w}, rule, 1)
    >>> print(f"{path[-1]['w']:.2f}")
    1.20
    >>> print(f"{torch.autograd.grad(path[-1]['w'], w)[0]:.2f}")
    0.90
    """
    current, fast = dict(parameters), rule.start()
    if not record:
        current, fast = _leaves(current), _leaves(fast)
    path = [current]
    second_order = record and not first_order
    for step in range(n_steps):
        if record and recompute:
            current = _recomputed(loss, current, rule, step, second_order)
        else:
            gradients, own = _gradients(loss, current, fast, second_order)
            if step:
                fast = {n: value - rule.lr * own[n] for n, value in fast.items()}
            if not record:
                current, fast = _leaves(current), _leaves(fast)
            moves = rule.direction(gradients, fast, step)
            current = {name: value - moves[name] for name, value in current.items()}
        # The next gradient in the rule's own parts walks back through this move.
        path.append(current if record else _leaves(current))
    return path


def _recomputed(
    loss: Loss, current: Named, rule: Rule, step: int, second_order: bool
) -> Named:
    names = tuple(current)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        point = dict(zip(names, values, strict=True))
        gradients, _ = _gradients(loss, point, {}, second_order)
        moves = rule.direction(gradients, {}, step)
        return tuple(value - moves[name] for name, value in point.items())

    values = checkpoint(run, *current.values(), use_reentrant=True)
    return dict(zip(names, values, strict=True))


def _gradients(
    loss: Loss, parameters: Named, fast: Named, second_order: bool
) -> tuple[Named, Named]:
    """Return gradients of the loss in the parameters and in the parts of the rule."""
    inputs = [*parameters.values(), *fast.values()]
    # A step that will be computed again runs without gradients at first.
    create_graph = second_order and torch.is_grad_enabled()
    with torch.enable_grad():
        found = torch.autograd.grad(
            loss(parameters),
            inputs,
            create_graph=create_graph,
            # The path to the rule's own parts is walked again by later gradients.
            retain_graph=create_graph or bool(fast),
            allow_unused=True,
        )
    # A parameter that the loss does not depend on stays where it is.
    filled = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(inputs, found, strict=True)
    ]
    split = len(parameters)
    return (
        dict(zip(parameters, filled[:split], strict=True)),
        dict(zip(fast, filled[split:], strict=True)),
    )


def _leaves(named: Named) -> Named:
    """Return the same values, cut from their graph."""
    return {name: t.detach().requires_grad_() for name, t in named.items()}
