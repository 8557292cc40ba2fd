"""A few steps of the machine of calls in any order, and that it notices."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from skcausalmeta.learners import SparseMetaClassifier


@pytest.fixture(scope="module")
def steps():
    path = Path(__file__).with_name("state_machine.py")
    spec = importlib.util.spec_from_file_location("state_machine", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_calls_in_any_order_change_nothing_else(steps):
    kinds = Counter()
    for number, name in enumerate(("sparse", "maml", "metacrl", "mtcrl")):
        found = steps.take_steps(name, number, 30, 15)
        assert found.pop("faults") == [], name
        assert found["steps"] >= 30, name
        kinds.update(found)
    for kind in ("fits", "adapts", "copies", "refused", "interruptions"):
        assert kinds[kind] > 0, kind


def moved_by(method):
    """A method that moves a weight before it does what it should."""

    def moving(self, *args, **kwargs):
        next(self.net_.module_.parameters()).data.add_(1e-6)
        return method(self, *args, **kwargs)

    return moving


def half_set(self, **params):
    for name, value in params.items():
        if name not in self.get_params():
            raise ValueError(name)
        setattr(self, name, value)
    return self


def wrote_on_the_rows(self, X):
    X[0, 0] = 0
    return X


def forgotten(method):
    """A method that leaves a task where a call has failed."""

    def forgetting(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            self.task_ = None
            raise

    return forgetting


HARM = {
    "a question that learns": ("predict", moved_by, "the learner"),
    "a failure that forgets": ("adapt", forgotten, "the learner"),
    "parameters by half": ("set_params", lambda method: half_set, "the learner"),
    "rows of the caller": ("transform", lambda method: wrote_on_the_rows, "arrays"),
}


@pytest.mark.parametrize(("method", "change", "told"), HARM.values(), ids=HARM)
def test_harm_is_noticed(steps, monkeypatch, method, change, told):
    monkeypatch.setattr(
        SparseMetaClassifier, method, change(getattr(SparseMetaClassifier, method))
    )
    (fault,) = steps.take_steps("sparse", 3, 60, 15)["faults"]
    assert told in fault
