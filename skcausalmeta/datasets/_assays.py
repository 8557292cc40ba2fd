"""Tables of molecules and assays: fingerprints, labels with gaps, long rows."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from ..exceptions import InvalidInputError
from ._data_home import find, missing
from ._manifest import read_checked_npz

RADIUS, N_BITS = 2, 1024  # of the fingerprints in the npz files
UNLABELLED = -1
_SMILES = "smiles"


class Molecules(NamedTuple):
    """Molecules by assays: bits (n, n_bits), labels (n, n_assays), -1 for none."""

    bits: NDArray[np.uint8]
    labels: NDArray[np.int8]
    names: NDArray[Any]


def read_molecules(
    home: Path, npz: str, tables: Sequence[str], radius: int, n_bits: int
) -> Molecules:
    """Fingerprints of an npz file, or made from the SMILES of a CSV file.

    The npz file is taken where it is there and has the fingerprints asked for.

    Raises
    ------
    FileNotFoundError
        If neither is there.
    ImportError
        If a CSV file is there and RDKit is not.
    InvalidInputError
        If a file is damaged.
    """
    as_stored = (radius, n_bits) == (RADIUS, N_BITS)
    if as_stored and (home / npz).is_file():
        return _from_npz(home / npz)
    table = find(home, tables)
    if table is None:
        wanted = [*([npz] if as_stored else []), *tables]
        raise missing(wanted, home, "Put the file there")
    return _from_table(table, radius, n_bits)


def keep_assays(found: Molecules, least: int) -> Molecules:
    """The assays with at least so many labels of either class.

    Raises
    ------
    InvalidInputError
        If none is left.
    """
    smallest = np.minimum((found.labels == 0).sum(0), (found.labels == 1).sum(0))
    kept = smallest >= least
    if not kept.any():
        raise InvalidInputError(
            f"min_per_class={least} leaves no assay; the largest has "
            f"{int(smallest.max())} labels of either class. Lower it."
        )
    return Molecules(found.bits, found.labels[:, kept], found.names[kept])


def wide_bunch(found: Molecules, descr: str) -> Bunch:
    """A row a molecule, a column of labels an assay."""
    labels = found.labels.astype(float)
    labels[found.labels == UNLABELLED] = np.nan
    return Bunch(
        data=found.bits,
        target=labels,
        molecule=np.arange(len(labels)),
        names=found.names,
        DESCR=descr,
    )


def long_bunch(
    found: Molecules, max_per_task: int | None, random_state: Any, descr: str
) -> Bunch:
    """A row a label, assay by assay."""
    rng = check_random_state(random_state)
    rows = []
    for column in found.labels.T:
        own = np.flatnonzero(column != UNLABELLED)
        if max_per_task is not None and len(own) > max_per_task:
            own = np.sort(rng.choice(own, max_per_task, replace=False))
        rows.append(own)
    molecule = np.concatenate(rows)
    tasks = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    return Bunch(
        data=found.bits[molecule],
        target=found.labels[molecule, tasks],
        tasks=tasks,
        molecule=molecule,
        names=found.names,
        DESCR=descr,
    )


def _from_npz(path: Path) -> Molecules:
    arrays = read_checked_npz(path, ("X_bits", "Y", "names"))
    packed, labels, names = (arrays[key] for key in ("X_bits", "Y", "names"))
    fits = packed.ndim == 2 and labels.shape == (len(packed), len(names))
    if not fits or packed.dtype != np.uint8 or packed.shape[1] * 8 != N_BITS:
        raise InvalidInputError(
            f"{path.name} must hold X_bits (n, {N_BITS // 8}) of bytes, and Y (n, "
            f"n_tasks) for its names. Got {packed.shape} {packed.dtype}, "
            f"{labels.shape} and {len(names)} names; take a file of this data set."
        )
    if not np.isin(labels, (0, 1, UNLABELLED)).all():
        raise InvalidInputError(
            f"Y in {path.name} must be 0, 1, or -1 for no label. Got "
            f"{np.unique(labels).tolist()[:10]}; take a file of this data set."
        )
    return Molecules(np.unpackbits(packed, axis=1), labels.astype(np.int8), names)


def _from_table(path: Path, radius: int, n_bits: int) -> Molecules:
    """Molecules of a CSV file with a column of SMILES; those RDKit refuses go."""
    lines = csv.DictReader(io.StringIO(_text_of(path)))
    columns = [name for name in lines.fieldnames or () if name]
    if _SMILES not in columns:
        raise InvalidInputError(
            f"{path.name} must be a CSV file with a column {_SMILES!r} and one an "
            f"assay. Got the columns {columns[:10]}; take the original file."
        )
    names = [name for name in columns if name not in (_SMILES, "mol_id")]
    fingerprint = _fingerprint_of(radius, n_bits, path.name)
    bits, labels = [], []
    for line in lines:
        own = fingerprint(line[_SMILES] or "")
        if own is not None:
            bits.append(own)
            labels.append([_label(line[name], name, path.name) for name in names])
    if not bits:
        raise InvalidInputError(
            f"{path.name} must hold molecules that RDKit can read. Got none; take the "
            "original file."
        )
    return Molecules(np.array(bits), np.array(labels, dtype=np.int8), np.array(names))


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{path.name} must be a CSV file, with or without gzip, that is whole. Got "
            f"{error}; fetch it again."
        ) from error


def _label(text: str | None, assay: str, file: str) -> int:
    if not (text or "").strip():
        return UNLABELLED
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if value not in (0.0, 1.0):
        raise InvalidInputError(
            f"A label in {file} must be 0, 1 or empty. Got {text!r} for {assay}; take "
            "the original file."
        )
    return int(value)


def _fingerprint_of(radius: int, n_bits: int, file: str) -> Any:
    """Function from SMILES to Morgan bits, None for what is no molecule."""
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError as error:
        raise ImportError(
            f"RDKit makes the fingerprints of the molecules in {file}. Install it with "
            "'pip install rdkit', or put the npz file of this data set into the folder."
        ) from error
    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)

    def fingerprint(smiles: str) -> NDArray[np.uint8] | None:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            return None
        return np.asarray(morgan.GetFingerprintAsNumPy(molecule), dtype=np.uint8)

    return fingerprint
