"""Gradients of tasks without conflicts, against the papers' loops and by hand."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import ConvExpert, MLPExpert, MTCRLClassifier
from skcausalmeta.learners._mtcrl import _gradients
from skcausalmeta.learners._mtcrl._gradients import (
    GradVac,
    PCGrad,
    add_flat,
    make_surgery,
    task_gradients,
)
from skcausalmeta.utils import isolated_torch_rng

RNG = np.random.default_rng(0)
G = torch.tensor(RNG.standard_normal((4, 3)))


def meetings_of(seed, n_tasks=4):
    """Whom every task meets, (n_tasks, n_tasks - 1)."""
    with isolated_torch_rng(seed):
        pairs = _gradients._meetings(n_tasks)
    return torch.stack([others for _, others in pairs], dim=1)


def surgery_of(surgery, seed):
    with isolated_torch_rng(seed):
        return surgery(G)


def test_every_task_meets_every_other_once():
    order = meetings_of(3)
    for task, others in enumerate(order.tolist()):
        assert sorted(others) == [j for j in range(4) if j != task]
    assert not torch.equal(order, meetings_of(4))


@pytest.mark.parametrize("seed", range(3))
def test_pcgrad_is_the_loop_of_its_paper(seed):
    expected = []
    for i, others in enumerate(meetings_of(seed).tolist()):
        g = G[i].clone()
        for j in others:
            inner = g @ G[j]
            if inner < 0:
                g = g - inner / (G[j] @ G[j]) * G[j]
        expected.append(g)
    torch.testing.assert_close(surgery_of(PCGrad(), seed), torch.stack(expected))


@pytest.mark.parametrize("seed", range(3))
def test_gradvac_is_the_loop_of_its_paper(seed):
    surgery = GradVac(4, decay=0.1).double()
    surgery.cosines += torch.tensor(RNG.uniform(-0.5, 0.5, (4, 4)))
    means = surgery.cosines.clone()
    expected = []
    for i, others in enumerate(meetings_of(seed).tolist()):
        g = G[i].clone()
        for j in others:
            cosine = g @ G[j] / (g.norm() * G[j].norm())
            mean = means[i, j].clone()
            if cosine < mean:
                above = mean * (1 - cosine**2).sqrt() - cosine * (1 - mean**2).sqrt()
                g = g + g.norm() * above / (G[j].norm() * (1 - mean**2).sqrt()) * G[j]
            means[i, j] = 0.9 * mean + 0.1 * cosine
        expected.append(g)
    torch.testing.assert_close(surgery_of(surgery, seed), torch.stack(expected))
    torch.testing.assert_close(surgery.cosines, means)


def test_gradvac_reaches_the_angle_that_it_aims_at():
    surgery = GradVac(2, decay=0.0).double()
    surgery.cosines += 0.6
    pair = torch.tensor([[1.0, 0.0], [-0.5, 2.0]]).double()
    found = surgery(pair)
    for own, other in ((0, 1), (1, 0)):
        cosine = found[own] @ pair[other] / (found[own].norm() * pair[other].norm())
        assert cosine.item() == pytest.approx(0.6)


def test_gradvac_that_aims_at_right_angles_is_pcgrad():
    found = surgery_of(GradVac(4, decay=0.0).double(), 5)
    torch.testing.assert_close(found, surgery_of(PCGrad(), 5))


@pytest.mark.parametrize("surgery", [PCGrad(), GradVac(3)])
def test_a_task_without_a_gradient_changes_nothing(surgery):
    pair = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]])
    found = surgery(pair)
    torch.testing.assert_close(
        found, torch.tensor([[0.5, 0.5], [0.0, 1.0], [0.0, 0.0]])
    )


def test_gradients_of_losses_are_those_of_autograd():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    unused = torch.tensor([[3.0]], requires_grad=True)
    losses = torch.stack([weight[0] ** 2, weight.prod() + unused.sum()])
    found = task_gradients(losses, [weight, unused])
    assert found.tolist() == [[2.0, 0.0, 0.0], [2.0, 1.0, 1.0]]
    weight.grad = torch.ones(2)
    add_flat([weight, unused], torch.tensor([1.0, 2.0, 3.0]))
    assert weight.grad.tolist() == [2.0, 3.0]
    assert unused.grad.tolist() == [[3.0]]


def test_an_unknown_way_is_named():
    with pytest.raises(InvalidInputError, match="must be one of"):
        make_surgery("mgda", 2)


class CrashOnce(Callback):
    """Ends the first training in its third epoch."""

    armed = True

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3 and CrashOnce.armed:
            CrashOnce.armed = False
            raise ZeroDivisionError


# -- in a learner ---------------------------------------------------------------------

X = RNG.standard_normal((60, 4))
# The second task is the first turned around: all conflicts.
Y = np.column_stack([X[:, 0] > 0, X[:, 0] < 0, X[:, 1] > 0]).astype(int)
SEED = 8  # whose heads make conflicts


def fit(modules, gradients, expert=None, rows=X, labels=Y, **params):
    learner = MTCRLClassifier(
        modules,
        n_modules=3,
        expert=expert or MLPExpert(hidden=(6,), out_features=2),
        gradients=gradients,
        optimizer="sgd",
        max_epochs=1,
        batch_size=60,
        random_state=SEED,
        **{"lr": 0.1, **params},
    )
    return learner.fit(rows, labels)


def weights_of(learner):
    return {
        name: value.detach().clone()
        for name, value in learner.net_.module_.named_parameters()
    }


@pytest.mark.parametrize("gradients", ["pcgrad", "gradvac"])
def test_only_the_modules_are_trained_by_other_gradients(gradients):
    plain = weights_of(fit("shared", "sum"))
    changed = weights_of(fit("shared", gradients))
    for name, value in plain.items():
        same = torch.allclose(value, changed[name], atol=1e-6)
        assert same != name.startswith("experts.")


@pytest.mark.parametrize("gradients", ["pcgrad", "gradvac"])
def test_nets_that_share_nothing_have_no_conflicts(gradients):
    plain = weights_of(fit("single", "sum"))
    for name, value in weights_of(fit("single", gradients)).items():
        torch.testing.assert_close(value, plain[name])


def test_a_step_follows_the_gradients_without_conflicts():
    learner = fit("shared", "pcgrad")
    # The same weights as before the only step of the other.
    with_no_step = fit("shared", "sum", lr=1e-12)
    module = with_no_step.net_.module_
    rows = torch.tensor(X, dtype=torch.float32)
    outputs = module(rows).outputs[..., 0]
    losses = torch.stack(
        [
            torch.nn.functional.binary_cross_entropy_with_logits(
                outputs[t], torch.tensor(Y[:, t], dtype=torch.float32)
            )
            for t in range(3)
        ]
    )
    shared = list(module.experts.parameters())
    by_task = task_gradients(losses, shared)
    before = torch.cat([one.detach().flatten() for one in shared])
    after = torch.cat(
        [one.detach().flatten() for one in learner.net_.module_.experts.parameters()]
    )
    step = (before - after) / 0.1
    # The order of the tasks is not known here; one of them gives the step.
    found = []
    for seed in range(200):
        with isolated_torch_rng(seed):
            found.append(PCGrad()(by_task).sum(dim=0))
    distance = min((one - step).abs().max().item() for one in found)
    assert distance < 1e-4
    assert (by_task.sum(dim=0) - step).abs().max().item() > 1e-3


def test_penalties_and_images_go_with_it():
    images = RNG.standard_normal((20, 1, 8, 8))
    labels = (images.mean(axis=(1, 2, 3))[:, None] > [0, 0.01]).astype(int)
    learner = fit(
        "mtcrl",
        "gradvac",
        ConvExpert(n_filters=2, out_features=2),
        images,
        labels,
        lambda_dec=1.0,
        net_params={"warmup": (0.0, 0.0)},
    )
    last = learner.history_[-1]
    assert last["decorrelation"] > 0 < last["irm"]
    assert learner.net_.module_.surgery.cosines.abs().sum() > 0


@pytest.mark.parametrize("gradients", ["pcgrad", "gradvac"])
def test_an_interrupted_training_goes_on_with_the_same_gradients(gradients, tmp_path):
    def learner(path):
        return MTCRLClassifier(
            "mmoe",
            n_modules=3,
            gradients=gradients,
            max_epochs=4,
            batch_size=20,
            callbacks=[CrashOnce()],
            net_params={"checkpoint_path": path},
            random_state=0,
        ).fit(X, Y)

    CrashOnce.armed = True
    with pytest.raises(ZeroDivisionError):
        learner(tmp_path / "a")
    again, whole = learner(tmp_path / "a"), learner(tmp_path / "b")
    for name, value in weights_of(whole).items():
        torch.testing.assert_close(weights_of(again)[name], value)
