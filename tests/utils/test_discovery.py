"""Discovery: what it lists, what it leaves out, and what it refuses."""

import inspect
import pkgutil
import sys

import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from skorch import NeuralNet

import skcausalmeta
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.utils import _discovery, all_estimators

MODULE = '''
from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.svm import LinearSVC
from skorch import NeuralNet


class Zebra(ClassifierMixin, TransformerMixin, BaseEstimator):
    def fit(self, X, y):
        return self


class Ant(BaseEstimator):
    def fit(self, X, y=None):
        return self


class Recipe(BaseEstimator):
    parameters = 'alone'


Alias = Ant


class _Hidden(BaseEstimator):
    pass


class Template(ABC, BaseEstimator):
    @abstractmethod
    def fit(self, X, y):
        """Fit."""


class Net(NeuralNet):
    pass


class Helper:
    pass
'''


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """Make discovery walk a package whose content is known."""
    root = tmp_path / "fakemeta"
    (root / "room").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "room" / "__init__.py").write_text("from ._beasts import Ant, Zebra\n")
    (root / "room" / "_beasts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_discovery, "_PACKAGE_ROOT", root)
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == root.name]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("type_filter", "expected"),
    [
        (None, ["Ant", "Zebra"]),
        ("classifier", ["Zebra"]),
        ("transformer", ["Zebra"]),
        ("regressor", []),
    ],
)
@pytest.mark.usefixtures("fake_package")
def test_public_concrete_estimators_are_found_once_and_sorted(type_filter, expected):
    assert [name for name, _ in all_estimators(type_filter)] == expected


def test_a_module_that_does_not_import_is_an_error(fake_package):
    (fake_package / "broken").mkdir()
    (fake_package / "broken" / "__init__.py").write_text("import no_such_module_here\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        all_estimators()


@pytest.mark.parametrize("type_filter", ["cluster", "Classifier", ""])
def test_an_unknown_filter_is_refused(type_filter):
    with pytest.raises(InvalidInputError, match=r"must be one of.*Got") as info:
        all_estimators(type_filter)
    assert repr(type_filter) in str(info.value)
    assert "'classifier', 'regressor', 'transformer'" in str(info.value)


def test_every_estimator_of_the_package_is_public_and_concrete():
    estimators = all_estimators()
    names = [name for name, _ in estimators]
    assert names == sorted(set(names))
    for name, cls in estimators:
        assert cls.__name__ == name
        assert issubclass(cls, BaseEstimator)
        assert not issubclass(cls, NeuralNet)
        assert not inspect.isabstract(cls)
        assert cls.__module__.startswith("skcausalmeta.")


def test_the_filters_agree_with_the_mixins():
    everything = all_estimators()
    for type_filter, mixin in [
        ("classifier", ClassifierMixin),
        ("transformer", TransformerMixin),
    ]:
        expected = [item for item in everything if issubclass(item[1], mixin)]
        assert all_estimators(type_filter) == expected


def test_every_estimator_is_exported_by_the_door_of_its_room():
    doors = {
        info.name: __import__(f"skcausalmeta.{info.name}", fromlist=["__all__"])
        for info in pkgutil.iter_modules(skcausalmeta.__path__)
        if not info.name.startswith("_")
    }
    for name, cls in all_estimators():
        room = cls.__module__.split(".")[1]
        assert name in doors[room].__all__
