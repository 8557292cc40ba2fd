"""Batched positive semi-definite systems, singular ones included."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_psd(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve ``A x = b`` for symmetric positive semi-definite A, batched.

    Cholesky with the diagonal scaled to 1; systems for which it breaks down or
    meets a pivot close to 0 are solved for the minimum-norm solution through the
    eigenvalues.

    Parameters
    ----------
    matrix : Tensor of shape (n_tasks, m, m)
        Symmetric positive semi-definite A.
    right : Tensor of shape (n_tasks, m)
        Right-hand sides b, in the range of A up to rounding.

    Returns
    -------
    Tensor of shape (n_tasks, m)
        Solutions x; of least norm where A is singular.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.implicit import solve_psd
    >>> singular = torch.ones(1, 2, 2, dtype=torch.float64)
    >>> x = solve_psd(singular, torch.tensor([[2.0, 2.0]], dtype=torch.float64))
    >>> print([round(value, 6) for value in x[0].tolist()])
    [1.0, 1.0]
    """
    eps, tiny = torch.finfo(matrix.dtype).eps, torch.finfo(matrix.dtype).tiny
    scale = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(tiny).rsqrt()
    scaled = scale[..., :, None] * matrix * scale[..., None, :]
    factor, info = torch.linalg.cholesky_ex(scaled)
    solution = scale * torch.cholesky_solve((scale * right)[..., None], factor)[..., 0]
    # A small pivot betrays a direction that rounding alone would decide.
    pivot = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1)
    singular = (info > 0) | ~(pivot > eps**0.5)
    if bool(singular.any()):
        solution[singular] = _least_norm(matrix[singular], right[singular])
    return solution


def _least_norm(matrix: Tensor, right: Tensor) -> Tensor:
    """Pseudo-inverse times b, eigenvalues at the level of rounding dropped."""
    values, vectors = torch.linalg.eigh(matrix)
    cutoff = values[..., -1:] * matrix.shape[-1] * torch.finfo(matrix.dtype).eps * 10
    inverse = torch.where(values > cutoff, 1.0 / values, 0.0)
    inverse = torch.where(torch.isfinite(inverse), inverse, 0.0)
    coordinates = (vectors.mT @ right[..., None])[..., 0] * inverse
    return (vectors @ coordinates[..., None])[..., 0]
