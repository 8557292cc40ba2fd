"""Gradient-based meta-learning and learned update rules (MAML-KFO)."""

__all__ = []
