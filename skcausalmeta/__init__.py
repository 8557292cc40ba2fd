"""Few-shot and multi-task learning as scikit-learn estimators."""

from importlib import import_module
from inspect import isabstract, isclass
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .compose import *  # noqa: F403
    from .heads import *  # noqa: F403
    from .learners import *  # noqa: F403

# Rooms with estimators, those that import the others last.
_ROOMS = ("heads", "learners", "compose")


def __getattr__(name: str) -> Any:
    # Rooms are imported when first asked for: the package alone costs nothing.
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name == "__all__":
        return sorted(["__version__", *(n for room in _ROOMS for n in _offered(room))])
    # What Python looks for in any module is in no door.
    if not name.startswith("_"):
        for room in _ROOMS:
            if name in _offered(room):
                found = globals()[name] = getattr(
                    import_module(f".{room}", __name__), name
                )
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _offered(room: str) -> list[str]:
    """Names of the estimators that the door of a room shows."""
    door = import_module(f".{room}", __name__)
    parts = {name: getattr(door, name) for name in door.__all__}
    return [
        name
        for name, part in parts.items()
        if isclass(part) and hasattr(part, "fit") and not isabstract(part)
    ]


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__"), *_ROOMS})
