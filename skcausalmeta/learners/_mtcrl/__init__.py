"""Multi-task learning with an invariant routing graph (MT-CRL)."""

__all__ = []
