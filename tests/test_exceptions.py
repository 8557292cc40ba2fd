"""The error classes: their families, their data and their pickles."""

import copy
import pickle

import pytest
import sklearn.exceptions

from skcausalmeta import exceptions
from skcausalmeta.exceptions import (
    DivergenceError,
    EpisodeError,
    InvalidInputError,
    OutOfMemoryError,
    PersistenceError,
    SkcausalmetaError,
    SolverError,
)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (DivergenceError, ArithmeticError),
        (SolverError, RuntimeError),
        (EpisodeError, ValueError),
        (InvalidInputError, ValueError),
        (PersistenceError, ValueError),
        (OutOfMemoryError, MemoryError),
    ],
)
@pytest.mark.parametrize("caught_as_builtin", [True, False])
def test_errors_are_caught_by_the_base_and_by_the_builtin(
    error, builtin, caught_as_builtin
):
    expected = builtin if caught_as_builtin else SkcausalmetaError
    with pytest.raises(expected, match="the rule"):
        raise error("the rule")


@pytest.mark.parametrize(
    "duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_solver_error_keeps_its_statuses_in_copies(duplicate):
    error = SolverError("failed", {"CLARABEL": "infeasible", "SCS": "unbounded"})
    twin = duplicate(error)
    assert type(twin) is SolverError
    assert str(twin) == "failed"
    assert twin.statuses == {"CLARABEL": "infeasible", "SCS": "unbounded"}


def test_solver_error_without_statuses_has_an_empty_dict():
    assert SolverError("failed").statuses == {}


def test_solver_error_copies_the_statuses_it_is_given():
    statuses = {"SCS": "inaccurate"}
    error = SolverError("failed", statuses)
    statuses["SCS"] = "changed later"
    assert error.statuses == {"SCS": "inaccurate"}


@pytest.mark.parametrize("name", ["ConvergenceWarning", "NotFittedError"])
def test_scikit_learns_own_classes_are_re_exported(name):
    assert getattr(exceptions, name) is getattr(sklearn.exceptions, name)
