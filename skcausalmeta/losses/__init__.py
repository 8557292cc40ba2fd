"""Losses of the base-predictors: value, conjugate and projection."""

from ._crammer_singer import CrammerSinger
from ._logistic import Logistic
from ._squared import Squared

__all__ = ["CrammerSinger", "Logistic", "Squared"]
