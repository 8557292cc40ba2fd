"""Terms of the multi-task objective against definitions worked out another way."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners._mtcrl._experts import MLPExperts
from skcausalmeta.learners._mtcrl._objective import (
    balance,
    correlations,
    decorrelation,
    invariance,
    risk_weights,
    routing_gradients,
    shares,
    sparsity,
    task_slopes,
)
from skcausalmeta.learners._mtcrl._routing import RoutedExperts

RNG = np.random.default_rng(0)
A = torch.tensor(RNG.uniform(0.1, 0.9, (3, 4)))


def test_correlations_are_those_of_numpy():
    modules = torch.tensor(RNG.standard_normal((3, 50, 2)))
    expected = np.corrcoef(modules.permute(1, 0, 2).flatten(1).T)
    found = correlations(modules).reshape(6, 6)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    blocks = [
        expected[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        for i in range(3)
        for j in range(i)
    ]
    total = sum((block**2).sum() for block in blocks)
    assert decorrelation(modules).item() == pytest.approx(total, abs=1e-4)


def test_the_gradient_of_the_decorrelation_is_that_of_autograd():
    modules = torch.tensor(RNG.standard_normal((3, 20, 2))).requires_grad_()
    squares = correlations(modules).square().sum(dim=(1, 3))
    (expected,) = torch.autograd.grad(squares.triu(1).sum(), modules)
    (found,) = torch.autograd.grad(5 * decorrelation(modules), modules)
    np.testing.assert_allclose(found, 5 * expected, atol=1e-12)


def test_a_constant_unit_is_correlated_with_nothing():
    modules = torch.tensor(RNG.standard_normal((2, 20, 1)))
    modules[0] = 3.0
    assert decorrelation(modules).item() == 0.0


def test_entropies_are_those_of_scipy():
    rows = A.numpy()
    divided = shares(A)
    assert sparsity(divided).item() == pytest.approx(entropy(rows, axis=1).mean())
    mean = (rows / rows.sum(axis=1, keepdims=True)).mean(axis=0)
    assert balance(divided).item() == pytest.approx(-entropy(mean))
    one_each = shares(torch.eye(4, dtype=torch.double))
    assert sparsity(one_each).item() == pytest.approx(0, abs=1e-6)
    assert balance(one_each).item() == pytest.approx(-np.log(4))


def make_net():
    torch.manual_seed(0)
    return RoutedExperts(MLPExperts(5, 4), n_tasks=3, head_hidden=6).double()


@pytest.fixture
def problem():
    state = torch.get_rng_state()
    net = make_net()
    torch.set_rng_state(state)
    rows = torch.tensor(RNG.standard_normal((12, 5)))
    targets = torch.tensor(RNG.integers(2, size=(3, 12)) + 0.0)
    weights = torch.tensor(RNG.integers(2, size=(3, 12)) + 0.0)
    envs = torch.tensor([0, 1, 2] * 4)
    return net, rows, targets, weights, torch.nn.functional.one_hot(envs).T.bool()


def gradients_of(net, rows, targets, weights, members):
    passed = net(rows)
    slopes = task_slopes(passed.outputs, targets, [("binary", 2)] * 3)
    slopes = net.head_slopes(slopes, passed.routed)
    return routing_gradients(slopes, passed.modules, risk_weights(members, weights))


def test_one_pass_gives_the_gradients_of_every_risk_in_every_environment(problem):
    net, rows, targets, weights, members = problem
    passed = net(rows)
    found = gradients_of(*problem)
    # The definition: derivative of one risk at a time in a free matrix.
    A = net.routing_matrix().detach().requires_grad_()
    modules = passed.modules.detach()
    routed = torch.einsum("tk,knh->tnh", A, modules)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        net.heads(routed)[..., 0], targets, reduction="none"
    )
    for e in range(3):
        for t in range(3):
            part = members[e] * weights[t]
            risk = (loss[t] * part).sum() / part.sum().clamp_min(1)
            (slope,) = torch.autograd.grad(risk, A, retain_graph=True)
            np.testing.assert_allclose(found[e, t].detach(), slope[t], atol=1e-12)


def test_the_penalty_can_be_differentiated_in_all_weights(problem):
    net = problem[0]

    def penalty():
        return invariance(gradients_of(*problem) * net.routing_matrix(), "norm")

    for weight in (net.theta, net.experts.weights[0], net.head_weights[0]):
        (slope,) = torch.autograd.grad(penalty(), weight)
        place = np.unravel_index(int(slope.abs().argmax()), slope.shape)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
            values.append(penalty().item())
            with torch.no_grad():
                weight[place] -= step
        difference = (values[0] - values[1]) / 2e-5
        assert slope[place].item() == pytest.approx(difference, rel=1e-5)


def test_forms_of_the_penalty_by_hand():
    g = torch.tensor([[[1.0, 2.0]], [[3.0, 2.0]]])
    assert invariance(g, "norm").item() == 18
    assert invariance(g, "variance").item() == 2
    assert invariance(g, "unbiased", other=-g).item() == -18
    # Without a label in the third environment there is no gradient to vary.
    more = torch.cat([g, torch.zeros(1, 1, 2)])
    present = torch.tensor([[True], [True], [False]])
    assert invariance(more, "variance", present=present).item() == 2
    for form in ("l1", "unbiased"):
        with pytest.raises(InvalidInputError, match="must be one of"):
            invariance(g, form)


def test_two_halves_are_unbiased_and_the_norm_is_not():
    # Gradients of mean 0.1 and noise of variance 1 / n in each half.
    noise = RNG.standard_normal((20000, 2))
    g = torch.tensor(0.1 + noise)
    halves = (g[:, 0] * g[:, 1]).mean().item()
    whole = g.mean(dim=1).pow(2).mean().item()
    assert halves == pytest.approx(0.01, abs=0.03)
    assert whole == pytest.approx(0.01 + 0.5, abs=0.03)
