"""Thousands of odd tables, arrays and archives against the readers of data.

CSV files, npz files and archives of images are changed byte by byte, and by their
structure under right checksums: names of columns, cells, headers of arrays, headers
of members, sides of pictures. A file passes if it is read, or refused with the
package's own error in letters that a terminal shows; within a second of the
processor, within 100 MB beyond the process at rest, and without a call of anything
that could run code, write, delete or connect (an audit hook watches).

``test_fuzz_inputs.py`` runs 150 files; ``python -m benchmarks fuzz_inputs`` runs 5,000
and ``--long`` 50,000, with one JSON line per block of files in
``benchmarks/results/fuzz_inputs.jsonl``.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

from benchmarks._harness import Harness, Memory, Watch, make_parser
from skcausalmeta.cli._tables import read_table
from skcausalmeta.datasets import load_image_folder
from skcausalmeta.exceptions import SkcausalmetaError

MEASURES = ("skcausalmeta/datasets", "skcausalmeta/cli", "skcausalmeta/utils/_npz.py")

N_BLOCKS, LONG_BLOCKS, FILES_PER_BLOCK = 20, 200, 250
MOST_SECONDS, MOST_BYTES = 1.0, 100 * 2**20
CELLS = [
    *("", " ", "1", "01", "1.0", "-0", "nan", "inf", "-inf", "1e999", "1_0", "0x1"),
    *("9" * 21, "9" * 5000, "\u0663", "a", "\u00e9", "e\u0301", "\x1b[2J", "\x00"),
    *('"', '""', '"a', 'a"b', "a\nb", "=1+1", "\u202e", "x" * 140_000, ";", "\t"),
]
NUMBERS = [0, 1, -1, 2**31, 2**32 - 1, 2**40, 2**62, 10**12, 10**30]
TYPES = ["<f8", "|O", "<U9", "<U999999999", "|b1", "<M8[D]", "<c16", "|V8", "a", "<U0"]


# -- CSV -------------------------------------------------------------------------------


def make_csv(rng: random.Random) -> bytes:
    """A table, some cells of which are odd."""
    names = rng.choice([["a", "b", "y"], ["a", "a", "y"], ["a", "b", "y", "task"]])
    rows = [
        [*(f"{rng.gauss(0, 1):.3f}" for _ in range(2)), str(k % 3), f"t{k % 4}"]
        for k in range(rng.choice([0, 1, 30, 200]))
    ]
    table = [list(names), *(row[: len(names)] for row in rows)]
    for _ in range(rng.choice([0, 0, 1, 3])):
        row = rng.choice(table)
        row[rng.randrange(len(row))] = rng.choice(CELLS)
    if rng.random() < 0.1:
        rng.choice(table).append("more")
    if rng.random() < 0.05:
        table[0] += [f"c{k}" for k in range(20_000)]
    mark = rng.choice([",", ",", ",", ",", ";", "\t"])
    text = rng.choice(["\n", "\r\n", "\r"]).join(mark.join(row) for row in table)
    encoding = rng.choice(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "latin-1"])
    return changed(text.encode(encoding, "replace"), rng)


# -- npz -------------------------------------------------------------------------------


def make_npz(rng: random.Random) -> bytes:
    """Arrays, some of whose headers say odd things."""
    n = rng.choice([0, 3, 40])
    arrays: dict[str, Any] = {
        "X": np.zeros((n, 3)),
        "y": np.array([f"label {k % 3}" for k in range(n)]),
        "tasks": np.arange(n) % 4,
    }
    if rng.random() < 0.3:
        name = rng.choice(sorted(arrays))
        arrays[name] = rng.choice(
            [np.array(3), np.zeros((n, 2, 2)), np.full(n, np.nan), np.zeros(n + 1)]
        )
    packing = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 4 + [12, 14])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            raw = content.getvalue()
            if rng.random() < 0.3:
                raw = odd_array(raw, rng)
            archive.writestr(f"{name}.npy", raw)
            if rng.random() < 0.03:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    archive.writestr(f"{name}.npy", raw)
    return changed(file.getvalue(), rng)


def odd_array(raw: bytes, rng: random.Random) -> bytes:
    shape = rng.choice(["()", f"({rng.choice(NUMBERS)},)", "(2, 10**9)", "(1e9,)"])
    odd = {
        "descr": repr(rng.choice(TYPES)),
        "fortran_order": rng.choice(["True", "3", "None"]),
        "shape": shape,
    }
    kept = {"descr": "'<f8'", "fortran_order": "False", "shape": "(3, 3)"}
    kept |= {k: odd[k] for k in rng.sample(sorted(odd), rng.choice([1, 1, 2]))}
    text = "{" + ", ".join(f"'{k}': {v}" for k, v in kept.items()) + "}"
    if rng.random() < 0.2:
        text = rng.choice(["(" * 2000, "{}", "1", "__import__('os')", "[" * 50, ""])
    header = text.encode().ljust(117) + b"\n"
    version = rng.choice([1, 1, 1, 2, 3, 200])
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + raw[128:]


# -- archives --------------------------------------------------------------------------


def picture(rng: random.Random) -> bytes:
    """A small picture, which may claim to be another, or to be larger."""
    kind = rng.choice(["PNG", "PNG", "PNG", "JPEG", "GIF", "BMP", "TIFF"])
    file = io.BytesIO()
    mode = rng.choice(["RGB", "L", "P", "1", "RGBA"])
    mode = mode if kind == "PNG" else "RGB"
    Image.new(mode, (rng.choice([4, 4, 5]), 4)).save(file, kind)
    content = file.getvalue()
    if kind == "PNG" and rng.random() < 0.2:
        sides = [rng.choice([0, 1, 4, 3000, 13_000, 2**31 - 1]) for _ in range(2)]
        chunk = b"IHDR" + struct.pack(">II", *sides) + content[24:29]
        check = struct.pack(">I", zlib.crc32(chunk))
        content = content[:12] + chunk + check + content[33:]
    if rng.random() < 0.03:
        return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    return changed(content, rng) if rng.random() < 0.2 else content


def member_name(rng: random.Random, k: int) -> str:
    odd = [
        "../../evil.png",
        "/etc/evil.png",
        "a/\x1b[2J.png",
        "a/" + "n" * 300 + ".png",
    ]
    return rng.choice(odd) if rng.random() < 0.1 else f"{'ab'[k % 2]}/{k}.png"


def make_zip(rng: random.Random) -> bytes:
    """A zip archive of pictures."""
    file = io.BytesIO()
    packing = rng.choice(
        [zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED] * 3 + [12, 14]
    )
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", packing) as archive:
        warnings.simplefilter("ignore")
        for k in range(rng.choice([0, 1, 4])):
            archive.writestr(member_name(rng, k), picture(rng))
        if rng.random() < 0.02:
            archive.writestr("a/bomb.png", bytes(90 << 20))
    content = bytearray(file.getvalue())
    if rng.random() < 0.3:  # sizes and places of the list of members
        start = content.find(b"PK\1\2")
        if start >= 0:
            place = start + rng.choice([10, 20, 24, 28, 30, 32, 42])
            content[place : place + 4] = struct.pack(
                "<I", rng.choice(NUMBERS[:5]) % 2**32
            )
    return changed(bytes(content), rng)


def make_tar(rng: random.Random) -> bytes:
    """A tar archive of pictures, packed or not, some of whose headers are odd."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=rng.choice([1, 2])) as archive:
        for k in range(rng.choice([0, 1, 4])):
            content = picture(rng)
            member = tarfile.TarInfo(member_name(rng, k))
            member.size = len(content)
            if rng.random() < 0.2:
                member.pax_headers = odd_facts(rng)
            if rng.random() < 0.1:
                member.type = rng.choice([b"1", b"2", b"3", b"5", b"6", b"S", b"?"])
                member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    content = bytearray(file.getvalue())
    if rng.random() < 0.3:
        odd_header(content, rng)
    raw = changed(bytes(content), rng)
    if rng.random() < 0.4:
        raw = gzip.compress(raw, 1)
        return changed(raw, rng)
    return raw


def odd_facts(rng: random.Random) -> dict[str, str]:
    facts = {
        "comment": "x" * rng.choice([1, 5000, 300_000]),
        "size": str(rng.choice(NUMBERS)),
        "path": rng.choice(["", "a/b.png", "\x00", "é" * 50]),
        "mtime": rng.choice(["nan", "1e999", "a"]),
        "GNU.sparse.major": rng.choice(["0", "1"]),
        "GNU.sparse.minor": rng.choice(["0", "1"]),
        "GNU.sparse.size": str(rng.choice(NUMBERS)),
        "GNU.sparse.realsize": str(rng.choice(NUMBERS)),
        "GNU.sparse.map": rng.choice(["0,1", "0,-1", "1,2,3", "a"]),
    }
    return {
        name: facts[name] for name in rng.sample(sorted(facts), rng.randrange(1, 6))
    }


def odd_header(content: bytearray, rng: random.Random) -> None:
    """Another size or type of a member, under the right checksum."""
    n_blocks = len(content) // 512
    start = 512 * rng.randrange(max(1, n_blocks))
    block = content[start : start + 512]
    if len(block) < 512 or not block[:1].strip(b"\0"):
        return
    size = rng.choice([0, 1, 511, 2**20, 60 << 20, 2**33 - 1])
    block[124:136] = b"%011o\0" % size
    block[156:157] = rng.choice([b"0", b"x", b"g", b"L", b"K", b"S", b"5", b"V"])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    content[start : start + 512] = block


# -- all of them -----------------------------------------------------------------------


def changed(content: bytes, rng: random.Random) -> bytes:
    """The same, or with bytes turned, a piece cut out, or the end cut off."""
    raw = bytearray(content)
    choice = rng.randrange(10)
    if not raw or choice > 3:
        return content
    place = rng.randrange(len(raw))
    if choice == 0:
        raw[place] ^= 1 << rng.randrange(8)
    elif choice == 1:
        del raw[place:]
    elif choice == 2:
        del raw[place : place + rng.randrange(1, 99)]
    else:
        raw[place:place] = rng.choice([b"\0" * 600, b"\xff", b",,,", b"\n", raw[:200]])
    return bytes(raw)


def table_in(path: Path) -> None:
    read_table(path, "y", None)


KINDS: dict[
    str, tuple[Callable[[random.Random], bytes], str, Callable[[Path], Any]]
] = {
    "csv": (make_csv, "table.csv", table_in),
    "npz": (make_npz, "table.npz", table_in),
    "zip": (make_zip, "images.zip", load_image_folder),
    "tar": (make_tar, "images.tar", load_image_folder),
}


def judge(read: Callable[[Path], Any], path: Path, watch: Watch) -> tuple[str, float]:
    """Verdict on one file, and the seconds of the processor that it took."""
    watch.seen.clear()
    watch.on, start = True, time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except SkcausalmetaError as error:
        odd = not str(error).replace("\n", " ").isprintable()
        verdict = "FAULT odd letters in an error" if odd else "refused"
    except BaseException as error:
        verdict = f"FAULT {type(error).__name__}: {str(error)[:200]}"
    else:
        verdict = "read"
    seconds = time.process_time() - start
    watch.on = False
    if watch.seen:
        return f"FAULT event {watch.seen[0]}", seconds
    return (f"FAULT {seconds:.1f} s" if seconds > MOST_SECONDS else verdict), seconds


def run_block(number: int, n_files: int, watch: Watch, folder: Path) -> dict[str, Any]:
    """Make and read the files of one block."""
    rng = random.Random(number)
    verdicts: Counter[str] = Counter()
    faults, slowest, largest = [], 0.0, 0
    for k in range(n_files):
        kind = rng.choice(sorted(KINDS))
        make, name, read = KINDS[kind]
        (folder / name).write_bytes(make(rng))
        with Memory() as memory:
            verdict, seconds = judge(read, folder / name, watch)
        slowest, largest = max(slowest, seconds), max(largest, memory.grown)
        if memory.grown > MOST_BYTES:
            verdict = f"FAULT {memory.grown >> 20} MB"
        verdicts[verdict if not verdict.startswith("FAULT") else "fault"] += 1
        if verdict.startswith("FAULT"):
            faults.append(f"{number}/{k} {kind}: {verdict}")
    return {
        "files": n_files,
        "refused": verdicts["refused"],
        "read": verdicts["read"],
        "faults": faults,
        "slowest, s": slowest,
        "memory, MB": largest / 2**20,
    }


def main() -> int:
    """Run the blocks that are missing; exit code 1 if a file was at fault."""
    parser = make_parser(__doc__)
    parser.add_argument("--blocks", type=int, help="stop after this many blocks")
    parser.add_argument(
        "--long", action="store_true", help=f"{LONG_BLOCKS} blocks instead"
    )
    arguments = parser.parse_args()
    harness = Harness("fuzz_inputs", arguments)
    n_blocks, n_files = (1, 150) if arguments.smoke else (N_BLOCKS, FILES_PER_BLOCK)
    n_blocks = LONG_BLOCKS if arguments.long else n_blocks
    # numpy parses the headers of arrays as literals, which runs nothing.
    watch = Watch(allowed=["compile"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_block(-1, 60, watch, folder)  # what a first read imports is no event
        results = [
            harness.run(
                {"block": block, "files": n_files},
                partial(run_block, block, n_files, watch, folder),
            )
            for block in range(min(n_blocks, arguments.blocks or n_blocks))
        ]
    report(harness, results)
    return int(any(result["faults"] for result in results))


def report(harness: Harness, results: list[dict[str, Any]]) -> None:
    """One row for all blocks, then every fault."""
    counts = ("files", "refused", "read")
    row = [sum(result[name] for result in results) for name in counts]
    row += [sum(len(result["faults"]) for result in results)]
    row += [
        max(result[name] for result in results) for name in ("slowest, s", "memory, MB")
    ]
    header = [*counts, "faults", "slowest, s", "memory, MB"]
    harness.table("Odd tables, arrays and archives", header, [row])
    for result in results:
        for fault in result["faults"]:
            print(fault)


if __name__ == "__main__":
    sys.exit(main())
