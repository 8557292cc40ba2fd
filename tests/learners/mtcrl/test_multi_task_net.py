"""The training net: streams, terms of the objective, invariance of a batch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from skcausalmeta.learners._mtcrl._experts import MLPExperts
from skcausalmeta.learners._mtcrl._net import MultiTaskNet, _thinned
from skcausalmeta.learners._mtcrl._routing import RoutedExperts
from skcausalmeta.learners._mtcrl._streams import RowBatch, RowStream
from skcausalmeta.utils import isolated_torch_rng


@pytest.fixture(autouse=True)
def fixed_weights():
    with isolated_torch_rng(0):
        yield


def make_stream(n=40, seed=0, batch_size=16):
    rng = np.random.default_rng(0)
    rows = torch.tensor(rng.standard_normal((n, 3)), dtype=torch.float32)
    targets = torch.tensor(rng.integers(2, size=(2, n, 1)), dtype=torch.float32)
    targets[1, n // 4 :] = torch.nan
    return RowStream(rows, targets, torch.arange(n) % 2, batch_size, seed=seed)


def test_an_epoch_shows_every_row_once_with_its_target():
    stream = make_stream()
    batches = list(stream)
    rows = torch.cat([batch.rows for batch in batches])
    order = rows[:, 0].argsort()
    full = next(iter(make_stream(seed=None, batch_size=40)))
    truth = full.rows[:, 0].argsort()
    targets = torch.cat([batch.targets for batch in batches], dim=1)
    torch.testing.assert_close(
        targets[:, order], full.targets[:, truth], equal_nan=True
    )
    assert stream.labelled.tolist() == [1.0, 0.25]
    again = torch.cat([batch.rows for batch in stream])
    assert not torch.equal(rows, again)


def make_net(weights, routing="mtcrl", **params):
    module = RoutedExperts(MLPExperts(3, 4), 2, routing=routing)
    settings = {"kinds": [("binary", 2)] * 2, "task_weights": torch.ones(2)}
    return MultiTaskNet(
        module,
        weights=weights,
        optimizer=torch.optim.Adam,
        train_split=None,
        max_epochs=4,
        verbose=0,
        **{**settings, **params},
    )


def test_the_loss_of_rare_labels_is_the_mean_over_them():
    net = make_net({}).initialize()
    net.labelled_, net.n_steps_, net.step_, net.n_envs_ = (
        make_stream().labelled,
        1,
        1,
        2,
    )
    batch = next(iter(make_stream(seed=None, batch_size=40)))
    passed = net.module_(batch.rows)
    loss = functional.binary_cross_entropy_with_logits
    expected = loss(passed.outputs[0, :, 0], batch.targets[0, :, 0])
    expected += loss(passed.outputs[1, :10, 0], batch.targets[1, :10, 0])
    torch.testing.assert_close(net.terms(passed, batch)["tasks"], expected)


def start(net, stream, step=1):
    """A net that stands at a step of training on a stream."""
    net.initialize()
    net.get_split_datasets((stream, None))
    net.step_ = step
    return net


def test_a_learned_variance_divides_the_loss_and_costs_its_logarithm():
    stream = make_stream(seed=None, batch_size=40)
    net = start(make_net({}, uncertainty=True), stream)
    batch = next(iter(stream))
    passed = net.module_(batch.rows)
    net.uncertainty = False
    net.task_weights = torch.tensor([1.0, 0.0])
    first = net.terms(passed, batch)["tasks"].item()
    net.task_weights = torch.tensor([0.0, 1.0])
    second = net.terms(passed, batch)["tasks"].item()
    net.uncertainty, net.task_weights = True, torch.tensor([1.0, 3.0])
    log = net.module_.log_variances
    log.data = torch.tensor([0.5, np.log(second)], dtype=torch.float32)
    found = net.terms(passed, batch)["tasks"]
    expected = first / np.exp(0.5) + 0.5 + 3 * (1 + np.log(second))
    assert found.item() == pytest.approx(expected, rel=1e-5)
    # The best variance of a task is its loss.
    (slope,) = torch.autograd.grad(found, log)
    assert slope[1].item() == pytest.approx(0, abs=1e-5)
    assert slope[0].item() == pytest.approx(1 - first / np.exp(0.5), rel=1e-5)


def test_penalties_may_begin_at_once():
    net = start(make_net({"sparsity": 1.0}, warmup=(0.5, 0.5)), make_stream())
    rises = []
    for step in range(1, net.n_steps_ + 1):
        net.step_ = step
        rises.append(net._rise())
    assert rises == [0.0] * 5 + [1.0] * 7


def test_the_correlated_pixels_come_from_all_over_the_images():
    n, size = 16, 32
    images = torch.zeros(n, 1, size, size)
    stream = RowStream(
        images, torch.zeros(1, n, size**2), torch.zeros(n, dtype=torch.long), n
    )
    place = torch.arange(size**2).repeat(n)[None, :, None]
    seen = _thinned(place, next(iter(stream))).flatten()
    assert len(seen) <= 256
    assert len(np.unique(seen // size)) == len(np.unique(seen % size)) == size


# -- invariance of a batch ------------------------------------------------------------

N_HALF = 8  # rows of an environment in half a batch


def make_irm_net(form, scale):
    net = make_net({"irm": 1.0}, irm_form=form, irm_scale=scale, warmup=(0.0, 0.0))
    net.module.double()
    return net


def double_rows(n, seed):
    rng = np.random.default_rng(seed)
    rows = torch.tensor(rng.standard_normal((n, 3)))
    targets = (rows[:, :2].T[..., None] + torch.randn(2, n, 1).double() > 0).double()
    return rows, targets, torch.arange(n) % 2


def risk_gradient(net, rows, targets, envs, task, env):
    """Gradient of one risk in one row of the routing, by definition."""
    routing = net.module_.routing_matrix().detach().requires_grad_()
    routed = torch.einsum("tk,knh->tnh", routing, net.module_.experts(rows))
    scores = net.module_.heads(routed)[task, :, 0]
    here = (envs == env) & targets[task, :, 0].isfinite()
    risk = functional.binary_cross_entropy_with_logits(
        scores[here], targets[task, here, 0]
    )
    return torch.autograd.grad(risk, routing)[0][task]


@pytest.mark.parametrize("scale", ["relative", "absolute"])
def test_two_half_batches_are_unbiased_in_the_squared_gradient(scale):
    rows, targets, envs = double_rows(40, seed=3)
    stream = RowStream(rows, targets, envs, 40)
    net = start(make_irm_net("unbiased", scale), stream)
    routing = net.module_.routing_matrix().detach()
    factor = routing if scale == "relative" else torch.ones_like(routing)
    exact = sum(
        (factor[t] * risk_gradient(net, rows, targets, envs, t, e)).square().sum()
        for t in range(2)
        for e in range(2)
    ).item()
    draws = np.random.default_rng(4)
    found = {"unbiased": [], "norm": []}
    # Rows of an environment are drawn with replacement from all it has; two of it
    # stand side by side, one for each half.
    order = torch.arange(4 * N_HALF) // 2 % 2
    for _ in range(800):
        index = torch.tensor(2 * draws.integers(20, size=4 * N_HALF)) + order
        batch = RowBatch(rows[index], targets[:, index], envs[index])
        with torch.no_grad():
            passed = net.module_(batch.rows)
            for form, values in found.items():
                net.irm_form = form
                values.append(net.terms(passed, batch)["irm"].item())

    def deviations(form):
        """Mean error in standard errors of the mean; normal by the number of draws."""
        values = np.array(found[form])
        return (values.mean() - exact) / (values.std() / np.sqrt(len(values)))

    assert abs(deviations("unbiased")) < 4  # chance of a false alarm: 6e-5
    assert deviations("norm") > 15
    assert min(found["unbiased"]) < 0


def test_the_variance_is_that_of_the_environments_with_labels():
    rows, targets, _ = double_rows(30, seed=5)
    envs = torch.arange(30) % 3
    targets[1, envs == 2] = torch.nan  # task 1 is not labelled in environment 2
    stream = RowStream(rows, targets, envs, 30)
    net = start(make_irm_net("variance", "absolute"), stream)
    batch = RowBatch(rows, targets, envs)
    found = net.terms(net.module_(rows), batch)["irm"].item()
    expected = 0.0
    for task, n_envs in ((0, 3), (1, 2)):
        gradients = torch.stack(
            [risk_gradient(net, rows, targets, envs, task, e) for e in range(n_envs)]
        )
        expected += n_envs * gradients.var(dim=0, correction=0).sum().item()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("form", ["norm", "variance", "unbiased"])
def test_every_term_is_in_the_history_and_rises(form):
    weights = {"decorrelation": 0.1, "sparsity": 0.1, "balance": 0.1, "irm": 1.0}
    net = make_net(weights, irm_form=form, warmup=(0.5, 1.0), uncertainty=True)
    net.fit((make_stream(), make_stream(seed=None)))
    first, last = net.history[0], net.history[-1]
    assert first["irm"] == 0.0
    assert last["irm"] != 0.0
    assert last["decorrelation"] > 0 < last["sparsity"]
    assert last["balance"] < 0
    assert "valid_loss" in last
    total = sum(
        weight * last[name] for name, weight in weights.items() if name != "irm"
    )
    assert last["train_loss"] != pytest.approx(last["tasks"] + total, abs=1e-9)
    assert not torch.equal(net.module_.log_variances.detach(), torch.zeros(2))


def test_baselines_have_no_penalties():
    net = make_net({"sparsity": 1.0, "irm": 1.0}, routing="shared")
    net.fit((make_stream(), None))
    assert net.history[-1]["train_loss"] == pytest.approx(net.history[-1]["tasks"])
    assert net.history[-1]["sparsity"] == 0.0
