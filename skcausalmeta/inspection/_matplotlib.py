"""matplotlib, imported when a picture is drawn and not before."""

from __future__ import annotations

from typing import Any


def new_axes(owner: str) -> Any:
    """Axes of a new figure, or an error that says what to install."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{owner}.plot needs matplotlib, which is not installed. Install it with "
            "'pip install skcausalmeta[plot]'."
        ) from error
    return pyplot.subplots(layout="constrained")[1]
