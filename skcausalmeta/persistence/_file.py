"""Save and load estimators."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skorch
import torch
from sklearn.base import BaseEstimator

from .._version import __version__
from ..exceptions import InvalidInputError, PersistenceError
from ..utils import printable
from ._container import Header, SavedFile, write_file
from ._decode import Decoder, usable_device
from ._encode import Encoder
from ._strict_json import Ref
from ._summary import parameter_texts
from ._withheld import said_in

FORMAT = 1
_MOST_VERSIONS, _LONGEST = 100, 200


def save(
    estimator: BaseEstimator, path: str | PathLike[str], *, optimizer_state: bool = True
) -> None:
    """Save an estimator, fitted or not, in one file without code.

    Settings and structure are JSON, numbers are safetensors; both are in one file
    that the safetensors library reads by itself. The file appears in one step: a
    crash leaves the old one or the new one. Paths, options of compilers and
    attributes that a class does not have are left out, with a warning.

    Parameters
    ----------
    estimator : estimator
        An estimator of this package, or a (Meta)Pipeline of such and of
        scikit-learn's transformers, with all they hold. Classes and functions of
        your own are saved by their name, and `load` asks you for them.
    path : str or path-like
        File to write; the ending is yours to choose. Its permissions are those that
        the umask leaves. A link stays, and the file that it names is written.
    optimizer_state : bool, default=True
        Keep what the optimiser has accumulated, which further training of ``net_``
        begins with. Without it the file is about a third as large.

    Raises
    ------
    PersistenceError
        If the estimator holds what cannot be saved, such as a lambda, a hook, an
        open file or an estimator of another package whose state is not arrays, as that
        of trees; the message says where. If the path is a pipe or a device.

    Warns
    -----
    UserWarning
        With the names of what is left out.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : The way back.

    Notes
    -----
    ``pickle`` and ``joblib.dump`` work too, but a pickle is a program: whoever can
    write the file can run anything on the machine that loads it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.heads import RidgeHead
    >>> from skcausalmeta.persistence import load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> head = RidgeHead().fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(head, Path(folder) / "head.safetensors")
    ...     again = load(Path(folder) / "head.safetensors")
    >>> print((again.predict(X) == head.predict(X)).all())
    True
    """
    if not isinstance(estimator, BaseEstimator):
        raise PersistenceError(
            "save takes an estimator. Got a "
            f"{type(estimator).__name__}; pass the object that has fit."
        )
    _write(Path(path), estimator, optimizer_state)


def load(
    path: str | PathLike[str],
    *,
    modules: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> Any:
    """Load an estimator that `save` has written.

    Nothing in the file is run. Classes and functions are looked up by name in a
    fixed list: those of this package, the layers, losses and optimisers that torch
    exports, scikit-learn's common transformers and linear models, skorch's callbacks
    that write no files, and `modules`. No constructor is called either.

    Parameters
    ----------
    path : str or path-like
        File to read.
    modules : mapping of str to type or function, default=None
        Your own backbones, heads, callbacks or functions by name, such as
        ``{"MyNet": MyNet}``. They are yours to trust: their methods run when the
        estimator is used.
    device : str or torch.device, default=None
        Where the tensors go. None: where they were.

    Returns
    -------
    estimator
        Equal to the saved one to the last bit, and independent of the file.

    Raises
    ------
    PersistenceError
        If the file is damaged, cut short, of another kind or of a newer format, names
        a class that is not in the list, or one of yours whose constructor sets more
        than it did; if the device is not at hand.
    InvalidInputError
        If `modules` is no mapping from names to classes or functions.
    OSError
        If the file cannot be read.

    Warns
    -----
    UserWarning
        With the names of what the file was saved without, or holds and may not set:
        paths, programs, and attributes that the classes do not have.

    Notes
    -----
    The checksum finds damage, not intent: whoever can change a file can also write
    a new checksum. Such a file can make an estimator that predicts something else;
    it cannot run code, and names no path that would be written to. Reading takes the
    memory of the numbers once, and time and memory in proportion to the file; it goes
    once through one descriptor, so that the file may be replaced meanwhile.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.heads import RidgeHead
    >>> from skcausalmeta.persistence import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(RidgeHead(0.5), Path(folder) / "head.safetensors")
    ...     print(load(Path(folder) / "head.safetensors"))
    RidgeHead(ridge_reg=0.5)
    """
    path = Path(path)
    found = _read(path, _names_of(modules), device)
    if not isinstance(found, BaseEstimator):
        raise PersistenceError(
            f"The file {path} must hold an estimator. Got a {type(found).__name__}."
        )
    return found


def describe(path: str | PathLike[str]) -> dict[str, Any]:
    """Tell what is in a saved file, without loading any numbers or classes.

    Parameters
    ----------
    path : str or path-like
        File that `save` has written.

    Returns
    -------
    dict
        ``"class"``: name of the class of the estimator. ``"parameters"``: dict of
        name to a short text. ``"format"``: version of the format. All texts are such
        that a terminal only shows them.
        ``"versions"``: dict of the versions of the packages it was saved with.
        ``"modules"``: names that `load` needs from you. ``"n_tensors"`` and
        ``"n_bytes"``: number of arrays and size of the file.

    Raises
    ------
    PersistenceError
        If the file is damaged or no saved estimator.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.heads import RidgeHead
    >>> from skcausalmeta.persistence import describe, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(RidgeHead(0.5), Path(folder) / "head.safetensors")
    ...     found = describe(Path(folder) / "head.safetensors")
    >>> print(found["class"], found["parameters"]["ridge_reg"], found["format"])
    RidgeHead 0.5 1
    """
    path = Path(path)
    header = SavedFile(path, with_numbers=False).header
    description = _checked(header, path)
    name, parameters = parameter_texts(description["nodes"], description["root"])
    versions = description["versions"]
    return {
        "class": name,
        "parameters": parameters,
        "format": description["format"],
        "versions": {printable(k): printable(v) for k, v in versions.items()},
        "modules": [printable(name) for name in description["custom"]],
        "n_tensors": header.n_tensors,
        "n_bytes": header.n_bytes,
    }


def write_value(path: Path, value: Any, *, optimizer_state: bool = True) -> None:
    """Write any value that can be in an estimator, such as a dict of arrays.

    Parameters
    ----------
    path : Path
        File to write.
    value : object
        An estimator, module or array, numbers, text, None, or lists, tuples and
        dicts of such.
    optimizer_state : bool, default=True
        Keep what the optimisers in it have accumulated.

    Raises
    ------
    PersistenceError
        If the value holds what cannot be saved; the message says where.
    OSError
        If the file cannot be written.

    See Also
    --------
    read_value : The way back.
    save : For estimators.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skcausalmeta.persistence import read_value, write_value
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_value(Path(folder) / "state", {"epoch": 3, "losses": [0.5, 0.25]})
    ...     print(read_value(Path(folder) / "state"))
    {'epoch': 3, 'losses': [0.5, 0.25]}
    """
    _write(path, value, optimizer_state)


def read_value(
    path: Path,
    modules: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> Any:
    """Read a value that `write_value` has written.

    Parameters
    ----------
    path : Path
        File to read.
    modules : mapping of str to type or function, default=None
        Classes and functions of your own by name, as for `load`.
    device : str or torch.device, default=None
        Where the tensors go. None: where they were.

    Returns
    -------
    object
        Equal to what was written, and independent of the file.

    Raises
    ------
    PersistenceError
        If the file is damaged, cut short, of another kind or of a newer format, or
        names a class that is neither listed nor in `modules`.
    OSError
        If the file cannot be read.

    See Also
    --------
    write_value : The way there, with an example of both.
    load : For estimators.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skcausalmeta.persistence import read_value, write_value
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_value(Path(folder) / "state", np.arange(3))
    ...     print(read_value(Path(folder) / "state"))
    [0 1 2]
    """
    return _read(path, _names_of(modules), device)


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide what a file means.

    Returns
    -------
    dict of str to str
        Version of this package, Python, numpy, scikit-learn, skorch and torch.

    Examples
    --------
    >>> from skcausalmeta.persistence import installed_versions
    >>> print(*installed_versions())
    skcausalmeta python numpy scikit-learn skorch torch
    """
    return {
        "skcausalmeta": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "skorch": skorch.__version__,
        "torch": str(torch.__version__),
    }


def _write(path: Path, value: Any, optimizer_state: bool) -> None:
    encoder = Encoder(optimizer_state)
    root = encoder.value(value, "")
    description = {
        "format": FORMAT,
        "versions": installed_versions(),
        "custom": sorted(encoder.custom),
        "constructors": encoder.constructors(),
        "left out": encoder.left_out.names,
        "root": root,
        "nodes": encoder.nodes,
    }
    write_file(path, description, encoder.tensors)
    encoder.left_out.warn(f"{path} was saved", stacklevel=3)


def _names_of(modules: Any) -> Mapping[str, Any]:
    """Return the classes and functions of the user by name."""
    if modules is None:
        return {}
    named = isinstance(modules, Mapping) and all(
        isinstance(name, str) and callable(one) for name, one in modules.items()
    )
    if not named:
        raise InvalidInputError(
            "The 'modules' parameter must map names to classes or functions. Got "
            f"{printable(repr(modules))}; pass for instance {{'MyNet': MyNet}}."
        )
    found: Mapping[str, Any] = modules
    return found


def _read(path: Path, modules: Mapping[str, Any], device: Any) -> Any:
    place = None
    if device is not None:
        place = usable_device(device, "name another device")
    saved = SavedFile(path, with_numbers=True)
    description = _checked(saved.header, path)
    decoder = Decoder(
        description["nodes"],
        saved.take,
        saved.header.n_bytes,
        dict(modules),
        place,
        description.get("constructors", {}),
    )
    for text in said_in(description):
        decoder.left_out.note(text)
    try:
        found = decoder.value(description["root"])
    except PersistenceError:
        raise
    # Whatever a file that was forged with a right checksum brings about.
    except Exception as error:
        raise PersistenceError(
            f"The file {path} must describe an estimator. Got an error: "
            f"{type(error).__name__}: {printable(str(error)[:200])}; it is damaged."
        ) from error
    decoder.left_out.warn(f"{path} was loaded", stacklevel=3)
    return found


def _checked(header: Header, path: Path) -> dict[str, Any]:
    description = header.description
    number = description.get("format")
    if type(number) is int and number > FORMAT:
        raise PersistenceError(
            f"The file {path} must be of format {FORMAT} or older. Got format "
            f"{number}; install a newer version of skcausalmeta."
        )
    expected = {"versions": dict, "custom": list, "nodes": list, "root": Ref}
    wrong = [k for k, kind in expected.items() if type(description.get(k)) is not kind]
    if not wrong and not _are_texts(description):
        wrong = ["names"]
    if number != FORMAT or wrong:
        raise PersistenceError(
            f"The file {path} must describe an estimator in format {FORMAT}. Got "
            f"format {repr(number)[:60]} without {wrong}; it is damaged, get another "
            "copy."
        )
    return description


def _are_texts(description: dict[str, Any]) -> bool:
    """Whether versions and names are text, few and short."""
    constructors = description.get("constructors", {})
    if type(constructors) is not dict:
        return False
    texts = [*description["versions"].values(), *description["custom"]]
    short = len(description["versions"]) <= _MOST_VERSIONS
    return short and all(isinstance(t, str) and len(t) <= _LONGEST for t in texts)
