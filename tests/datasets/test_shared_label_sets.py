"""Assays, people and schools from files of their layout, and from CSV files."""

import gzip
import hashlib
import sys
import types

import numpy as np
import pytest

from skcausalmeta.datasets import (
    fetch_school,
    fetch_tox21,
    fetch_toxcast,
    fetch_wisdm,
)
from skcausalmeta.exceptions import InvalidInputError

ASSAYS = np.array(["NR-AR", "SR-HSE", "SR-p53"])
LABELS = np.array([[0, 1, -1], [1, -1, 0], [-1, 0, 1], [0, 1, 1]], dtype=np.int8)
BITS = np.random.default_rng(0).integers(2, size=(4, 1024), dtype=np.uint8)
ASSAY_SETS = [(fetch_tox21, "tox21.npz"), (fetch_toxcast, "toxcast.npz")]


def write_assays(path, **changes):
    arrays = {"X_bits": np.packbits(BITS, axis=1), "Y": LABELS, "names": ASSAYS}
    np.savez_compressed(path, **{**arrays, **changes})


@pytest.fixture
def folder(tmp_path):
    for _, name in ASSAY_SETS:
        write_assays(tmp_path / name)
    rng = np.random.default_rng(1)
    rows = {"y": np.arange(6, dtype=np.int8) % 2, "tasks": np.arange(6) // 3}
    classes = np.array(["Sitting", "Walking"])
    X = rng.standard_normal((6, 43)).astype(np.float32)
    np.savez_compressed(tmp_path / "wisdm.npz", X=X, classes=classes, **rows)
    np.savez_compressed(tmp_path / "school.npz", X=X[:, :27], **rows)
    return tmp_path


def test_assays_become_rows_of_a_label_each(folder):
    bunch = fetch_tox21(data_home=folder)
    assert bunch.data.dtype == np.uint8
    assert bunch.tasks.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert bunch.molecule.tolist() == [0, 1, 3, 0, 2, 3, 1, 2, 3]
    assert bunch.target.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 1]
    np.testing.assert_array_equal(bunch.data, BITS[bunch.molecule])
    assert bunch.split.tolist() == ["train"] * 3 + ["test"] * 6
    assert bunch.names.tolist() == ASSAYS.tolist()
    assert "Altae-Tran" in bunch.DESCR


def test_assays_stay_wide_if_asked_to(folder):
    bunch = fetch_tox21(data_home=folder, wide=True)
    np.testing.assert_array_equal(bunch.data, BITS)
    np.testing.assert_array_equal(np.nan_to_num(bunch.target, nan=-1), LABELS)
    assert "tasks" not in bunch


def test_the_rows_of_an_assay_can_be_bounded(folder):
    some = [
        fetch_tox21(data_home=folder, max_per_task=2, random_state=seed)
        for seed in (0, 0, 1, 2, 3)
    ]
    for bunch in some:
        assert np.bincount(bunch.tasks).tolist() == [2, 2, 2]
        assert (bunch.target == LABELS[bunch.molecule, bunch.tasks]).all()
    np.testing.assert_array_equal(some[0].molecule, some[1].molecule)
    assert len({tuple(bunch.molecule) for bunch in some}) > 1


def test_assays_of_few_labels_are_left_out(folder):
    with pytest.raises(InvalidInputError, match="min_per_class=100 leaves no assay"):
        fetch_toxcast(data_home=folder)
    write_assays(folder / "toxcast.npz", Y=np.where(LABELS == -1, 1, LABELS))
    bunch = fetch_toxcast(data_home=folder, min_per_class=2)
    assert bunch.names.tolist() == ["NR-AR"]
    assert bunch.target.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Y": LABELS[:3]}, r"Y \(n, n_tasks\).*\(3, 3\)"),
        ({"names": ASSAYS[:2]}, "2 names"),
        ({"X_bits": np.packbits(BITS[:, :512], axis=1)}, r"\(4, 64\) uint8"),
        ({"X_bits": np.packbits(BITS, axis=1).astype(int)}, r"\(4, 128\) int64"),
        ({"Y": LABELS + 1}, r"0, 1, or -1 for no label. Got \[0, 1, 2\]"),
    ],
)
@pytest.mark.parametrize(("fetch", "name"), ASSAY_SETS)
def test_assays_of_another_layout_are_refused(folder, fetch, name, changes, message):
    write_assays(folder / name, **changes)
    with pytest.raises(InvalidInputError, match=message):
        fetch(data_home=folder)


def test_people_and_schools_are_read(folder):
    people = fetch_wisdm(data_home=folder)
    assert people.data.shape == (6, 43)
    assert people.names[people.target].tolist() == ["Sitting", "Walking"] * 3
    assert people.tasks.tolist() == [0, 0, 0, 1, 1, 1]
    pupils = fetch_school(data_home=folder)
    assert pupils.data.shape == (6, 27)
    assert pupils.target.tolist() == [0, 1] * 3
    assert "London" in pupils.DESCR


@pytest.mark.parametrize(
    ("fetch", "name"), [(fetch_wisdm, "wisdm.npz"), (fetch_school, "school.npz")]
)
def test_rows_without_a_task_are_refused(folder, fetch, name):
    with np.load(folder / name) as archive:
        arrays = dict(archive)
    np.savez_compressed(folder / name, **{**arrays, "tasks": arrays["tasks"][:5]})
    with pytest.raises(InvalidInputError, match=r"'tasks': \(5,\)"):
        fetch(data_home=folder)


@pytest.mark.parametrize("fetch", [fetch_tox21, fetch_toxcast, fetch_wisdm])
def test_a_missing_table_is_named_with_its_remedy(tmp_path, monkeypatch, fetch):
    monkeypatch.setenv("SKCAUSALMETA_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"Cannot find .*npz.*Put the file.*DATA"
    ):
        fetch()


@pytest.mark.parametrize("mark", ["", "*", "./"])
def test_the_checksum_beside_a_file_is_verified(folder, mark):
    digest = hashlib.sha256((folder / "school.npz").read_bytes()).hexdigest()
    manifest = folder / "MANIFEST.sha256"
    manifest.write_text(f"{'0' * 64}  other.npz\n{digest}  {mark}school.npz\n")
    assert fetch_school(data_home=folder).data.shape == (6, 27)
    manifest.write_text(f"{'0' * 64}  {mark}school.npz\n")
    with pytest.raises(InvalidInputError, match=f"Got {digest} and not 0{{64}}; copy"):
        fetch_school(data_home=folder)


CSV = "NR-AR,SR-HSE,mol_id,smiles\n0,,TOX1,CO\n1.0,0,TOX2,C\n,1,TOX3,nonsense\n"


@pytest.fixture
def rdkit(monkeypatch):
    """A stand-in that counts atoms, one letter each, and refuses what is long."""

    class Molecule:
        def __init__(self, smiles):
            self.smiles = smiles

        def GetNumAtoms(self):
            return len(self.smiles)

    class Generator:
        def __init__(self, radius, fpSize):
            self.radius, self.size = radius, fpSize

        def GetFingerprintAsNumPy(self, molecule):
            bits = np.zeros(self.size, dtype=np.uint8)
            bits[: self.radius + molecule.GetNumAtoms()] = 1
            return bits

    class BlockLogs:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return False

    module = types.ModuleType("rdkit")
    module.Chem = types.ModuleType("rdkit.Chem")
    module.rdBase = types.SimpleNamespace(BlockLogs=BlockLogs)
    module.Chem.MolFromSmiles = lambda s: Molecule(s) if len(s) < 4 else None
    module.Chem.rdFingerprintGenerator = types.SimpleNamespace(
        GetMorganGenerator=Generator
    )
    monkeypatch.setitem(sys.modules, "rdkit", module)
    monkeypatch.setitem(sys.modules, "rdkit.Chem", module.Chem)
    return module


@pytest.mark.parametrize("packed", [False, True])
def test_fingerprints_are_made_from_a_csv_file(tmp_path, rdkit, packed):
    content = CSV.encode("utf-8-sig")
    name = "tox21.csv.gz" if packed else "tox21.csv"
    (tmp_path / name).write_bytes(
        gzip.compress(content, mtime=0) if packed else content
    )
    bunch = fetch_tox21(data_home=tmp_path, radius=3, n_bits=16)
    assert bunch.names.tolist() == ["NR-AR", "SR-HSE"]
    assert bunch.target.tolist() == [0, 1, 0]
    assert bunch.molecule.tolist() == [0, 1, 1]  # RDKit refuses the third
    assert bunch.data.sum(axis=1).tolist() == [5, 4, 4]
    assert bunch.data.shape == (3, 16)


def test_the_npz_file_serves_for_its_own_fingerprints_only(folder, rdkit):
    (folder / "tox21.csv").write_text(CSV)
    assert len(fetch_tox21(data_home=folder, wide=True).data) == 4
    assert len(fetch_tox21(data_home=folder, wide=True, n_bits=16).data) == 2
    (folder / "tox21.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Cannot find tox21\.csv or"):
        fetch_tox21(data_home=folder, n_bits=16)


def test_rdkit_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    (tmp_path / "toxcast_data.csv").write_text(CSV)
    with pytest.raises(ImportError, match="pip install rdkit"):
        fetch_toxcast(data_home=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", r"a column 'smiles'.*Got the columns \['a', 'b'\]"),
        (b"", r"Got the columns \[\]"),
        (b"a,smiles\n2,C\n", "0, 1 or empty. Got '2' for a"),
        (b"a,smiles\nyes,C\n", "Got 'yes' for a"),
        (b"a,smiles\n1,nonsense\n", "RDKit can read. Got none"),
        (b"a,smiles\n\xff\xfe,C\n", "that is whole. Got 'utf-8"),
    ],
)
def test_other_csv_files_are_refused(tmp_path, rdkit, content, message):
    (tmp_path / "tox21.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        fetch_tox21(data_home=tmp_path)


@pytest.mark.parametrize(
    "content", [CSV.encode(), gzip.compress(CSV.encode(), mtime=0)[:-9]]
)
def test_damaged_gzip_files_are_refused(tmp_path, rdkit, content):
    (tmp_path / "tox21.csv.gz").write_bytes(content)
    with pytest.raises(InvalidInputError, match="with or without gzip, that is whole"):
        fetch_tox21(data_home=tmp_path)
