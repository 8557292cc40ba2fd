"""Picture of which task uses which module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..exceptions import InvalidInputError
from ._canvas import fitted_fact, new_axes


class RoutingDisplay:
    """Routing from modules to tasks as a grid of weights.

    Parameters
    ----------
    routing : array-like of shape (n_tasks, n_modules)
        Weights between 0 and 1.
    task_names : sequence, default=None
        Names of the tasks. None: their numbers.
    module_names : sequence, default=None
        Names of the modules. None: their numbers.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture, after `plot`.
    figure_ : matplotlib Figure
        Its figure.
    im_ : matplotlib AxesImage
        The grid.

    Examples
    --------
    >>> from skcausalmeta.inspection import RoutingDisplay
    >>> display = RoutingDisplay([[0.9, 0.1], [0.2, 0.8]], task_names=["a", "b"])
    >>> display.routing.shape
    (2, 2)
    """

    def __init__(
        self,
        routing: ArrayLike,
        *,
        task_names: Sequence[Any] | None = None,
        module_names: Sequence[Any] | None = None,
    ) -> None:
        self.routing = np.asarray(routing, dtype=float)
        if self.routing.ndim != 2:
            raise InvalidInputError(
                "routing must have shape (n_tasks, n_modules). Got "
                f"{self.routing.shape}."
            )
        self.task_names = _names(task_names, self.routing.shape[0], "task_names")
        self.module_names = _names(module_names, self.routing.shape[1], "module_names")

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **params: Any
    ) -> RoutingDisplay:
        """Draw the routing of a fitted multi-task learner.

        Parameters
        ----------
        estimator : estimator
            Has ``routing_``, and ``tasks_`` for the names.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **params : dict
            Parameters of the constructor.

        Returns
        -------
        RoutingDisplay
            The drawn picture.
        """
        check_is_fitted(estimator)
        names = {"task_names": getattr(estimator, "tasks_", None), **params}
        return cls(fitted_fact(estimator, "routing_"), **names).plot(ax=ax)

    def plot(self, ax: Any = None, *, cmap: str = "viridis") -> RoutingDisplay:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        cmap : str, default="viridis"
            Colour map.

        Returns
        -------
        RoutingDisplay
            Itself.
        """
        self.figure_, self.ax_ = new_axes(self, ax, (6.4, 4.8))
        self.im_ = self.ax_.imshow(
            self.routing, vmin=0.0, vmax=1.0, cmap=cmap, aspect="auto"
        )
        self.ax_.set_xticks(range(len(self.module_names)), self.module_names)
        self.ax_.set_yticks(range(len(self.task_names)), self.task_names)
        self.ax_.set(xlabel="module", ylabel="task")
        self.figure_.colorbar(self.im_, ax=self.ax_, label="routing weight")
        return self


def _names(names: Sequence[Any] | None, n: int, parameter: str) -> list[str]:
    found = range(n) if names is None else names
    if len(found) != n:
        raise InvalidInputError(f"{parameter} must hold {n} names. Got {len(found)}.")
    return [str(name) for name in found]
