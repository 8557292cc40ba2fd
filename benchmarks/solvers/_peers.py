"""Peers in plain torch: converged FISTA + CG, and the published scheme.

Both know the formulas of the group-Lasso SVM only and share no code with the
library. For features F, one-hot Y and rows of B in the simplex ::

    V(B) = F'(Y - B),   W(B) = max(0, 1 - lambda1 / ||V_j||) V_j / lambda2
    D(B) = <1 - Y, B> - lambda2 / 2 ||W(B)||^2,   grad D = 1 - Y + F W(B)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.solvers._problems import Batch

_CHECK_EVERY = 10
_CG_TOL = 1e-8
_CG_STEPS = 1000


class Data(NamedTuple):
    """What the formulas need of a batch."""

    targets: Tensor
    lambda1: float
    lambda2: float


def data_of(batch: Batch) -> Data:
    return Data(batch.targets, batch.lambda1, batch.lambda2)


def coef_of(features: Tensor, dual: Tensor, data: Data) -> Tensor:
    """W(B), (n_tasks, n_features, n_classes), differentiable."""
    correlation = features.mT @ (data.targets - dual)
    if data.lambda1 == 0:
        return correlation / data.lambda2
    norms = torch.linalg.vector_norm(correlation, dim=-1, keepdim=True)
    # The quotient has no derivative where a feature is 0 on all rows.
    on = norms > data.lambda1
    kept = torch.where(on, 1.0 - data.lambda1 / torch.where(on, norms, 1.0), 0.0)
    return kept * correlation / data.lambda2


def dual_gradient(features: Tensor, dual: Tensor, data: Data) -> Tensor:
    return 1.0 - data.targets + features @ coef_of(features, dual, data)


def project(points: Tensor) -> Tensor:
    """Nearest points of the simplex, row by row."""
    ordered = points.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, points.shape[-1] + 1, dtype=points.dtype)
    excess = (ordered.cumsum(-1) - 1.0) / ranks.to(points.device)
    return torch.relu(points - excess.amax(-1, keepdim=True))


def step_size(features: Tensor, lambda2: float) -> Tensor:
    """lambda2 / sigma_max(F)^2 of every task, (n_tasks, 1, 1)."""
    sigma = torch.linalg.matrix_norm(features @ features.mT, ord=2)
    return (lambda2 / sigma)[:, None, None]


def uniform(batch: Batch) -> Tensor:
    return torch.full_like(batch.targets, 1.0 / batch.n_classes)


# -- converged FISTA + CG ---------------------------------------------------------


@torch.no_grad()
def solve_plain_fista(batch: Batch, tol: float, max_iter: int) -> Tensor:
    """B by accelerated projected gradient with restart, whole batch to the end."""
    features, data = batch.support, data_of(batch)
    step = step_size(features, data.lambda2)
    current = momentum = uniform(batch)
    theta = torch.ones_like(step)
    for iteration in range(1, max_iter + 1):
        following = project(momentum + step * dual_gradient(features, momentum, data))
        move = following - current
        restart = ((momentum - following) * move).sum((-2, -1), keepdim=True) > 0
        theta = torch.where(restart, 1.0, theta)
        larger = (1.0 + torch.sqrt(1.0 + 4.0 * theta**2)) / 2.0
        momentum = following + torch.where(restart, 0.0, (theta - 1.0) / larger) * move
        current, theta = following, larger
        if iteration % _CHECK_EVERY == 0 and _converged(features, current, data, tol):
            break
    return current


def _converged(features: Tensor, dual: Tensor, data: Data, tol: float) -> bool:
    coef = coef_of(features, dual, data)
    scores = features @ coef
    margins = (scores + 1.0 - data.targets).amax(-1) - (scores * data.targets).sum(-1)
    ridge = data.lambda2 / 2 * coef.square().sum((-2, -1))
    lasso = data.lambda1 * torch.linalg.vector_norm(coef, dim=-1).sum(-1)
    primal = margins.sum(-1) + ridge + lasso
    value = ((1.0 - data.targets) * dual).sum((-2, -1)) - ridge
    return bool((primal - value <= tol * primal).all())


class _ImplicitCoef(torch.autograd.Function):
    """W(B) of a solved B; backward by CG on the face of the simplices."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, dual: Tensor, data: Data) -> Tensor:
        ctx.save_for_backward(features, dual)
        ctx.data = data
        return coef_of(features, dual, data)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        features, dual = ctx.saved_tensors
        solution = _adjoint(features, dual, ctx.data, gradient)
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            coef = coef_of(leaf, dual, ctx.data)
            total = (gradient * coef).sum() + (solution * (leaf @ coef)).sum()
            (out,) = torch.autograd.grad(total, leaf)
        return out, None, None


def fista_cg_coef(
    batch: Batch, support: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """W, differentiable in the support features, and B."""
    dual = solve_plain_fista(batch, tol, max_iter)
    return _ImplicitCoef.apply(support, dual, data_of(batch)), dual


def _adjoint(features: Tensor, dual: Tensor, data: Data, gradient: Tensor) -> Tensor:
    """u with P H P u = P (dW/dB)'G: P keeps to the free entries, row sums 0."""
    free = (dual > 0).to(dual.dtype)
    count = free.sum(-1, keepdim=True)
    correlation = features.mT @ (data.targets - dual)
    norms = torch.linalg.vector_norm(correlation, dim=-1, keepdim=True)
    on = norms > data.lambda1
    ratio = torch.where(on, data.lambda1 / norms, 1.0)
    unit = torch.where(on, correlation / norms, 0.0)

    def face(matrix: Tensor) -> Tensor:
        matrix = matrix * free
        return matrix - free * (matrix.sum(-1, keepdim=True) / count)

    def curvature(matrix: Tensor) -> Tensor:
        along = (unit * matrix).sum(-1, keepdim=True) * unit
        return ((1.0 - ratio) * matrix + ratio * along) / data.lambda2

    def hessian(matrix: Tensor) -> Tensor:
        return face(features @ curvature(features.mT @ matrix))

    right = face(-(features @ curvature(gradient)))
    return _conjugate_gradient(hessian, right, _CG_STEPS, _CG_TOL)


def _conjugate_gradient(
    product: Any, right: Tensor, max_iter: int, tol: float
) -> Tensor:
    """CG on all tasks at once, until every residual is small."""
    solution, residual, direction = torch.zeros_like(right), right, right
    square = residual.square().sum((-2, -1), keepdim=True)
    goal = tol**2 * square
    for _ in range(max_iter):
        if bool((square <= goal).all()):
            break
        image = product(direction)
        slope = (direction * image).sum((-2, -1), keepdim=True)
        length = torch.where(slope > 0, square / slope, 0.0)
        solution = solution + length * direction
        residual = residual - length * image
        following = residual.square().sum((-2, -1), keepdim=True)
        direction = residual + torch.where(square > 0, following / square, 0.0) * (
            direction
        )
        square = following
    return solution


# -- published scheme -------------------------------------------------------------


def _published_coef_of(features: Tensor, dual: Tensor, data: Data) -> Tensor:
    """W(B) as published: a feature that is 0 on all rows has a NaN derivative."""
    correlation = features.mT @ (data.targets - dual)
    if data.lambda1 == 0:
        return correlation / data.lambda2
    norms = torch.linalg.vector_norm(correlation, dim=-1, keepdim=True)
    return torch.relu(1.0 - data.lambda1 / norms) * correlation / data.lambda2


def _published_step(features: Tensor, dual: Tensor, data: Data, step: Tensor) -> Tensor:
    ascent = 1.0 - data.targets + features @ _published_coef_of(features, dual, data)
    return project(dual + step * ascent)


class _Published(torch.autograd.Function):
    """B after some projected gradient steps T; hypergradient of ``B = T(B)``.

    The adjoint system ``(I - T_B)' u = v`` is solved by a few CG steps on its
    normal equations with a ridge, all tasks as one vector. The ridge is a
    thousandth of the Lipschitz constant.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, batch: Batch, n_steps: int, n_cg: int, lean: bool
    ) -> Tensor:
        data = data_of(batch)
        step = step_size(features, data.lambda2)
        dual = uniform(batch)
        for _ in range(n_steps):
            dual = _published_step(features, dual, data, step)
        ctx.save_for_backward(features, dual, step)
        ctx.data, ctx.n_cg, ctx.lean = data, n_cg, lean
        return dual

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, dual, step = ctx.saved_tensors
        products = _lean_products if ctx.lean else _transform_products

        def move(point: Tensor, rows: Tensor) -> Tensor:
            return _published_step(rows, point, ctx.data, step)

        push, pull, pull_features = products(move, dual, features)

        def normal(vector: Tensor) -> Tensor:
            inner = vector - pull(vector)
            return inner - push(inner) + ridge * vector

        ridge = 1e-3 / step.max()
        solution = _joint_cg(normal, gradient - push(gradient), ctx.n_cg)
        return pull_features(solution), None, None, None, None


def published_coef(
    batch: Batch, support: Tensor, n_steps: int, n_cg: int, lean: bool = False
) -> tuple[Tensor, Tensor]:
    """W of the published scheme, differentiable in its way, and B.

    `lean` takes the products with the Jacobian of T from one recorded graph in
    the place of the function transforms of the release: the same numbers.
    """
    dual = _Published.apply(support, batch, n_steps, n_cg, lean)
    return _published_coef_of(support, dual, data_of(batch)), dual


def _transform_products(move: Any, dual: Tensor, features: Tensor) -> tuple[Any, ...]:
    """Products with T_B, T_B' and T_F' by torch.func."""
    pull = torch.func.vjp(move, dual, features)[1]
    zeros = torch.zeros_like(features)

    def push(vector: Tensor) -> Tensor:
        return torch.func.jvp(move, (dual, features), (vector, zeros))[1]

    return push, lambda vector: pull(vector)[0], lambda vector: pull(vector)[1]


def _lean_products(move: Any, dual: Tensor, features: Tensor) -> tuple[Any, ...]:
    """The same products by a second derivative of one recorded graph."""
    with torch.enable_grad():
        point = dual.detach().requires_grad_()
        rows = features.detach().requires_grad_()
        moved = move(point, rows)
        # T_B u is the derivative of w -> <T_B' w, u>.
        probe = torch.zeros_like(dual, requires_grad=True)
        (pulled,) = torch.autograd.grad(moved, point, probe, create_graph=True)

    def along(output: Tensor, source: Tensor, vector: Tensor) -> Tensor:
        return torch.autograd.grad(output, source, vector, retain_graph=True)[0]

    return (
        lambda vector: along(pulled, probe, vector),
        lambda vector: along(moved, point, vector),
        lambda vector: along(moved, rows, vector),
    )


def _joint_cg(product: Any, right: Tensor, n_steps: int) -> Tensor:
    solution, residual, direction = torch.zeros_like(right), right, right
    square = residual.square().sum()
    for _ in range(n_steps):
        image = product(direction)
        length = square / (direction * image).sum()
        solution = solution + length * direction
        residual = residual - length * image
        following = residual.square().sum()
        direction = residual + following / square * direction
        square = following
    return solution
