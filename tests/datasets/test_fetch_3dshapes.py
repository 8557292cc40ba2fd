"""fetch_3dshapes on files written here and from a server on this machine."""

import io
import sys
import types

import numpy as np
import pytest

from skcausalmeta.datasets import _fetch_3dshapes, fetch_3dshapes
from skcausalmeta.exceptions import InvalidInputError

LEVELS = np.random.default_rng(0).integers([10, 10, 10, 8, 4, 15], size=(12, 6))
GRIDS = [np.arange(10) / 10] * 3 + [
    np.linspace(0.75, 1.25, 8),
    np.arange(4.0),
    np.linspace(-30, 30, 15),
]
LABELS = np.column_stack([grid[k] for grid, k in zip(GRIDS, LEVELS.T, strict=True)])
IMAGES = np.random.default_rng(1).integers(256, size=(12, 8, 8, 3), dtype=np.uint8)


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


class StrictDataset:
    """Rows of an array, under the rules of an HDF5 data set."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            assert (np.diff(rows) > 0).all(), "indices must be in increasing order"
        return self.values[rows]


class FakeFile(dict):
    """An archive that is closed after the with block; npz inside."""

    def __init__(self, path, mode):
        assert mode == "r"
        with np.load(path) as archive:
            super().__init__({k: StrictDataset(archive[k]) for k in archive.files})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.clear()


@pytest.fixture
def h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=FakeFile))


@pytest.fixture
def no_h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)


@pytest.fixture
def published(server, monkeypatch):
    """The published file on a server of this machine."""
    body = npz_bytes(images=IMAGES, labels=LABELS)
    monkeypatch.setattr(_fetch_3dshapes, "_REMOTE", server.remote("3dshapes.h5", body))
    return server


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "3dshapes.npz"
    path.write_bytes(npz_bytes(images=IMAGES, labels=LABELS))
    return path


def check_all_rows(bunch):
    np.testing.assert_array_equal(bunch.data, IMAGES)
    np.testing.assert_array_equal(bunch.factors, LABELS)
    np.testing.assert_array_equal(bunch.levels, LEVELS)
    assert bunch.factor_names[4] == "shape"
    assert bunch.factor_sizes == (10, 10, 10, 8, 4, 15)


# -- local files -----------------------------------------------------------------------


def test_a_local_npz_by_path_by_folder_and_by_environment(npz, monkeypatch, no_h5py):
    check_all_rows(fetch_3dshapes(path=npz))
    check_all_rows(fetch_3dshapes(data_home=str(npz.parent)))
    monkeypatch.setenv("SKCAUSALMETA_DATA", str(npz.parent))
    check_all_rows(fetch_3dshapes())


def test_latents_are_the_factors_in_standard_units(npz):
    bunch = fetch_3dshapes(path=npz)
    means = [grid.mean() for grid in GRIDS]
    stds = [grid.std() for grid in GRIDS]
    np.testing.assert_allclose(bunch.latents, (LABELS - means) / stds)


def test_some_rows_keep_images_and_factors_together(npz):
    some, again, other = (
        fetch_3dshapes(path=npz, n_samples=7, random_state=seed) for seed in (0, 0, 1)
    )
    rows = [
        int(np.flatnonzero((x == IMAGES).all(axis=(1, 2, 3)))[0]) for x in some.data
    ]
    assert len(rows) == 7
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(some.factors, LABELS[rows])
    np.testing.assert_array_equal(some.data, again.data)
    assert (some.data != other.data).any()


def test_a_local_hdf5_file(tmp_path, h5py):
    path = tmp_path / "3dshapes.h5"
    path.write_bytes(npz_bytes(images=IMAGES, labels=LABELS))
    check_all_rows(fetch_3dshapes(data_home=tmp_path))
    some = fetch_3dshapes(path=path, n_samples=5, random_state=0)
    (tmp_path / "copy.npz").write_bytes(path.read_bytes())
    same = fetch_3dshapes(path=tmp_path / "copy.npz", n_samples=5, random_state=0)
    np.testing.assert_array_equal(some.data, same.data)
    np.testing.assert_array_equal(some.factors, same.factors)


def test_without_h5py_the_remedy_is_named(tmp_path, no_h5py):
    (tmp_path / "3dshapes.h5").write_bytes(b"HDF")
    with pytest.raises(ImportError, match=r"pip install h5py.*\[data\].*or convert"):
        fetch_3dshapes(data_home=tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Cannot find the file '.*elsewhere"):
        fetch_3dshapes(path=tmp_path / "elsewhere.h5")
    with pytest.raises(
        FileNotFoundError, match=r"npz or 3dshapes\.h5 in .* there by hand"
    ):
        fetch_3dshapes(data_home=tmp_path, download_if_missing=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, r"the arrays .* Got \['images'\]"),
        ({"images": IMAGES[:, :, :, 0], "labels": LABELS}, r"Got uint8 \(12, 8, 8\)"),
        ({"images": IMAGES / 255, "labels": LABELS}, "of bytes .* Got float64"),
        ({"images": IMAGES, "labels": LABELS[:, :5]}, r"labels \(n, 6\).* \(12, 5\)"),
        ({"images": IMAGES[:9], "labels": LABELS}, r"\(9, 8, 8, 3\) and \(12, 6\)"),
    ],
)
@pytest.mark.parametrize("n_samples", [None, 5])
def test_files_of_another_kind_are_refused(tmp_path, h5py, arrays, message, n_samples):
    for name in ("other.npz", "other.h5"):
        path = tmp_path / name
        path.write_bytes(npz_bytes(**arrays))
        with pytest.raises(InvalidInputError, match=rf"{name} must hold.*{message}"):
            fetch_3dshapes(path=path, n_samples=n_samples)


def test_no_more_rows_than_there_are(npz):
    with pytest.raises(InvalidInputError, match=r"at most the 12 images.*Got 13"):
        fetch_3dshapes(path=npz, n_samples=13)
    with pytest.raises(ValueError, match="'n_samples' parameter"):
        fetch_3dshapes(path=npz, n_samples=0)


def test_images_and_factors_alone(npz):
    X, y = fetch_3dshapes(path=npz, return_X_y=True)
    np.testing.assert_array_equal(X, IMAGES)
    np.testing.assert_array_equal(y, LABELS)


# -- download --------------------------------------------------------------------------


def test_the_published_address_and_checksum_are_well_formed():
    remote = _fetch_3dshapes._REMOTE
    assert remote.url.startswith("https://")
    assert remote.url.endswith("/3dshapes.h5")
    assert len(bytes.fromhex(remote.checksum.removeprefix("sha256:"))) == 32


def test_download_once_into_a_new_folder(tmp_path, published, h5py):
    home = tmp_path / "new" / "folder"
    check_all_rows(fetch_3dshapes(data_home=home))
    check_all_rows(fetch_3dshapes(data_home=home))
    assert len(published.asked) == 1
    assert [path.name for path in home.iterdir()] == ["3dshapes.h5"]


def test_a_file_that_is_not_the_published_one_is_deleted(tmp_path, published, h5py):
    published.files["3dshapes.h5"] = npz_bytes(images=IMAGES, labels=LABELS + 1)
    with pytest.raises(OSError, match=r"does not match .* by hand"):
        fetch_3dshapes(data_home=tmp_path, delay=0)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_downloaded_that_could_not_be_read(tmp_path, published, no_h5py):
    with pytest.raises(ImportError, match="pip install h5py"):
        fetch_3dshapes(data_home=tmp_path)
    assert published.asked == []
