"""Errors and warnings of the package, all of them under one base class."""

from collections.abc import Mapping

from sklearn.exceptions import ConvergenceWarning, NotFittedError

__all__ = [
    "ConvergenceWarning",
    "DivergenceError",
    "EpisodeError",
    "InterruptedFitWarning",
    "InvalidInputError",
    "NotFittedError",
    "OutOfMemoryError",
    "PersistenceError",
    "SkcausalmetaError",
    "SolverError",
]


class SkcausalmetaError(Exception):
    """Base class of every error that the package defines.

    Each subclass also derives from the built-in error that scikit-learn would
    raise in its place, so that existing ``except`` clauses keep working.

    Examples
    --------
    >>> from skcausalmeta.exceptions import EpisodeError, SkcausalmetaError
    >>> try:
    ...     raise EpisodeError("n_way must be at most the number of classes.")
    ... except SkcausalmetaError as error:
    ...     print(type(error).__name__)
    EpisodeError
    """


class SolverError(SkcausalmetaError, RuntimeError):
    """No solver returned a usable solution of an optimisation problem.

    Parameters
    ----------
    message : str
        What failed, and what to try next.
    statuses : mapping of str to str, default=None
        The status that each attempted solver ended with, by solver name, in
        the order of the attempts. ``None`` means that none was attempted.

    Attributes
    ----------
    statuses : dict of str to str
        A copy of the parameter; empty when it was ``None``.

    Examples
    --------
    >>> from skcausalmeta.exceptions import SolverError
    >>> error = SolverError("No solver succeeded.", {"CLARABEL": "infeasible"})
    >>> print(error, error.statuses)
    No solver succeeded. {'CLARABEL': 'infeasible'}
    """

    def __init__(self, message: str, statuses: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.statuses: dict[str, str] = dict(statuses or {})


class EpisodeError(SkcausalmetaError, ValueError):
    """The data cannot supply the episodes that were asked for.

    Examples
    --------
    >>> from skcausalmeta.exceptions import EpisodeError
    >>> isinstance(EpisodeError("n_shot must be at least 1. Got 0."), ValueError)
    True
    """


class InvalidInputError(SkcausalmetaError, ValueError):
    """An argument breaks a rule that its function or estimator states.

    Examples
    --------
    >>> from skcausalmeta.exceptions import InvalidInputError
    >>> isinstance(InvalidInputError("tol must be positive. Got -1."), ValueError)
    True
    """


class DivergenceError(SkcausalmetaError, ArithmeticError):
    """Training or adaptation has left the range of finite numbers.

    Examples
    --------
    >>> from skcausalmeta.exceptions import DivergenceError
    >>> issubclass(DivergenceError, ArithmeticError)
    True
    """


class OutOfMemoryError(SkcausalmetaError, MemoryError):
    """A single task, or a step of training, does not fit the memory of its device.

    Examples
    --------
    >>> from skcausalmeta.exceptions import OutOfMemoryError
    >>> issubclass(OutOfMemoryError, MemoryError)
    True
    """


class PersistenceError(SkcausalmetaError, ValueError):
    """An estimator cannot be saved, or a file is not a sound saved estimator.

    Examples
    --------
    >>> from skcausalmeta.exceptions import PersistenceError
    >>> issubclass(PersistenceError, ValueError)
    True
    """


class InterruptedFitWarning(UserWarning):
    """A `fit` was interrupted; the message says when, and what is kept of it.

    Examples
    --------
    >>> from skcausalmeta.exceptions import InterruptedFitWarning
    >>> issubclass(InterruptedFitWarning, UserWarning)
    True
    """
