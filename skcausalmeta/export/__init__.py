"""Solved tasks as graphs that other programs run without this package."""

from ._module import ExportedTask, to_module
from ._onnx import to_onnx
from ._torch import to_torch

__all__ = [
    "ExportedTask",
    "to_module",
    "to_onnx",
    "to_torch",
]
