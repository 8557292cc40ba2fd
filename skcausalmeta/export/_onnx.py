"""A solved task as a file for onnxruntime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..exceptions import InvalidInputError
from ._module import ExportedTask, to_module

_OPSET = 18
_NEEDS = ("onnx", "onnxscript")


def to_onnx(
    learner: Any,
    path: str | os.PathLike[str],
    *,
    opset: int = _OPSET,
) -> ExportedTask:
    """Write what a learner answers for the task in use as one ONNX graph.

    The file needs onnxruntime alone: neither this package, nor torch or scikit-learn.
    It has one input, "rows" (n, ...), for any number n of rows. Their type, and all
    that a service has to know, stands in the metadata of the file.

    Parameters
    ----------
    learner : estimator
        Fitted, and adapted to the task, as for `to_module`.
    path : str or path-like
        File to write, by convention with the suffix .onnx.
    opset : int, default=18
        Version of the operators, 18 or later.

    Returns
    -------
    ExportedTask
        The module that was written.

    Raises
    ------
    ImportError
        Without onnx and onnxscript, which the extra "export" brings.
    NotFittedError
        If the learner has solved no task.
    InvalidInputError
        If the learner cannot be one graph, or an operation of its backbone has no
        counterpart in ONNX; the message says why.

    See Also
    --------
    to_module : What the graph holds.

    Notes
    -----
    Outputs are "scores" and "probabilities" (n, n_classes) of classes, in double
    precision and the order of the labels in the metadata, or "predictions" (n,) of a
    regressor. The metadata, strings by name: "classes" (a JSON list; null in
    regression), "input_dtype", "input_shape" (a JSON list, without the rows),
    "learner" and "skcausalmeta" (name of the class, version of the package).

    Examples
    --------
    >>> from skcausalmeta.export import to_onnx
    >>> def publish(learner, X, y):
    ...     to_onnx(learner.adapt(X, y), "task.onnx")
    """
    _require()
    if opset < _OPSET:
        raise InvalidInputError(
            f"The 'opset' parameter must be at least {_OPSET}. Got {opset}; leave it "
            "out, or convert the file with onnx.version_converter."
        )
    module = to_module(learner)
    rows = module.example(3)
    batch = ({0: torch.export.Dim("n", min=1)},)
    try:
        with _in_silence():
            program: Any = torch.onnx.export(
                module,
                (rows,),
                dynamo=True,
                dynamic_shapes=batch,
                input_names=["rows"],
                output_names=list(module.output_names),
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # of the exporter, of many types
        reason = str(error.__cause__ or error).strip().splitlines()
        raise InvalidInputError(
            "Every operation of a backbone must have a counterpart in ONNX, for any "
            f"number of rows. Got {type(error).__name__}: {reason[0] if reason else ''}"
            "; change the backbone, or serve the learner itself."
        ) from error
    _require_any_number_of_rows(program)
    program.model.metadata_props.update(_metadata(learner, module))
    program.save(Path(path), external_data=None)
    return module


def _require_any_number_of_rows(program: Any) -> None:
    size = program.model.graph.inputs[0].shape[0]
    if isinstance(size, int):
        raise InvalidInputError(
            "A graph takes any number of rows. Got a backbone whose operations fix it "
            f"to {size}; take the number from rows.shape[0] where it is used, as "
            "len(rows) is a fixed one."
        )


def _metadata(learner: Any, module: ExportedTask) -> dict[str, str]:
    classes = None if module.classes is None else module.classes.tolist()
    return {
        "classes": json.dumps(classes, default=str),
        "input_dtype": str(module.input_dtype).removeprefix("torch."),
        "input_shape": json.dumps(list(module.input_shape)),
        "learner": type(learner).__name__,
        "skcausalmeta": __version__,
    }


def _require() -> None:
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"to_onnx needs {' and '.join(_NEEDS)}. Got none of {missing}; install "
            "them with pip install 'skcausalmeta[export]'."
        )


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """Keep the exporter's notes on its own progress from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
