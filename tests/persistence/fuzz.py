"""Thousands of damaged and forged files against ``skcausalmeta.persistence.load``.

Every file is a mutation of a sound one: flipped bits, cut or swapped pieces, huge
sizes, swapped headers, changed JSON. Half of them get a right checksum afterwards,
so that what comes behind it is reached too. A file passes if it loads to what was
saved (a forged one: to anything), or raises ``PersistenceError``; within 2 seconds,
within 500 MB beyond the process at rest, and without a call of anything that could
run code, write or connect (an audit hook watches).

``test_fuzz.py`` runs 60 files; ``python -m benchmarks fuzz_persistence`` runs 10,000,
with one JSON line per block of files in ``benchmarks/results/fuzz_persistence.jsonl``.
"""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import Harness, make_parser
from skcausalmeta.backbones import MLP
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import GroupLassoSVC, RidgeHead
from skcausalmeta.learners import MAMLClassifier, MTCRLClassifier, SparseMetaClassifier
from skcausalmeta.persistence import load, save
from skcausalmeta.persistence._catalog import catalog
from skcausalmeta.persistence._container import _DIGEST, file_digest

MEASURES = ("skcausalmeta/persistence",)

N_BLOCKS, FILES_PER_BLOCK = 20, 500
MOST_SECONDS, MOST_BYTES = 2.0, 500 * 2**20
# Anything that a harmless load has no business with.
FORBIDDEN = (
    "compile",
    "exec",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.system",
    "pickle.find_class",
    "socket",
    "subprocess",
    "import",
)
SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "tasks_per_batch": 2, "verbose": 0}


def sound_files(folder: Path) -> dict[str, bytes]:
    """Saved estimators of several kinds."""
    X, y = load_iris(return_X_y=True)
    hidden = MLP(hidden=(6,))
    estimators = {
        "RidgeHead": RidgeHead(),
        "GroupLassoSVC": GroupLassoSVC(solver="newton"),
        "MetaPipeline": make_meta_pipeline(
            StandardScaler(),
            SparseMetaClassifier(backbone=hidden, random_state=0, **SMALL),
        ),
        "MAMLClassifier": MAMLClassifier(
            backbone=hidden, random_state=np.random.RandomState(0), **SMALL
        ),
        "MTCRLClassifier": MTCRLClassifier(max_epochs=1, random_state=0),
    }
    contents = {}
    for name, estimator in estimators.items():
        save(estimator.fit(X, y), folder / name)
        contents[name] = (folder / name).read_bytes()
    return contents


def flip_bits(content: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def flip_header(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    length = int.from_bytes(content[:8], "little")
    for _ in range(rng.choice([1, 2, 8])):
        content[rng.randrange(8 + length)] = rng.randrange(256)
    return content


def truncate(content: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    return content[: rng.randrange(len(content))]


def extend(content: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    return content + rng.randbytes(rng.choice([1, 8, 1000]))


def cut_out(content: bytearray, rng: random.Random, others: list[bytes]) -> bytearray:
    start = rng.randrange(len(content))
    del content[start : start + rng.randrange(1, 200)]
    return content


def swap_pieces(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    other = rng.choice(others)
    start, size = rng.randrange(len(content)), rng.randrange(1, 500)
    content[start : start + size] = other[start : start + size]
    return content


def swap_headers(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    other = rng.choice(others)
    ends = [8 + int.from_bytes(each[:8], "little") for each in (content, other)]
    return bytearray(other[: ends[1]]) + content[ends[0] :]


def huge_length(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    length = rng.choice([2**63, 2**64 - 1, 2**40, 10**8, 10**8 + 1, len(content), 0])
    content[:8] = struct.pack("<Q", length)
    return content


def change_numbers(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    """Other, and huge, numbers in the header, whose length is put right."""
    header, data = split(content)
    text = header.decode("latin-1")
    places = [k for k, mark in enumerate(text) if mark.isdigit() and k > 200]
    place = rng.choice(places or [len(text) - 1])
    new = rng.choice(["-1", "0", "1e999", str(2**62), str(10 ** rng.randrange(1, 30))])
    return join(text[:place] + new + text[place + 1 :], data)


def change_structure(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    """One value of the description replaced by something that is well formed."""
    header, data = split(content)
    table = json.loads(header)
    text = json.loads(table["__metadata__"]["skcausalmeta"])
    for _ in range(rng.choice([1, 1, 3])):
        holder: Any = text["nodes"]
        while True:
            key = rng.choice(
                list(holder) if isinstance(holder, dict) else range(len(holder))
            )
            if rng.random() < 0.4 or not isinstance(holder[key], dict | list):
                break
            if not holder[key]:
                break
            holder = holder[key]
        holder[key] = replacement(rng, len(text["nodes"]))
    table["__metadata__"]["skcausalmeta"] = json.dumps(text, separators=(",", ":"))
    return join(json.dumps(table, separators=(",", ":")), data)


def replacement(rng: random.Random, n_nodes: int) -> Any:
    """Something that could stand in a description."""
    names = ["os.system", "builtins.eval", "custom:os.system", "sklearn.base.clone"]
    return rng.choice(
        [
            None,
            -1,
            2**70,
            "",
            [],
            {},
            [[]] * 100,
            "x" * 10_000,
            {"ref": rng.randrange(n_nodes)},
            {"ref": n_nodes},
            {"float": "nan"},
            [2**40, 2**40],
            "<U100000000",
            rng.choice(sorted(catalog())),
            rng.choice(names),
            rng.choice(["list", "array", "object", "module", "partial", "name"]),
            [[rng.randrange(n_nodes), {"ref": rng.randrange(n_nodes)}]],
        ]
    )


def deep_nesting(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    header, data = split(content)
    depth = rng.choice([500, 5000, 100_000])
    mark = rng.choice(["[", '{\\"a\\":'])
    text = header.decode("latin-1")
    place = text.find('\\"nodes\\":') + len('\\"nodes\\":')
    return join(text[:place] + mark * depth + text[place:], data)


MUTATIONS: dict[str, Callable[[bytearray, random.Random, list[bytes]], bytearray]] = {
    function.__name__: function
    for function in (
        flip_bits,
        flip_header,
        truncate,
        extend,
        cut_out,
        swap_pieces,
        swap_headers,
        huge_length,
        change_numbers,
        change_structure,
        deep_nesting,
    )
}


def split(content: bytes | bytearray) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return bytes(content[8:end]), bytes(content[end:])


def join(header: str, data: bytes) -> bytearray:
    raw = header.encode("latin-1")
    raw += b" " * (-len(raw) % 8)
    return bytearray(struct.pack("<Q", len(raw)) + raw + data)


def write(path: Path, content: bytearray, seal: bool) -> None:
    path.write_bytes(content)
    if seal and len(content) > _DIGEST.stop:
        with path.open("rb") as file:
            content[_DIGEST] = file_digest(file).encode()
        path.write_bytes(content)


class Watch:
    """Notes events of the interpreter that a load must not bring about."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = (
            event == "open"
            and isinstance(arguments[1], str)
            and (set(arguments[1]) & set("wax+"))
        )
        if writes or event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:100]}")


def judge(path: Path, original: bytes, sealed: bool, watch: Watch) -> tuple[str, float]:
    """Verdict on one file, and the seconds that it took."""
    watch.seen.clear()
    watch.on, start = True, time.perf_counter()
    try:
        found = load(path)
    except PersistenceError:
        verdict = "refused"
    except BaseException as error:
        verdict = f"FAULT {type(error).__name__}: {str(error)[:200]}"
    else:
        verdict = "loaded"
    seconds = time.perf_counter() - start
    watch.on = False
    if watch.seen:
        return f"FAULT event {watch.seen[0]}", seconds
    if seconds > MOST_SECONDS:
        return f"FAULT {seconds:.1f} s", seconds
    if verdict == "loaded" and not sealed:
        save(found, path.with_suffix(".again"))
        same = path.with_suffix(".again").read_bytes() == original
        verdict = "identical" if same else "FAULT loaded to something else"
    return verdict, seconds


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_block(
    number: int, n_files: int, contents: dict[str, bytes], watch: Watch, folder: Path
) -> dict[str, Any]:
    """Mutate and load the files of one block."""
    rng = random.Random(number)
    verdicts: Counter[str] = Counter()
    faults, slowest, before = [], 0.0, peak_bytes()
    path = folder / "mutant"
    for k in range(n_files):
        name = rng.choice(sorted(contents))
        mutation = rng.choice(sorted(MUTATIONS))
        sealed = rng.random() < 0.5
        others = [content for other, content in contents.items() if other != name]
        mutant = MUTATIONS[mutation](bytearray(contents[name]), rng, others)
        write(path, mutant, sealed)
        verdict, seconds = judge(path, contents[name], sealed, watch)
        slowest = max(slowest, seconds)
        verdicts[verdict if not verdict.startswith("FAULT") else "fault"] += 1
        if verdict.startswith("FAULT"):
            faults.append(f"{number}/{k} {name} {mutation} sealed={sealed}: {verdict}")
    grown = peak_bytes() - before
    if grown > MOST_BYTES:
        faults.append(f"{number}: memory grew by {grown / 2**20:.0f} MB")
    return {
        "files": n_files,
        "refused": verdicts["refused"],
        "identical": verdicts["identical"],
        "forged and loaded": verdicts["loaded"],
        "faults": faults,
        "slowest, s": slowest,
        "memory, MB": grown / 2**20,
    }


def main() -> int:
    """Run the blocks that are missing; exit code 1 if a file was at fault."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--blocks", type=int, default=N_BLOCKS, help="stop after this many blocks"
    )
    arguments = parser.parse_args()
    harness = Harness("fuzz_persistence", arguments)
    n_blocks, n_files = (1, 60) if arguments.smoke else (N_BLOCKS, FILES_PER_BLOCK)
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = sound_files(folder)
        for content in sorted(contents):  # what a first load imports is no event
            load(folder / content)
        results = [
            harness.run(
                {"block": block, "files": n_files},
                partial(run_block, block, n_files, contents, watch, folder),
            )
            for block in range(min(n_blocks, arguments.blocks))
        ]
    report(harness, results)
    return int(any(result["faults"] for result in results))


def report(harness: Harness, results: list[dict[str, Any]]) -> None:
    """One row for all blocks, then every fault."""
    counts = ("files", "refused", "identical", "forged and loaded")
    row = [sum(result[name] for result in results) for name in counts]
    row += [sum(len(result["faults"]) for result in results)]
    row += [
        max(result[name] for result in results) for name in ("slowest, s", "memory, MB")
    ]
    harness.table(
        "Damaged and forged files",
        [*counts, "faults", "slowest, s", "memory, MB"],
        [row],
    )
    for result in results:
        for fault in result["faults"]:
            print(fault)


if __name__ == "__main__":
    sys.exit(main())
