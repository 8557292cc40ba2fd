"""HeadWarmup: which value the head has, and when."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from skcausalmeta import persistence
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoSVC, LassoHead, RelaxedHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.training import HeadWarmup

RNG = np.random.RandomState(0)
X, Y = RNG.randn(90, 5), np.arange(90) % 6
SMALL = {"batches_per_epoch": 3, "tasks_per_batch": 2, "max_epochs": 4, "verbose": 0}


class Values(Callback):
    """Writes down the strength that every step was solved with."""

    def __init__(self, seen, interrupt_in=None):
        self.seen = seen
        self.interrupt_in = interrupt_in

    def on_batch_end(self, net, training=False, **kwargs):
        epoch = len(net.history)
        if training:
            self.seen.append((epoch, net.head.get_params()["group_reg"]))
            if epoch == self.interrupt_in:
                raise KeyboardInterrupt


def make_learner(*callbacks, group_reg=0.4, warm_start=False, **params):
    head = GroupLassoSVC(group_reg, solver="auto")
    return SparseMetaClassifier(
        head,
        callbacks=list(callbacks),
        net_params={"logit_scale": 1.0, "warm_start": warm_start},
        random_state=0,
        **{**SMALL, **params},
    )


def weights(learner):
    return torch.cat([part.flatten() for part in learner.net_.module_.parameters()])


def test_the_value_holds_in_the_first_epochs_only():
    seen = []
    learner = make_learner(HeadWarmup("group_reg", 0.05, 2), Values(seen)).fit(X, Y)
    expected = [(k, 0.05 if k <= 2 else 0.4) for k in (1, 2, 3, 4) for _ in range(3)]
    assert seen == expected
    assert learner.net_.head.group_reg == 0.4
    assert learner.head.group_reg == 0.4
    assert learner.head_.group_reg == 0.4


def test_a_training_with_the_value_throughout_is_that_of_a_head_with_it():
    warm = make_learner(HeadWarmup("group_reg", 0.05, 4)).fit(X, Y)
    plain = make_learner(group_reg=0.05).fit(X, Y)
    assert torch.equal(weights(warm), weights(plain))
    assert warm.head_.group_reg == 0.4


def test_no_epochs_change_nothing():
    never = make_learner(HeadWarmup("group_reg", 0.0, 0)).fit(X, Y)
    assert torch.equal(weights(never), weights(make_learner().fit(X, Y)))


def test_an_interrupted_training_leaves_the_value_that_was_given():
    seen = []
    warmup = HeadWarmup("group_reg", 0.0, 3)
    learner = make_learner(warmup, Values(seen, interrupt_in=2)).fit(X, Y)
    assert seen[-1] == (2, 0.0)
    assert learner.net_.head.group_reg == 0.4
    assert learner.head_.group_reg == 0.4


def test_a_warm_start_begins_anew():
    seen = []
    learner = make_learner(
        HeadWarmup("group_reg", 0.0, 1), Values(seen), max_epochs=2, warm_start=True
    )
    learner.fit(X, Y).fit(X, Y)
    assert [value for _, value in seen] == 2 * ([0.0] * 3 + [0.4] * 3)


def test_the_given_callback_is_not_changed():
    warmup = HeadWarmup("group_reg", 0.0, 1)
    before = dict(vars(warmup))
    make_learner(warmup).fit(X, Y)
    assert vars(warmup) == before


def test_a_part_of_a_head_is_reached_by_its_name():
    head = RelaxedHead(GroupLassoSVC(0.4, solver="newton"), RidgeHead())
    warmup = HeadWarmup("selector__group_reg", 0.0, 4)
    learner = make_learner(warmup).set_params(head=head).fit(X, Y)
    dense = make_learner().set_params(head=RidgeHead()).fit(X, Y)
    assert torch.equal(weights(learner), weights(dense))
    assert learner.head_.selector_.group_reg == 0.4


def test_regressors_take_it():
    """And what it does is what another parameter does."""

    def fitted(lasso_reg, *callbacks):
        head = LassoHead(lasso_reg, tol=1e-8)
        params = {"callbacks": list(callbacks), "random_state": 0, **SMALL}
        params["common"] = None  # around which heads are dense in training
        return SparseMetaRegressor(head, **params).fit(X, X[:, 0], tasks=Y)

    warm = fitted(0.3, HeadWarmup("lasso_reg", 0.02, 4))
    assert torch.equal(weights(warm), weights(fitted(0.02)))
    assert not torch.equal(weights(warm), weights(fitted(0.3)))
    assert warm.net_.head.lasso_reg == 0.3


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        (HeadWarmup("group_regg"), "'group_regg'; GroupLassoSVC has"),
        (HeadWarmup("group_reg", 0.0, -1), "n_epochs"),
        (HeadWarmup("group_reg", 0.0, 1.5), "n_epochs"),
    ],
)
def test_what_it_cannot_do_is_refused_before_training(warmup, message):
    learner = make_learner(warmup)
    with pytest.raises(InvalidInputError, match=message):
        learner.fit(X, Y)
    assert not hasattr(learner, "net_")


@pytest.mark.parametrize("cls", [MAMLClassifier, MTCRLClassifier])
def test_learners_without_a_head_are_refused(cls):
    learner = cls(callbacks=[HeadWarmup("group_reg")], max_epochs=1, verbose=0)
    with pytest.raises(InvalidInputError, match="HeadWarmup needs a learner"):
        learner.fit(X, Y // 3, tasks=np.arange(90) // 45)
    assert not hasattr(learner, "net_")


def test_a_number_of_numpy_is_a_number():
    learner = make_learner(HeadWarmup("group_reg", 0.0, np.int64(1)), max_epochs=2)
    assert len(learner.fit(X, Y).history_) == 2


def test_a_learner_with_it_is_cloned_and_saved(tmp_path):
    learner = clone(make_learner(HeadWarmup("group_reg", 0.0, 2)).fit(X, Y)).fit(X, Y)
    path = tmp_path / "learner.skcm"
    persistence.save(learner, path)
    again = persistence.load(path)
    np.testing.assert_array_equal(again.predict(X), learner.predict(X))
    assert again.callbacks[0].n_epochs == 2
