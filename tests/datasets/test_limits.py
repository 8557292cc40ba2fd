"""Small archives, images and arrays that claim to be huge."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from skcausalmeta.datasets import load_image_folder
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.utils import read_npz_arrays

BYTES = 100 * 2**20


@pytest.fixture(autouse=True)
def cheaply():
    """Whatever is read takes little time and memory."""
    tracemalloc.start()
    start = time.process_time()
    yield
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 10  # tracing is slow, and so is writing the archive
    assert peak < BYTES


def png(width=4, height=4):
    """A picture of one colour that claims to have these sides."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    row = zlib.compress(bytes(width + 1))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", row)
        + chunk(b"IEND", b"")
    )


def add(archive, name, content, **facts):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for fact, value in facts.items():
        setattr(member, fact, value)
    archive.addfile(member, io.BytesIO(content))


def image_file():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


def raw_header(kind, size):
    """A tar header of a member that says something about the next one."""
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def long_header(kind):
    def make(path):
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(raw_header(kind, 60 << 20))
            for _ in range(60):
                file.write(bytes(1 << 20))

    return make


def members(*named):
    """What an archive holds of these files, without its end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in named:
            add(archive, name, content)
        return file.getvalue()


def bomb(compress):
    def make(path):
        # Packed parts one after the other unpack as one: only one has to be packed.
        picture = compress(members(("a/1.png", image_file())))
        path.write_bytes(picture + 100 * compress(members(("a/1.txt", bytes(1 << 20)))))

    return make


def many_members(path):
    path.write_bytes(
        gzip.compress(800 * members(*((f"a/{k}", b"") for k in range(10))))
    )


def many_global_headers(path):
    with tarfile.open(
        path, "w:gz", pax_headers={f"k{i}": "v" for i in range(200)}
    ) as t:
        add(t, "a/1.png", image_file())


def sparse(path):
    """Holes of 400 MB."""
    header = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "a/1.png",
        "GNU.sparse.size": str(400 << 20),
        "GNU.sparse.map": f"0,1,{(400 << 20) - 1},0",
    }
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "a/1.png", b"x", pax_headers=header)


def endless_map(path):
    """A map of holes without the end of its first line."""
    header = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "a/1.png",
        "GNU.sparse.realsize": "4",
    }
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "a/1.png", b"1" * (20 << 20), pax_headers=header)


def wide_picture(path):
    with tarfile.open(path, "w") as archive:
        add(archive, "a/1.png", png(13_000, 13_000))


def wide_pictures_in_a_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(6):
            archive.writestr(f"a/{k}.png", png(100_000, 200))


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(80 << 20))


def zip_of_bzip2(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/1.png", bytes(1 << 20))


def zip_of_lzma(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/1.png", bytes(1 << 20))


ARCHIVES = {
    "a long pax header": (long_header(tarfile.XHDTYPE), "raise max_header_bytes"),
    "a long header for all": (long_header(tarfile.XGLTYPE), "raise max_header_bytes"),
    "a long name": (long_header(tarfile.GNUTYPE_LONGNAME), "raise max_header_bytes"),
    "facts about all": (many_global_headers, "facts about all"),
    "bombs of gzip": (bomb(gzip.compress), "must unpack to at most"),
    "bombs of bzip2": (bomb(bz2.compress), "must unpack to at most"),
    "bombs of xz": (bomb(lzma.compress), "must unpack to at most"),
    "many members": (many_members, "raise max_files"),
    "holes": (sparse, "must unpack to at most"),
    "an endless map": (endless_map, r"max_header_bytes|is whole"),
    "a wide picture": (wide_picture, "raise max_pixels"),
    "wide pictures": (wide_pictures_in_a_zip, "raise max_pixels"),
    "a bomb in a zip": (zip_bomb, "must unpack to at most"),
    "bzip2 in a zip": (zip_of_bzip2, "stored or deflated"),
    "lzma in a zip": (zip_of_lzma, "stored or deflated"),
}


@pytest.mark.parametrize(("make", "match"), ARCHIVES.values(), ids=ARCHIVES)
def test_archives_that_grow_are_refused(tmp_path, make, match):
    make(tmp_path / "archive")
    with pytest.raises(InvalidInputError, match=match):
        load_image_folder(tmp_path / "archive")


def test_limits_are_parameters(tmp_path):
    for k in range(3):
        (tmp_path / "images" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "a" / f"{k}.png").write_bytes(image_file())
    load_image_folder(tmp_path / "images", max_files=3, max_pixels=16)
    with pytest.raises(InvalidInputError, match="at most 2 files"):
        load_image_folder(tmp_path / "images", max_files=2)
    with pytest.raises(InvalidInputError, match="at most 15 pixels"):
        load_image_folder(tmp_path / "images", max_pixels=15)
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "a/1.png", image_file(), pax_headers={"comment": "x" * 5000})
    load_image_folder(tmp_path / "a.tar")
    with pytest.raises(InvalidInputError, match="at most 4000 bytes"):
        load_image_folder(tmp_path / "a.tar", max_header_bytes=4000)
    with pytest.raises(ValueError, match="max_pixels"):
        load_image_folder(tmp_path / "images", max_pixels=0)


def test_all_kinds_of_tar_archives_are_read(tmp_path):
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        with tarfile.open(tmp_path / "archive", mode) as archive:
            for name in ("./a/1.png", "b/" + "long" * 50 + ".png", "b/2.png"):
                add(archive, name, image_file(), pax_headers={"comment": "x" * 99})
        assert len(load_image_folder(tmp_path / "archive").data) == 3


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_program_is_no_picture(tmp_path, suffix):
    """PostScript would be run by another program."""
    (tmp_path / "a").mkdir()
    program = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    (tmp_path / "a" / f"1.{suffix}").write_bytes(program)
    with pytest.raises(InvalidInputError, match="must be readable"):
        load_image_folder(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_pipes_and_circles_in_a_folder_are_passed_over(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(image_file())
    os.mkfifo(tmp_path / "a" / "2.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "a" / "3.png").symlink_to(tmp_path / "a" / "3.png")
    assert load_image_folder(tmp_path).filenames.tolist() == ["a/1.png"]


# -- npz -------------------------------------------------------------------------------


def npy(shape, dtype="<f8", content=b"", version=1):
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    header = header.encode().ljust(118) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + content


NPZ = {
    "many rows": {"X": npy("(10**12,)")},
    "huge": {"X": npy("(1000000000000, 4)")},
    "more than is there": {"X": npy("(4,)", content=bytes(24))},
    "less than is there": {"X": npy("(2,)", content=bytes(24))},
    "a huge type": {"X": npy("(1,)", "<U999999999")},
    "empty text": {"X": npy("(999999999,)", "<U0")},
    "below zero": {"X": npy("(-1,)", content=bytes(8))},
    "objects": {"X": npy("(1,)", "|O", b"cos\nsystem\n")},
    "fields": {"X": npy("(1,)", [("a", "<f8")], bytes(8))},
    "no header": {"X": b"\x93NUMPY\x01\x00\xff\xff"},
    "another version": {"X": npy("(1,)", content=bytes(8), version=9)},
    "a deep header": {"X": npy("(" * 60 + ")" * 60)},
    "no letters": {"X": npy("(1,)", "<U1", b"\xff\xff\xff\xff")},
    "bytes": {"X": b"hello"},
    "nothing": {"X": b""},
}


@pytest.mark.parametrize("members", NPZ.values(), ids=NPZ)
def test_arrays_that_are_not_there_are_refused(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(InvalidInputError, match=r"must be (an npz file|there)"):
        read_npz_arrays(tmp_path / "a.npz")


def test_arrays_that_grow_are_refused(tmp_path):
    archive = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("X.npy", "w") as file:
        file.write(npy(f"({80 << 20},)", "|u1"))
        for _ in range(80):
            file.write(bytes(1 << 20))
    with pytest.raises(InvalidInputError, match="must take at most 65 MB"):
        read_npz_arrays(tmp_path / "a.npz")
    with pytest.raises(InvalidInputError, match="must take at most 0 MB"):
        read_npz_arrays(tmp_path / "a.npz", max_bytes=1000)
    assert read_npz_arrays(tmp_path / "a.npz", ["y"]) == {}


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x04N.", b"PK\3\4" * 9])
def test_other_files_are_no_npz(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidInputError, match="must be an npz file"):
        read_npz_arrays(tmp_path / "a.npz")


def test_arrays_of_all_kinds_are_read(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "t": np.array(["x", "née"]),
        "e": np.zeros((0, 4)),
        "z": np.array(3.5),
        "d": np.array(["2020-01-01"], dtype="M8[D]"),
        "b": np.array([True, False]),
        "big": np.arange(300_000),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_npz_arrays(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_a_turned_byte_is_found(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.arange(1000.0))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[4000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidInputError, match="CRC"):
        read_npz_arrays(tmp_path / "a.npz")
