"""Few-shot and multi-task learning as scikit-learn estimators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .compose import MetaPipeline
    from .heads import (
        GroupLassoLogistic,
        GroupLassoSVC,
        GroupLassoSVCCV,
        LassoHead,
        PrototypeHead,
        RelaxedHead,
        RidgeHead,
        RidgeRegressionHead,
    )
    from .learners import (
        MAMLClassifier,
        MAMLRegressor,
        MetaCRLClassifier,
        MetaCRLRegressor,
        MTCRLClassifier,
        MTCRLRegressor,
        SparseMetaClassifier,
        SparseMetaRegressor,
    )

__all__ = [
    "GroupLassoLogistic",
    "GroupLassoSVC",
    "GroupLassoSVCCV",
    "LassoHead",
    "MAMLClassifier",
    "MAMLRegressor",
    "MTCRLClassifier",
    "MTCRLRegressor",
    "MetaCRLClassifier",
    "MetaCRLRegressor",
    "MetaPipeline",
    "PrototypeHead",
    "RelaxedHead",
    "RidgeHead",
    "RidgeRegressionHead",
    "SparseMetaClassifier",
    "SparseMetaRegressor",
    "__version__",
]

# Rooms with estimators, those that import the others last.
_ROOMS = ("heads", "learners", "compose")


def __getattr__(name: str) -> Any:
    # Rooms are imported when first asked for: the package alone costs nothing.
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in __all__:
        for room in _ROOMS:
            door = import_module(f".{room}", __name__)
            if name in door.__all__:
                found = globals()[name] = getattr(door, name)
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
