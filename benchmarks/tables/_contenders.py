"""Names of the contenders, and what makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ._balanced import fit_default_balanced, fit_on_score, fit_pooled_balanced
from ._jobs import Choice
from ._offsets import fit_mixed, fit_offset, fit_refit
from ._own import fit_own_forest, fit_own_linear, fit_with_score
from ._package import (
    TAKES_COMMON,
    fit_around_hist,
    fit_around_lightgbm,
    fit_default,
    fit_dense_deviation,
    fit_light,
    fit_maml,
    fit_prototypes,
    fit_ridge,
    fit_shared_maml,
    fit_sparse,
)
from ._pooled import LIGHTGBM, fit_pooled

ANY = ("binary", "classes", "regression")


@dataclass(frozen=True)
class Contender:
    """What is compared.

    Parameters
    ----------
    fit : callable
        From a `Train`, and a seed where it is random, to a model with
        ``predict_job(support_X, support_y, query_X)``, ``uses_labels``,
        ``zero_labels`` and ``chosen``.
    group : {"simple", "package", "common"}
        "common": the package around a common predictor.
    balanced : bool
        Whether it is for the mean accuracy over classes of natural shares alone.
    kinds : tuple of str
        Tables that it is for.
    lightgbm : bool
        Whether it needs LightGBM.
    """

    fit: Callable[..., Any]
    group: str = "simple"
    kinds: tuple[str, ...] = ANY
    lightgbm: bool = False
    balanced: bool = False

    @property
    def random(self) -> bool:
        return self.group != "simple"

    def enters(self, kind: str, choice: Choice) -> bool:
        """Whether it belongs to a table and its package is there."""
        if self.balanced and not choice.natural:
            return False
        # An intercept changes no rank, but it does what natural shares are judged by.
        moved = choice.natural and "classes" in self.kinds
        kinds = (*self.kinds, "binary") if moved else self.kinds
        missing = (self.lightgbm and LIGHTGBM.missing) or (
            self.group == "common" and not TAKES_COMMON
        )
        return kind in kinds and not missing


_MOVED = ("classes", "regression")
_TREES = "LightGBM"

CONTENDERS: dict[str, Contender] = {
    "pooled LightGBM": Contender(partial(fit_pooled, _TREES), lightgbm=True),
    "pooled HistGradientBoosting": Contender(
        partial(fit_pooled, "HistGradientBoosting")
    ),
    "pooled linear": Contender(partial(fit_pooled, "linear")),
    "pooled linear + offset": Contender(partial(fit_offset, "linear"), kinds=_MOVED),
    "pooled LightGBM + offset": Contender(
        partial(fit_offset, _TREES), kinds=_MOVED, lightgbm=True
    ),
    "mixed model": Contender(fit_mixed, kinds=("regression",)),
    "pooled linear, refitted": Contender(fit_refit),
    "own linear": Contender(fit_own_linear),
    "own forest": Contender(fit_own_forest),
    "own linear + LightGBM score": Contender(
        partial(fit_with_score, _TREES), lightgbm=True
    ),
    "pooled linear, balanced": Contender(
        partial(fit_pooled_balanced, "linear"), kinds=("binary",), balanced=True
    ),
    "pooled LightGBM, balanced": Contender(
        partial(fit_pooled_balanced, _TREES),
        kinds=("binary",),
        lightgbm=True,
        balanced=True,
    ),
    "linear score, balanced": Contender(fit_on_score, kinds=("binary",), balanced=True),
    "sparse head": Contender(fit_sparse, "package"),
    "prototypes": Contender(fit_prototypes, "package", ("binary", "classes")),
    "ridge head": Contender(fit_ridge, "package"),
    "MAML": Contender(fit_maml, "package"),
    "default": Contender(fit_default, "common"),
    "default, fewer features": Contender(fit_light, "common"),
    "default, balanced": Contender(
        fit_default_balanced, "common", ("binary",), balanced=True
    ),
    "ridge deviation": Contender(fit_dense_deviation, "common"),
    "around LightGBM": Contender(fit_around_lightgbm, "common", lightgbm=True),
    "around HistGradientBoosting": Contender(fit_around_hist, "common"),
    "MAML, shared labels": Contender(fit_shared_maml, "common"),
}
SIMPLE = [name for name, one in CONTENDERS.items() if one.group == "simple"]
