"""Which predictor the invariance prefers: one on causal modules, or a pooled one.

Two factors of variance 1, tied with correlation rho_e in environment e, are seen by a
module each, with noise of variance 1; the target is the first factor. The best
predictor on the first module alone is the same in all environments, the best one on
both, over the environments together, is in none.
"""

import numpy as np
import pytest
import torch

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners._mtcrl._experts import ConvExperts, MLPExperts
from skcausalmeta.learners._mtcrl._objective import (
    in_variable,
    input_gradients,
    invariance,
    output_gradients,
    risk_weights,
    routing_gradients,
    row_losses,
    row_slopes,
    task_losses,
)
from skcausalmeta.learners._mtcrl._routing import RoutedExperts

RHO = (0.9, 0.2)
N = 12  # rows of an environment; their moments are exact
TIE = np.mean(RHO)
CAUSAL = [0.5, 0.0]
# The least squares [[2, TIE], [TIE, 2]] a = [1, TIE].
POOLED = np.linalg.solve([[2, TIE], [TIE, 2]], [1, TIE]).tolist()


def exact_rows():
    """Features of two modules (2, n, 1), targets (1, n) and environments (2, n)."""
    rng = np.random.default_rng(0)
    found = []
    for rho in RHO:
        white = rng.standard_normal((N, 3))
        white -= white.mean(axis=0)
        white = white @ np.linalg.inv(np.linalg.cholesky(white.T @ white / N)).T
        covariance = np.array([[2, rho, 1], [rho, 2, rho], [1, rho, 1.0]])
        found.append(white @ np.linalg.cholesky(covariance).T)
    rows = torch.tensor(np.concatenate(found))
    members = torch.arange(2)[:, None] == torch.arange(2 * N) // N
    return rows[:, :2].T[..., None], rows[:, 2][None], members


def penalty(routing, form, scale):
    modules, targets, members = exact_rows()
    rows = modules[..., 0].T.requires_grad_()  # a module shows an input as it is
    modules = rows.T[..., None]
    routing = torch.tensor([routing], dtype=torch.float64)
    outputs = torch.einsum("tk,knh->tnh", routing, modules)  # the head is the identity
    slopes = row_slopes(outputs, targets, "regression")
    weights = risk_weights(members, torch.ones_like(targets))
    if scale == "inputs":
        losses = row_losses(outputs, targets, "regression")
        products = input_gradients(losses, rows, rows)
        gradients = torch.einsum("etn,tnp->etp", weights, products)
    elif scale == "outputs":
        gradients = output_gradients(slopes, outputs, weights)
    else:
        found = routing_gradients(slopes, modules, weights)
        gradients = in_variable(found, routing, scale)
    return invariance(gradients, form, other=gradients).item()


RIGHT = [
    ("variance", "absolute"),
    *((form, "relative") for form in ("norm", "variance", "unbiased")),
    *((form, "logits") for form in ("norm", "variance", "unbiased")),
    *((form, "outputs") for form in ("norm", "variance", "unbiased")),
    *((form, "inputs") for form in ("norm", "variance", "unbiased")),
]


@pytest.mark.parametrize(("form", "scale"), RIGHT)
def test_the_causal_predictor_is_preferred(form, scale):
    causal, pooled = penalty(CAUSAL, form, scale), penalty(POOLED, form, scale)
    assert causal < 0.9 * pooled
    if scale != "absolute":
        assert causal == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("form", ["norm", "unbiased"])
def test_the_norm_in_the_routing_prefers_the_pooled_predictor(form):
    # A module that is left out has a gradient at 0 as long as it could help.
    causal, pooled = (penalty(one, form, "absolute") for one in (CAUSAL, POOLED))
    assert causal == pytest.approx(sum(rho**2 for rho in RHO))
    assert pooled < 0.5 * causal


def test_the_gradient_in_the_logits_is_that_of_autograd():
    modules, targets, members = exact_rows()
    theta = torch.tensor([[0.3, -1.2]], dtype=torch.float64, requires_grad=True)
    routing = theta.sigmoid()
    outputs = torch.einsum("tk,knh->tnh", routing, modules)
    slopes = row_slopes(outputs, targets, "regression")
    weights = risk_weights(members, torch.ones_like(targets))
    found = in_variable(routing_gradients(slopes, modules, weights), routing, "logits")
    for env in range(2):
        risk = (outputs[..., 0] - targets)[:, members[env]].square().mean()
        (expected,) = torch.autograd.grad(risk, theta, retain_graph=True)
        torch.testing.assert_close(found[env], expected)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_gradient_in_a_factor_on_the_outputs_is_that_of_autograd(kind):
    rng = np.random.default_rng(1)
    width = 3 if kind == "multiclass" else 1
    outputs = torch.tensor(rng.standard_normal((2, 10, width)))
    targets = torch.tensor(rng.integers(width if width > 1 else 2, size=(2, 10)) + 0.0)
    members = torch.arange(2)[:, None] == torch.arange(10) % 2
    weights = risk_weights(members, torch.ones_like(targets))
    found = output_gradients(row_slopes(outputs, targets, kind), outputs, weights)
    losses = {
        "binary": lambda s, y: torch.nn.functional.binary_cross_entropy_with_logits(
            s[:, 0], y
        ),
        "multiclass": lambda s, y: torch.nn.functional.cross_entropy(s, y.long()),
        "regression": lambda s, y: (s[:, 0] - y).square().mean(),
    }
    for env in range(2):
        for task in range(2):
            factor = torch.ones((), dtype=torch.float64, requires_grad=True)
            scores = factor * outputs[task][members[env]]
            risk = losses[kind](scores, targets[task][members[env]])
            (expected,) = torch.autograd.grad(risk, factor)
            torch.testing.assert_close(found[env, task, 0], expected)


@pytest.mark.parametrize("experts", [MLPExperts(4, 2), ConvExperts(1, 2, dense=False)])
def test_the_gradient_in_a_factor_on_an_input_is_that_of_autograd(experts):
    net = RoutedExperts(experts, n_tasks=2).double()
    rng = np.random.default_rng(2)
    rows = torch.tensor(rng.standard_normal((10, 1, 2, 2)))
    targets = torch.tensor(rng.integers(2, size=(2, 10)) + 0.0)
    experts.center += 0.3
    rows.requires_grad_()
    losses = task_losses(net(rows).outputs, targets, [("binary", 2)] * 2)
    found = input_gradients(losses, rows, experts.centred(rows)).mean(dim=1)
    for task in range(2):
        factors = torch.ones(4, dtype=torch.float64, requires_grad=True)
        scaled = 0.3 + factors.view(1, 2, 2) * (rows.detach() - 0.3)
        again = task_losses(net(scaled).outputs, targets, [("binary", 2)] * 2)
        (expected,) = torch.autograd.grad(again[task].mean(), factors)
        torch.testing.assert_close(found[task], expected)


def test_an_unknown_scale_is_named():
    with pytest.raises(InvalidInputError, match="'relative', 'absolute' or 'logits'"):
        in_variable(torch.ones(1, 1, 2), torch.ones(1, 2), "log")
