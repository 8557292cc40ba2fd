"""Errors of an allocator, whoever raises them."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory has run out.

    Parameters
    ----------
    error : BaseException
        Of numpy, or of torch on any device; its CPU allocator raises a RuntimeError.

    Returns
    -------
    bool

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.utils import is_out_of_memory
    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    True
    >>> is_out_of_memory(RuntimeError("shapes do not agree"))
    False
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def forget(error: BaseException) -> None:
    """Let go of what an error keeps alive: the tensors of the frames it came through.

    Parameters
    ----------
    error : BaseException
        Handled; its traceback is dropped.

    Examples
    --------
    >>> from skcausalmeta.utils import forget
    >>> try:
    ...     raise MemoryError
    ... except MemoryError as error:
    ...     forget(error)
    ...     print(error.__traceback__)
    None
    """
    error.__traceback__ = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
