"""Classes that the user names on the command line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from ..exceptions import InvalidInputError


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option that names code of the user's own."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="class or function of your own that the estimator needs; imports it",
    )


def trusted(names: Sequence[str]) -> dict[str, Any]:
    """Import what ``MODULE:NAME`` says, by name.

    Raises
    ------
    InvalidInputError
        If a text is not of that form, or the module has no such name.
    ImportError
        If there is no such module.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules beside the data, as for a script
    found = {}
    for text in names:
        module, _, name = text.partition(":")
        thing = getattr(importlib.import_module(module), name, None) if name else None
        if thing is None:
            raise InvalidInputError(
                "--trust takes MODULE:NAME of a class or function. Got "
                f"{text!r}; write for example my_nets:MyNet."
            )
        found[name] = thing
    return found
