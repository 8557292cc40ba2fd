"""Losses of the base-predictors: value, conjugate and projection."""

from ._crammer_singer import CrammerSinger

__all__ = ["CrammerSinger"]
