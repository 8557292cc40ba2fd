"""A solved task as a program of torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..exceptions import InvalidInputError
from ._module import to_module


def to_torch(
    learner: Any, path: str | os.PathLike[str] | None = None
) -> torch.export.ExportedProgram:
    """Return what a learner answers for the task in use as a program of torch.

    The program needs torch alone, and takes any number of rows.

    Parameters
    ----------
    learner : estimator
        Fitted, and adapted to the task, as for `to_module`.
    path : str or path-like, default=None
        File to write, with the suffix .pt2, for `torch.export.load`. None: none.

    Returns
    -------
    torch.export.ExportedProgram
        ``program.module()(rows)`` gives what `to_module` gives.

    Raises
    ------
    NotFittedError
        If the learner has solved no task.
    InvalidInputError
        If the learner cannot be one graph; the message says why.

    See Also
    --------
    to_onnx : The same as a file for onnxruntime.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.export import to_torch
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = SparseMetaClassifier(max_epochs=1, verbose=0, random_state=0)
    >>> program = to_torch(learner.fit(X[y < 6], y[y < 6]))
    >>> scores, probabilities = program.module()(torch.zeros(7, 64))
    >>> probabilities.shape
    torch.Size([7, 6])
    """
    module = to_module(learner)
    batch = ({0: torch.export.Dim("n", min=1)},)
    try:
        program = torch.export.export(
            module, (module.example(3),), dynamic_shapes=batch
        )
    except Exception as error:  # of the exporter, of many types
        lines = str(error).strip().splitlines()
        raise InvalidInputError(
            "torch.export must be able to follow a backbone, for any number of rows. "
            f"Got {type(error).__name__}: {lines[0] if lines else ''}; change the "
            "backbone, or use to_module, which gives a plain module."
        ) from error
    if path is not None:
        torch.export.save(program, Path(path))
    return program
