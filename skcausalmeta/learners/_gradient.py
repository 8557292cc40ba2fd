"""The inner loop of gradient-based meta-learning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._updates import Named, UpdateRule

Loss = Callable[[Named], Tensor]


@torch.enable_grad()
def inner_loop(
    loss: Loss,
    parameters: Named,
    rule: UpdateRule,
    n_steps: int,
    *,
    first_order: bool = False,
    record: bool = True,
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

    Returns
    -------
    list of dict of str to Tensor
        Parameters before the first and after every step.

    Examples
    --------
    One step on ``(w - 3)^2 / 2`` at rate 0.1 contracts the distance to 3 by 0.9:

    >>> import torch
    >>> from skcausalmeta.learners import SGDUpdate
    >>> from skcausalmeta.learners._gradient import inner_loop
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
    path = [current]
    for step in range(n_steps):
        gradients, own = _gradients(
            loss, current, fast, create_graph=record and not first_order
        )
        if step:
            rate = getattr(rule, "lr", 0.0)
            fast = {name: value - rate * own[name] for name, value in fast.items()}
        if not record:
            current = _leaves(current)
            fast = _leaves(fast)
        moves = rule.direction(gradients, fast, step)
        current = {name: value - moves[name] for name, value in current.items()}
        path.append(current)
    return path if record else [_leaves(point) for point in path]


def _gradients(
    loss: Loss, parameters: Named, fast: Named, *, create_graph: bool
) -> tuple[Named, Named]:
    """Gradients of the loss in the parameters and in the fast parts of the rule."""
    inputs = [*parameters.values(), *fast.values()]
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
    """The same values, cut from their graph."""
    return {name: t.detach().requires_grad_() for name, t in named.items()}
