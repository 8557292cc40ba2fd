"""Factors and weights that free a learner of task confounders (MetaCRL)."""

__all__ = []
