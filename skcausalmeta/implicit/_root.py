"""A solved problem as one differentiable operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def implicit_root(
    solve: Callable[..., tuple[Tensor, Any]],
    adjoint: Callable[..., Sequence[Tensor | None]],
    *inputs: Tensor,
) -> Tensor:
    """Value of ``solve(*inputs)``, differentiable through its optimality conditions.

    If w(theta) solves g(w, theta) = 0, then
    ``dw/dtheta = - (dg/dw)^-1 dg/dtheta``: `adjoint` applies the transpose of
    this to an incoming gradient. The iterations of `solve` are not recorded.

    Parameters
    ----------
    solve : callable
        ``solve(*inputs) -> (root, state)``, run without gradients. The state must
        not hold the tensor `root` itself (a detached one will do): the graph
        would keep itself alive.
    adjoint : callable
        ``adjoint(gradient, state, *inputs) -> gradients``, one per input, None
        where there is none.
    *inputs : Tensor
        What the root depends on.

    Returns
    -------
    Tensor
        The root.

    Raises
    ------
    RuntimeError
        On a second backward pass through the gradient: only first derivatives
        are offered.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.implicit import implicit_root
    >>> a = torch.tensor(4.0, requires_grad=True)
    >>> root = implicit_root(
    ...     lambda a: (a.sqrt(), a.sqrt()), lambda g, w, a: (g / (2 * w),), a
    ... )
    >>> root.backward()
    >>> a.grad
    tensor(0.2500)
    """
    return _ImplicitRoot.apply(solve, adjoint, *inputs)


class _ImplicitRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, solve: Any, adjoint: Any, *inputs: Tensor) -> Tensor:
        root, state = solve(*inputs)
        ctx.adjoint, ctx.state = adjoint, state
        ctx.save_for_backward(*inputs)
        return root

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        recorded = torch.is_grad_enabled()
        with torch.no_grad():
            gradients = ctx.adjoint(gradient, ctx.state, *ctx.saved_tensors)
        if recorded:
            gradients = [g if g is None else _refusing(g) for g in gradients]
        return (None, None, *gradients)


def _refusing(gradient: Tensor) -> Tensor:
    """The same values, with a graph that raises when it is differentiated.

    `once_differentiable` raises only if the incoming gradient is part of a graph;
    a sum of outputs would get a silent, wrong second derivative.
    """
    return _FirstOrderOnly.apply(gradient.new_zeros((), requires_grad=True), gradient)


class _FirstOrderOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, marker: Tensor, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        raise RuntimeError(
            "A solved head offers first derivatives only. Got a second backward "
            "pass through its gradient; drop create_graph=True or detach the gradient."
        )
