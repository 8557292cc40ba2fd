"""The inner loop and the update rules, against hand-derived gradients."""

import pytest
import torch

from skcausalmeta.learners import (
    KFOUpdate,
    MetaCurvatureUpdate,
    MetaSGDUpdate,
    SGDUpdate,
    UpdateRule,
)
from skcausalmeta.learners._maml._inner_loop import inner_loop

LR = 0.1
RULES = {
    "sgd": SGDUpdate,
    "sgd-learned": lambda: SGDUpdate(learn_lr=True),
    "meta-sgd": MetaSGDUpdate,
    "meta-curvature": MetaCurvatureUpdate,
    "kfo": KFOUpdate,
    "kfo-psd": lambda: KFOUpdate(psd=True),
    "kfo-bias": lambda: KFOUpdate(bias=True),
    "kfo-deep": lambda: KFOUpdate(2, bias=True),
    "kfo-adapted": lambda: KFOUpdate(adapt_transform=True),
}
# Those that start as plain gradient steps.
PLAIN = [name for name in RULES if name not in ("kfo-deep",)]


def network(seed=0):
    """A net with a kernel, a matrix, a vector and a number."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        value = torch.randn(shape, generator=generator, dtype=torch.float64) / 2
        return value.requires_grad_()

    return {
        "conv.weight": draw(3, 2, 2, 2),
        "conv.bias": draw(3),
        "out.weight": draw(2, 12),
        "scale": draw(),
    }


def make_loss(seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(5, 2, 3, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(5, 2, generator=generator, dtype=torch.float64)

    def loss(named):
        maps = torch.nn.functional.conv2d(
            images, named["conv.weight"], named["conv.bias"]
        )
        out = named["scale"] * maps.tanh().flatten(1) @ named["out.weight"].mT
        return (out - targets).square().mean()

    return loss


def built(name, parameters, n_steps=3):
    rule = RULES[name]()
    rule.build(parameters, n_steps, LR)
    return rule.double()


def noisy(rule, seed=3):
    """Learned parts away from where they start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in rule.parameters():
            noise = torch.randn(part.shape, generator=generator, dtype=part.dtype)
            part += 0.1 * noise
    return rule


@pytest.mark.parametrize("name", PLAIN)
def test_rules_start_as_plain_gradient_steps(name):
    parameters, loss = network(), make_loss()
    rule = built(name, parameters, n_steps=1)
    path = inner_loop(loss, parameters, rule, 1)
    gradients = torch.autograd.grad(loss(parameters), list(parameters.values()))
    for (key, value), gradient in zip(parameters.items(), gradients, strict=True):
        torch.testing.assert_close(path[-1][key], value - LR * gradient)


def test_kfo_at_the_identity_equals_sgd_exactly():
    parameters, loss = network(), make_loss()
    sgd = inner_loop(loss, parameters, built("sgd", parameters), 3)
    kfo = inner_loop(loss, parameters, built("kfo", parameters), 3)
    for key in parameters:
        assert torch.equal(sgd[-1][key], kfo[-1][key])


@pytest.mark.parametrize("n_steps", [1, 2, 5])
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_on_a_quadratic_is_the_hand_derived_one(n_steps, first_order):
    # L(w) = (w - a)'H(w - a) / 2: w_K - a = (I - lr H)^K (w - a)
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    hessian, goal = root @ root.mT / 3, torch.ones(3, dtype=torch.float64)
    w = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
    rule = SGDUpdate()
    rule.build({"w": w}, n_steps, LR)

    def loss(named):
        move = named["w"] - goal
        return move @ hessian @ move / 2

    path = inner_loop(loss, {"w": w}, rule, n_steps, first_order=first_order)
    outer = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (found,) = torch.autograd.grad(path[-1]["w"] @ outer, w)
    eye = torch.eye(3, dtype=torch.float64)
    step = torch.linalg.matrix_power(eye - LR * hessian, n_steps)
    torch.testing.assert_close(path[-1]["w"], goal + step @ (w - goal))
    torch.testing.assert_close(found, outer if first_order else step @ outer)


@pytest.mark.parametrize("name", RULES)
def test_meta_gradients_are_central_differences(name):
    parameters, loss, query = network(), make_loss(), make_loss(seed=2)
    rule = noisy(built(name, parameters))
    inputs = {**parameters, **dict(rule.named_parameters())}

    def outer():
        return query(inner_loop(loss, parameters, rule, 3)[-1])

    found = torch.autograd.grad(outer(), list(inputs.values()), allow_unused=True)
    generator = torch.Generator().manual_seed(5)
    for (key, tensor), gradient in zip(inputs.items(), found, strict=True):
        move = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        move /= move.norm()
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                tensor += sign * 1e-5 * move
            values.append(float(outer().detach()))
            with torch.no_grad():
                tensor -= sign * 1e-5 * move
        slope = (values[0] - values[1]) / 2e-5
        along = 0.0 if gradient is None else float((gradient * move).sum())
        assert along == pytest.approx(slope, rel=1e-6, abs=1e-9), key


@pytest.mark.parametrize("name", [name for name in RULES if name != "kfo-adapted"])
def test_first_order_is_the_detached_gradient(name):
    """Inner gradients as constants: the steps repeated with given gradients."""
    parameters, loss, query = network(), make_loss(), make_loss(seed=2)
    rule = noisy(built(name, parameters))
    path = inner_loop(loss, parameters, rule, 2, first_order=True)
    inputs = [*parameters.values(), *rule.parameters()]
    found = torch.autograd.grad(query(path[-1]), inputs, allow_unused=True)
    current = dict(parameters)
    for step in range(2):
        point = {key: value.detach().requires_grad_() for key, value in current.items()}
        fixed = torch.autograd.grad(loss(point), list(point.values()))
        moves = rule.direction(dict(zip(point, fixed, strict=True)), {}, step)
        current = {key: value - moves[key] for key, value in current.items()}
    expected = torch.autograd.grad(query(current), inputs, allow_unused=True)
    for one, two in zip(found, expected, strict=True):
        assert (one is None and two is None) or torch.equal(one, two)


@pytest.mark.parametrize("name", RULES)
def test_without_a_record_the_values_are_the_same_and_free(name):
    parameters, loss = network(), make_loss()
    rule = noisy(built(name, parameters))
    recorded = inner_loop(loss, parameters, rule, 4)
    with torch.no_grad():
        free = inner_loop(loss, parameters, rule, 4, record=False)
    for one, two in zip(recorded, free, strict=True):
        for key in parameters:
            torch.testing.assert_close(one[key], two[key])
            assert two[key].is_leaf


def test_psd_factors_give_descent_directions():
    parameters, loss = network(), make_loss()
    rule = built("kfo-psd", parameters)
    with torch.no_grad():
        for part in rule.parameters():
            part.normal_(generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(loss(parameters), list(parameters.values()))
    named = dict(zip(parameters, gradients, strict=True))
    for key, move in rule.direction(named, {}, 0).items():
        assert (move * named[key]).sum() >= 0


def test_adapted_factors_move_after_the_first_step():
    parameters, loss = network(), make_loss()
    still = inner_loop(loss, parameters, built("kfo", parameters), 2)
    moving = inner_loop(loss, parameters, built("kfo-adapted", parameters), 2)
    for key in parameters:
        torch.testing.assert_close(still[1][key], moving[1][key])
    assert not torch.allclose(still[2]["out.weight"], moving[2]["out.weight"])


def test_a_tensor_that_the_loss_ignores_stays():
    w, idle = (torch.ones(2, requires_grad=True) for _ in range(2))
    rule = SGDUpdate()
    rule.build({"w": w, "idle": idle}, 1, LR)
    path = inner_loop(lambda named: named["w"].sum(), {"w": w, "idle": idle}, rule, 1)
    assert torch.equal(path[-1]["idle"], idle)
    torch.testing.assert_close(path[-1]["w"], torch.full((2,), 1 - LR))


def test_learned_rates_of_later_steps_are_the_last_one():
    w = torch.ones(2, requires_grad=True)
    rule = SGDUpdate(learn_lr=True)
    rule.build({"w": w}, 2, LR)
    with torch.no_grad():
        rule.rates[:, 0] = torch.tensor([0.5, 0.25])
    path = inner_loop(lambda named: named["w"].sum(), {"w": w}, rule, 3)
    values = [float(point["w"][0].detach()) for point in path]
    assert values == [1.0, 0.5, 0.25, 0.0]


def test_an_update_rule_needs_its_methods():
    class Incomplete(UpdateRule):
        def build(self, named, n_steps, lr):
            """Nothing."""

    with pytest.raises(TypeError, match=r"abstract method '?direction"):
        Incomplete()
