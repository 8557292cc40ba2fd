"""The contract of update rules: every rule keeps it, and broken ones are found."""

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import (
    KFOUpdate,
    MetaCurvatureUpdate,
    MetaSGDUpdate,
    SGDUpdate,
    TNetUpdate,
    UpdateRule,
    WarpGradUpdate,
    check_update_rule,
)
from skcausalmeta.learners._maml._check_update_rule import _RULES
from skcausalmeta.utils import package_definitions

FOUND = [
    one
    for _, one in package_definitions()
    if inspect.isclass(one)
    and issubclass(one, UpdateRule)
    and not inspect.isabstract(one)
]


def variants(cls):
    """The rule as it comes, and with one choice after the other made otherwise."""
    yield cls()
    for name, parameter in inspect.signature(cls).parameters.items():
        if isinstance(parameter.default, bool):
            yield cls(**{name: not parameter.default})


RULES = [
    *(rule for cls in FOUND for rule in variants(cls)),
    KFOUpdate(2),
    KFOUpdate(kernels="flat"),
    KFOUpdate(1, psd=True, bias=True, adapt_transform=True),
]


def described(rule):
    names = inspect.signature(type(rule)).parameters
    params = (f"{name}={getattr(rule, name)}" for name in names if hasattr(rule, name))
    return "-".join([type(rule).__name__, *params])


@pytest.mark.parametrize("rule", RULES, ids=described)
def test_every_rule_keeps_the_contract(rule):
    before = copy.deepcopy(vars(rule))
    check_update_rule(rule)
    assert repr(vars(rule)) == repr(before)


def test_discovery_finds_the_rules():
    assert {SGDUpdate, MetaSGDUpdate, MetaCurvatureUpdate, KFOUpdate} <= set(FOUND)
    learned = [rule for rule in RULES if getattr(rule, "learn_lr", False)]
    assert [type(rule) for rule in learned] == [SGDUpdate]


def test_a_rule_that_is_built_already_may_be_checked():
    rule = KFOUpdate()
    rule.build({"w": torch.ones(2)}, 3, 0.2)
    check_update_rule(rule)
    assert list(rule.factors) == ["w/left0", "w/right0"]
    assert rule.lr == 0.2


@pytest.mark.parametrize("n_hidden", [-1, 1.0])
def test_kfo_refuses_numbers_of_layers_that_are_none(n_hidden):
    with pytest.raises(InvalidInputError, match=f"int >= 0. Got {n_hidden}"):
        KFOUpdate(n_hidden)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(KFOUpdate, "psdd"), (SGDUpdate, "psd"), (MetaSGDUpdate, "args")],
)
def test_parameters_that_a_rule_lacks_are_refused_by_name(kind, name):
    with pytest.raises(TypeError, match=f"'{name}'"):
        kind(**{name: 1})


class Fine(UpdateRule):
    """A rate for every tensor, and a factor that is adapted within a task."""

    def build(self, named, n_steps, lr):
        self.lr = lr
        rates = torch.full((n_steps, len(named)), lr, dtype=torch.float64)
        self.rates = nn.Parameter(rates)
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def start(self):
        return {"factor": self.factor}

    def direction(self, gradients, fast, step):
        rates = self.rates[min(step, len(self.rates) - 1)]
        pairs = zip(gradients.items(), rates, strict=True)
        return {name: rate * fast["factor"] * g for (name, g), rate in pairs}


class InTheMemoryOfTheTensors(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        self.scale = nn.Parameter(named["scale"])


class Undefined(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        self.rates.data[0, 0] = float("nan")


class OfAnotherRandomState(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        self.factor.data += np.random.default_rng().normal()


class Forgetful(Fine):
    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        return {name: found[name] for name in list(found)[1:]}


class Reshaping(Fine):
    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        return {name: move.flatten() for name, move in found.items()}


class Rounding(Fine):
    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        return {name: move.float() for name, move in found.items()}


class Infinite(Fine):
    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        return {name: move / 0.0 for name, move in found.items()}


class Short(Fine):
    def direction(self, gradients, fast, step):
        rates = self.rates[step]
        pairs = zip(gradients.items(), rates, strict=True)
        return {name: rate * fast["factor"] * g for (name, g), rate in pairs}


class WritesToGradients(Fine):
    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        for g in gradients.values():
            g.detach().mul_(2.0)
        return found


class WritesToTensors(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        named["scale"].zero_()


class WritesToItself(Fine):
    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        self.rates.data += 1.0
        return found


class WithMomentum(Fine):
    last = None

    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        old, self.last = self.last, {n: m.detach() for n, m in found.items()}
        return found if old is None else {n: found[n] + old[n] for n in found}


class CutFromTheGradients(Fine):
    def direction(self, gradients, fast, step):
        cut = {name: g.detach() for name, g in gradients.items()}
        return super().direction(cut, fast, step)


class CutFromWhatIsLearned(Fine):
    def start(self):
        return {"factor": self.factor.detach()}


class WithAnIdlePart(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        self.idle = nn.Parameter(torch.zeros(3))


class DeafToItsStart(Fine):
    def direction(self, gradients, fast, step):
        return super().direction(gradients, self.start(), step)


class WithoutRate(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        self.lr = 0.0


class Sharing(Fine):
    def __deepcopy__(self, memo):
        return copy.copy(self)


class Secretive(Fine):
    def build(self, named, n_steps, lr):
        super().build(named, n_steps, lr)
        self.secret = torch.rand(())

    def direction(self, gradients, fast, step):
        found = super().direction(gradients, fast, step)
        return {name: move * self.secret for name, move in found.items()}


class OneByOne(Fine):
    def direction(self, gradients, fast, step):
        sign = 1.0 if bool(gradients["scale"].detach() > 0) else -1.0
        found = super().direction(gradients, fast, step)
        return {name: sign * move for name, move in found.items()}


BROKEN = {
    InTheMemoryOfTheTensors: "share no memory.* Got 'scale' in the memory of 'scale'",
    Undefined: "finite learned parts.* undefined values in 'rates'",
    OfAnotherRandomState: "random state alone. Got other learned parts",
    Forgetful: "give every name, and no other, .* Got the names",
    Reshaping: r"tensor of its shape. Got shape \(24,\)",
    Rounding: "tensor of its shape. .*torch.float32 for the gradient of",
    Infinite: "a finite tensor .* Got infinite or undefined values for",
    Short: "later steps than the rule was built for. Got IndexError",
    WritesToGradients: "must stay as it was.* Got other gradients after direction",
    WritesToTensors: "must stay as it was.* Got other tensors after build",
    WritesToItself: "must stay as it was.* Got other learned parts after direction",
    WithMomentum: "on its arguments and on what was learned alone. Got another",
    CutFromTheGradients: "must be differentiable in the gradients.* Got Gradcheck",
    CutFromWhatIsLearned: "differentiable .* in what is learned. Got Gradcheck",
    WithAnIdlePart: "must matter to some step of training. Got 'idle'",
    DeafToItsStart: "direction must follow it. Got the same .* another 'factor'",
    WithoutRate: r"adapted at the rate lr.* Got lr=0.0 after build with lr=0.1",
    Sharing: "deep copy .* Got another direction after the copy was trained",
    Secretive: "state_dict must hold all that was learned. Got another direction",
    OneByOne: r"many tasks at once \(torch.func.vmap\).* Got RuntimeError",
}


def test_a_sound_rule_passes():
    check_update_rule(Fine())


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_every_broken_rule_is_found_and_told(kind):
    with pytest.raises(AssertionError, match=f"(?s)^{kind.__name__} .*{BROKEN[kind]}"):
        check_update_rule(kind())


def test_every_rule_of_the_contract_can_fail():
    told = set()
    for kind in BROKEN:
        with pytest.raises(AssertionError) as caught:
            check_update_rule(kind())
        told |= {rule for rule in _RULES if rule.__doc__ in str(caught.value)}
    assert told == set(_RULES)


# -- what the rules of the literature are ---------------------------------------------

KERNEL = torch.tensor(np.random.default_rng(0).standard_normal((4, 3, 2, 2)))


def perturbed(rule, named):
    """The rule built for some tensors, its learned parts moved away from the start."""
    rule.build(named, 1, 0.5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in rule.parameters():
            noise = torch.randn(part.shape, generator=generator, dtype=torch.float64)
            part += 0.3 * noise.to(part)
    return rule


def test_kernels_of_kfo_share_their_factors_over_the_outputs():
    rule = perturbed(KFOUpdate(psd=True), {"w": KERNEL})
    left, right = rule.factors["w/left0"], rule.factors["w/right0"]
    assert left.shape == (3, 3)
    assert right.shape == (4, 4)
    found = rule.direction({"w": KERNEL}, {}, 0)["w"]
    for out in range(4):
        matrix = left.T @ left @ KERNEL[out].reshape(3, 4) @ right.T @ right
        torch.testing.assert_close(found[out], 0.5 * matrix.reshape(3, 2, 2))


def test_flat_kernels_of_kfo_are_one_matrix():
    rule = perturbed(KFOUpdate(kernels="flat"), {"w": KERNEL})
    left, right = rule.factors["w/left0"], rule.factors["w/right0"]
    assert left.shape == (4, 4)
    assert right.shape == (12, 12)
    found = rule.direction({"w": KERNEL}, {}, 0)["w"]
    expected = 0.5 * left @ KERNEL.reshape(4, 12) @ right
    torch.testing.assert_close(found, expected.reshape(KERNEL.shape))


def test_kernels_have_the_numbers_of_parameters_of_the_authors():
    rules = {}
    for kernels in ("channels", "flat"):
        rules[kernels] = KFOUpdate(kernels=kernels)
        rules[kernels].build({"w": torch.zeros(16, 16, 3, 3)}, 1, 0.1)
    sizes = {k: sum(p.numel() for p in rule.parameters()) for k, rule in rules.items()}
    assert sizes == {"channels": 16**2 + 9**2, "flat": 16**2 + 144**2}


def test_kfo_refuses_kernels_that_are_none():
    with pytest.raises(InvalidInputError, match="must be one of"):
        KFOUpdate(kernels="rows")


@pytest.mark.parametrize("rule", [TNetUpdate(), WarpGradUpdate()])
@pytest.mark.parametrize("convolution", [False, True])
def test_a_step_is_that_of_the_weights_between_the_warps(rule, convolution):
    """V = T W S moves as a gradient step on W between fixed T and S makes it."""
    rng = np.random.default_rng(1)
    shape = (4, 3, 2, 2) if convolution else (4, 3)
    inner = torch.tensor(rng.standard_normal(shape), requires_grad=True)
    bias = torch.tensor(rng.standard_normal(4), requires_grad=True)
    named = {"layer.weight": inner.detach(), "layer.bias": bias.detach()}
    perturbed(rule, named)
    after = rule.warps["layer/0/4"].detach()
    name = "layer/weight/1/3"
    before = rule.warps[name].detach() if name in rule.warps else torch.eye(3).double()
    rows = torch.tensor(rng.standard_normal((5, 3, 4, 4) if convolution else (5, 3)))
    target = torch.tensor(rng.standard_normal(4))

    def seen(inner, bias):
        weight = torch.einsum("ab,bc...,cd->ad...", after, inner, before)
        return weight, after @ bias

    def loss(weight, bias):
        if convolution:
            outputs = nn.functional.conv2d(rows, weight, bias).mean(dim=(2, 3))
        else:
            outputs = rows @ weight.T + bias
        return (outputs - target).square().mean()

    slopes = torch.autograd.grad(loss(*seen(inner, bias)), (inner, bias))
    stepped = seen(inner - 0.5 * slopes[0], bias - 0.5 * slopes[1])
    weights = [one.detach().requires_grad_() for one in seen(inner, bias)]
    gradients = torch.autograd.grad(loss(*weights), weights)
    moves = rule.direction(dict(zip(named, gradients, strict=True)), {}, 0)
    for weight, name, expected in zip(weights, named, stepped, strict=True):
        torch.testing.assert_close(weight - moves[name], expected)
