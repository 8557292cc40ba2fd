"""One rule for all heads: whether the units of relative strengths have a gradient."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    LassoHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 6)) * [1.0, 2.0, 0.5, 1.0, 1.0, 1.0] + 3.0
Y = X[:, 0] + 0.5 * X[:, 1] + 0.3 * RNG.standard_normal(24)
LABELS = np.digitize(Y, np.quantile(Y, [0.3, 0.7]))
QUERY = torch.tensor(RNG.standard_normal((1, 5, 6)) + 3.0)
MIXED = torch.tensor(RNG.standard_normal((5, 3)))
DIRECTION = torch.tensor(RNG.standard_normal((1, 24, 6)))

HEADS = [
    GroupLassoSVC(0.2, 0.5, solver="auto", tol=1e-11),
    GroupLassoSVC(0.2, 0.5, solver="auto", tol=1e-11, dual_reg=0.5),
    GroupLassoSVC(0.2, 0.5, solver="auto", tol=1e-11, groups=[0, 0, 1, 1, 2, 3]),
    GroupLassoSVC(0.2, 0.5, solver="auto", tol=1e-11, fit_intercept=False),
    GroupLassoLogistic(0.2, 0.5, tol=1e-11),
    RidgeHead(0.5),
    RidgeRegressionHead(0.5),
    LassoHead(0.2, 0.3, tol=1e-12),
]


def names_of(head):
    """The head and what of it is not the default."""
    return str(head).replace(" ", "").replace("\n", "")


def targets_of(head):
    return LABELS if hasattr(head, "episode_logits") else Y


def value(head, rows):
    """A number made of the answers of the layer, with its graph."""
    targets = torch.tensor(targets_of(head))[None]
    if hasattr(head, "episode_logits"):
        return (MIXED * head.episode_logits(rows, targets, QUERY, 3)[0]).sum()
    return (MIXED[:, 0] * head.episode_predictions(rows, targets, QUERY)[0]).sum()


def slope(head):
    """Derivative of the number along a direction of the rows."""
    rows = torch.tensor(X)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(value(head, rows), rows)
    return float((gradient * DIRECTION).sum())


def difference(head, step=1e-5):
    rows = torch.tensor(X)[None]
    ends = [value(head, rows + sign * step * DIRECTION) for sign in (1, -1)]
    return float(ends[0] - ends[1]) / (2 * step)


def in_numbers(head):
    """The head whose strengths are numbers: those that the relative ones are here."""
    fitted = clone(head).fit(X, targets_of(head))
    numbers = {"reg_scale": "absolute", "ridge_reg": fitted.lambda2_}
    if hasattr(head, "group_reg"):
        unit = fitted.lambda2_ / head.ridge_reg if head.reg_scale == "relative" else 1
        numbers |= {"group_reg": fitted.lambda1_, "intercept_scaling": unit**0.5}
        if head.get_params().get("dual_reg"):
            numbers["dual_reg"] = head.dual_reg * unit
    if hasattr(head, "lasso_reg"):
        numbers["lasso_reg"] = float(fitted.lambda1_)
    return clone(head).set_params(**numbers)


def scales(head):
    sparse = hasattr(head, "group_reg") or hasattr(head, "lasso_reg")
    return ("relative", "ridge-absolute") if sparse else ("relative",)


CASES = [(head, scale) for head in HEADS for scale in scales(head)]


@pytest.mark.parametrize(
    ("head", "scale"), CASES, ids=[f"{names_of(head)}-{scale}" for head, scale in CASES]
)
def test_the_gradient_is_that_of_finite_differences_either_way(head, scale):
    through = clone(head).set_params(reg_scale=scale, reg_gradient=True)
    held = clone(through).set_params(reg_gradient=False)
    assert float(value(through, torch.tensor(X)[None])) == float(
        value(held, torch.tensor(X)[None])
    )
    # 1. with the units: differences of the head as it is
    assert slope(through) == pytest.approx(difference(through), rel=1e-4)
    # 2. without them: differences of a head whose strengths do not move
    numbers = in_numbers(through)
    assert slope(held) == pytest.approx(difference(numbers), rel=1e-4)
    assert abs(slope(held) - slope(through)) > 1e-3 * abs(slope(through))
    assert "held fixed" in held.inexact_gradient
    assert not through.inexact_gradient
    # 3. absolute strengths have no units
    same = clone(numbers).set_params(reg_gradient=False)
    assert slope(same) == slope(clone(numbers).set_params(reg_gradient=True))
    assert not same.inexact_gradient


@pytest.mark.parametrize("cls", [GroupLassoSVC, GroupLassoLogistic])
@pytest.mark.parametrize("reg_gradient", [False, True])
def test_a_strength_that_is_learned_keeps_its_gradient(cls, reg_gradient):
    share = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    ridge = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    params = {"solver": "auto", "tol": 1e-11}
    head = cls(share, ridge, reg_gradient=reg_gradient, **params)
    rows = torch.tensor(X)[None]
    found = torch.autograd.grad(value(head, rows), (share, ridge))
    for k, gradient in enumerate(found):
        ends = []
        for sign in (1, -1):
            strengths = [0.2, 0.5]
            strengths[k] += sign * 1e-5
            ends.append(float(value(cls(*strengths, **params), rows)))
        assert float(gradient) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_the_classifiers_pass_and_the_lasso_holds_by_default():
    defaults = {type(head).__name__: type(head)().reg_gradient for head in HEADS}
    assert defaults.pop("LassoHead") is False
    assert set(defaults.values()) == {True}
    assert RidgeHead(reg_gradient=False).as_regressor().reg_gradient is False


def test_the_second_head_of_a_relaxed_one_decides():
    chooses = GroupLassoSVC(0.2, solver="auto")
    held, through = (
        slope(RelaxedHead(chooses, RidgeHead(0.5, reg_gradient=flag)))
        for flag in (False, True)
    )
    assert abs(held - through) > 1e-3 * abs(through)
