"""What a solver needs of a loss and a penalty."""

from __future__ import annotations

from collections.abc import Sequence

from ._problem import Problem


def require(
    problem: Problem,
    solver: str,
    *,
    loss: Sequence[str] = (),
    penalty: Sequence[str] = (),
) -> None:
    """Refuse a problem whose loss or penalty lacks what a solver needs.

    Losses and penalties declare what they offer by having it: the logistic loss,
    whose dual has unbounded curvature, has no `dual_curvature`. A solver names its
    needs here, once, before its first step.

    Parameters
    ----------
    problem : Problem
        The batch of problems.
    solver : str
        Name of the solver, for the message.
    loss, penalty : sequence of str
        Names that the loss and the penalty must have.

    Raises
    ------
    TypeError
        If a name is missing.
    """
    for role, part, needs in (
        ("loss", problem.loss, loss),
        ("penalty", problem.penalty, penalty),
    ):
        missing = [name for name in needs if not hasattr(part, name)]
        if missing:
            raise TypeError(
                f"{solver} needs a {role} with {', '.join(needs)}. Got "
                f"{type(part).__name__}, which has no {', '.join(missing)}; choose "
                f"another solver or another {role}."
            )
