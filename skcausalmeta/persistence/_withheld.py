"""What a file must not bring along: paths to write to and programs to run.

It is left out when an estimator is saved, and once more when a file is loaded, which
somebody may have forged; both say so in a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from ..utils import printable

# Writes to its path after every epoch.
WITHHELD_CLASSES = frozenset({"training.TrainingCheckpoint"})
_COMPILERS = frozenset({"aot_eager", "cudagraphs", "eager", "inductor"})
_MODES = frozenset(
    {"default", "max-autotune", "max-autotune-no-cudagraphs", "reduce-overhead"}
)
_MOST_NAMED = 5


class LeftOut:
    """Notes what was left out, to say it in one warning.

    Attributes
    ----------
    names : list of str
        One text per thing, the first occurrence of each.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._seen: set[str] = set()

    def note(self, text: str) -> None:
        """Note one thing by a short text."""
        text = printable(text[:100])
        if text not in self._seen and len(self.names) < 100:
            self._seen.add(text)
            self.names.append(text)

    def warn(self, what: str, stacklevel: int) -> None:
        """Warn of all that was noted; `what` says where it is missing now."""
        if not self.names:
            return
        named = ", ".join(self.names[:_MOST_NAMED])
        more = len(self.names) - _MOST_NAMED
        rest = f" and {more} more" if more > 0 else ""
        warnings.warn(
            f"{what} without {named}{rest}: files hold no paths, no programs, and only "
            "attributes that the classes have. Set what you need after loading.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def harmless(state: dict[str, Any], left_out: LeftOut, where: str) -> dict[str, Any]:
    """Attributes without paths and programs; the same dict if it has none."""
    changed: dict[str, Any] = {}
    for name, value in state.items():
        if name in ("net_params", "keywords") and isinstance(value, dict):
            inner = harmless(value, left_out, f"{where}.{name}")
            if inner is not value:
                changed[name] = inner
        elif name == "checkpoint_path" and value is not None:
            changed[name] = None
            left_out.note(f"{where}.{name}")
        elif name in ("compile", "compile_with"):
            instead = None if name == "compile_with" else False
            kept = _compilation(value, instead, left_out, f"{where}.{name}")
            if kept is not value:
                changed[name] = kept
    return {**state, **changed} if changed else state


def _compilation(value: Any, instead: Any, left_out: LeftOut, where: str) -> Any:
    """Settings of torch.compile that name no program, and hand no options on."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, Mapping):
        left_out.note(where)
        return instead
    kept = {key: setting for key, setting in value.items() if _is_known(key, setting)}
    for key in value.keys() - kept.keys():
        left_out.note(f"{where}[{str(key)[:40]!r}]")
    return value if len(kept) == len(value) else kept


def _is_known(key: Any, setting: Any) -> bool:
    if key == "backend":
        return isinstance(setting, str) and setting in _COMPILERS
    if key == "mode":
        return setting is None or (isinstance(setting, str) and setting in _MODES)
    flags = ("dynamic", "fullgraph", "disable", "isolate_recompiles")
    return key in flags and (setting is None or isinstance(setting, bool))


def said_in(description: Mapping[str, Any]) -> Iterable[str]:
    """What a file says that it was saved without."""
    said = description.get("left out")
    if not isinstance(said, list):
        return []
    return [text for text in said[:100] if isinstance(text, str)]
