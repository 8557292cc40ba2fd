"""Find the estimators of the package without a list that someone must keep."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    TransformerMixin,
)
from skorch import NeuralNet

from ..exceptions import InvalidInputError

_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_MIXINS = {
    "classifier": ClassifierMixin,
    "regressor": RegressorMixin,
    "transformer": TransformerMixin,
}


def all_estimators(type_filter: str | None = None) -> list[tuple[str, type]]:
    """List the estimators of the package, in the manner of scikit-learn.

    Every module is imported and searched for public, concrete subclasses of
    `sklearn.base.BaseEstimator`. A new estimator is found as soon as its file
    exists. Subclasses of `skorch.NeuralNet` are left out: a net is held by a
    learner and is no estimator to choose by itself; and so are objects that hold
    parameters and have no `fit`, such as backbones.

    Parameters
    ----------
    type_filter : {"classifier", "regressor", "transformer"}, default=None
        Keep the estimators of this type only. An estimator of several types
        is listed under each. ``None`` keeps all.

    Returns
    -------
    estimators : list of (str, type)
        Name and class of each estimator, sorted by name.

    Raises
    ------
    InvalidInputError
        If `type_filter` is none of the values above.

    Examples
    --------
    >>> from skcausalmeta.utils import all_estimators
    >>> estimators = all_estimators(type_filter="classifier")
    >>> [name for name, _ in estimators if name.startswith("_")]
    []
    """
    if type_filter is not None and type_filter not in _MIXINS:
        raise InvalidInputError(
            f"type_filter must be one of {sorted(_MIXINS)} or None. "
            f"Got {type_filter!r}; pass one of these or leave it out."
        )
    required = BaseEstimator if type_filter is None else _MIXINS[type_filter]
    found = {
        (name, cls)
        for module in _iter_modules()
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if _is_estimator(name, cls) and issubclass(cls, required)
    }
    return sorted(found, key=lambda item: (item[0], item[1].__module__))


def package_definitions() -> Iterator[tuple[str, Any]]:
    """Classes and functions of the package, each with the room that defines it.

    Yields
    ------
    room : str
        Name of the room, such as "heads".
    definition : type or function
        What a module of that room defines at its top level, public or not.

    Examples
    --------
    >>> from skcausalmeta.utils import package_definitions
    >>> [room for room, one in package_definitions() if one is package_definitions]
    ['utils']
    """
    for module in _iter_modules():
        room = module.__name__.split(".")[1]
        for definition in vars(module).values():
            kind = inspect.isclass(definition) or inspect.isfunction(definition)
            if kind and definition.__module__ == module.__name__:
                yield room, definition


def _iter_modules() -> Iterator[ModuleType]:
    package = _PACKAGE_ROOT.name
    walk = pkgutil.walk_packages(
        [str(_PACKAGE_ROOT)], prefix=f"{package}.", onerror=_reraise
    )
    for info in walk:
        yield importlib.import_module(info.name)


def _reraise(name: str) -> None:
    # walk_packages drops a package whose import fails; discovery must not.
    raise


def _is_estimator(name: str, cls: type) -> bool:
    return (
        issubclass(cls, BaseEstimator)
        and hasattr(cls, "fit")
        and not issubclass(cls, NeuralNet)
        and cls.__module__.split(".")[0] == _PACKAGE_ROOT.name
        and cls.__name__ == name
        and not name.startswith("_")
        and not inspect.isabstract(cls)
    )
