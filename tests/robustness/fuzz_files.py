"""Thousands of damaged and forged files against ``skcausalmeta.persistence.load``.

Every file is a mutation of a sound one: flipped bits, cut or swapped pieces, huge
sizes, swapped headers, changed JSON. Half of them get a right checksum afterwards,
so that what comes behind it is reached too. A file passes if it loads to what was
saved (a forged one: to anything that names no path), or raises ``PersistenceError``,
and if it is described likewise; within a second of the processor for both, within
100 MB beyond the process at rest, and without a call of anything that could run code,
write, delete or connect (an audit hook watches).

``test_fuzz_files.py`` runs 120 files; ``python -m benchmarks fuzz_persistence`` runs
10,000 and ``--long`` 200,000, with one JSON line per block of files in
``benchmarks/results/fuzz_persistence.jsonl``.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, LRScheduler

from benchmarks._harness import Harness, Memory, Watch, make_parser
from skcausalmeta.backbones import MLP
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import GroupLassoSVC, RidgeHead
from skcausalmeta.learners import MAMLClassifier, MTCRLClassifier, SparseMetaClassifier
from skcausalmeta.persistence import describe, read_value, save, write_value
from skcausalmeta.persistence._catalog import catalog
from skcausalmeta.persistence._container import _DIGEST, file_digest
from skcausalmeta.training import Training
from skcausalmeta.training._checkpoint_state import read_checkpoint

MEASURES = ("skcausalmeta/persistence",)

N_BLOCKS, LONG_BLOCKS, FILES_PER_BLOCK = 20, 400, 500
MOST_SECONDS, MOST_BYTES = 1.0, 100 * 2**20
PATH = "named-by-a-file"
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
        "settings": SparseMetaClassifier(
            backbone=hidden,
            callbacks=[("early", EarlyStopping()), LRScheduler("StepLR", step_size=1)],
            net_params=Training(compile={"dynamic": True}, checkpoint_path=None),
            **SMALL,
        ).set_params(batches_per_epoch=1),
    }
    # The checkpoint of a training, beside estimators.
    training = SparseMetaClassifier(backbone=hidden, random_state=0, **SMALL)
    path = folder / "checkpoint"
    training.set_params(net_params=Training(checkpoint_path=str(path))).fit(X, y)
    contents = {"checkpoint": path.read_bytes()}
    generators = {
        name: np.random.Generator(getattr(np.random, name)(0))
        for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
    }
    write_value(folder / "generators", generators)
    contents["generators"] = (folder / "generators").read_bytes()
    for name, estimator in estimators.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = estimator if name == "settings" else estimator.fit(X, y)
            save(fitted, folder / name)
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


def described(change: Callable[[dict[str, Any], random.Random], None]) -> Any:
    """Mutation that changes a description, whose header is put right."""

    def mutate(
        content: bytearray, rng: random.Random, others: list[bytes]
    ) -> bytearray:
        header, data = split(content)
        table = json.loads(header)
        text = json.loads(table["__metadata__"]["skcausalmeta"])
        change(text, rng)
        table["__metadata__"]["skcausalmeta"] = json.dumps(text, separators=(",", ":"))
        return join(json.dumps(table, separators=(",", ":")), data)

    mutate.__name__ = change.__name__
    return mutate


def with_state(text: dict[str, Any], rng: random.Random) -> dict[str, Any] | None:
    nodes = [n for n in text["nodes"] if isinstance(n.get("state"), dict)]
    return rng.choice(nodes) if nodes else None


def add_attributes(text: dict[str, Any], rng: random.Random) -> None:
    """Attributes named as methods, as parts of Python, and as paths."""
    node = with_state(text, rng)
    if node is None:
        return
    names = ["fit", "predict", "forward", "score", "__class__", "__dict__", "_hooks"]
    names += ["checkpoint_path", "compile", "compile_with", "device", "memory", "path"]
    names += ["_compiled_call_impl", "_forward_hooks", "net_params", "callbacks_"]
    group = rng.choice(["state", "state", "parameters", "buffers", "modules"])
    holder = node.get(group) if isinstance(node.get(group), dict) else node["state"]
    for _ in range(rng.choice([1, 3])):
        holder[rng.choice(names)] = rng.choice(
            [PATH, {"ref": rng.randrange(len(text["nodes"]))}, True, 3]
        )


def change_classes(text: dict[str, Any], rng: random.Random) -> None:
    """Another class of the list, or the one that writes files."""
    nodes = [n for n in text["nodes"] if "class" in n or n.get("kind") == "name"]
    for node in rng.sample(nodes, min(len(nodes), rng.choice([1, 1, 3]))):
        names = ["training.TrainingCheckpoint", "custom:Own", *sorted(catalog())]
        node["class" if "class" in node else "name"] = rng.choice(names[:2] + names)
        if isinstance(node.get("state"), dict) and rng.random() < 0.5:
            node["state"] |= {"path": PATH, "facts": {"ref": 0}}


def change_keys(text: dict[str, Any], rng: random.Random) -> None:
    """Keys that are no scalars, twice there, or of one hash."""
    nodes = text["nodes"]
    dicts = [n for n in nodes if n.get("kind") in ("dict", "set", "ordered dict")]
    if not dicts:
        return
    node, first = rng.choice(dicts), len(nodes)
    depth = rng.choice([2, 40, 100])
    chain = [
        {"kind": "tuple", "items": [{"ref": first + k + 1}] * 2} for k in range(depth)
    ]
    nodes += [*chain, {"kind": "tuple", "items": [1]}]
    extra: list[Any] = [{"ref": rng.randrange(len(nodes))} for _ in range(3)]
    extra += [{"ref": first}] * rng.choice([0, 1]) + [1, 1.0, True]
    pair = node["kind"] != "set"
    node["items"] += [[key, 0] if pair else key for key in extra]


def share_nodes(text: dict[str, Any], rng: random.Random) -> None:
    """Many nodes of one kind, some of which name the same numbers."""
    nodes = text["nodes"]
    node = rng.choice(nodes)
    n = min(rng.choice([10, 1000, 3000]), 1 + 200_000 // len(json.dumps(node)))
    lists = [k for k in nodes if k.get("kind") in ("list", "tuple")]
    if lists:
        refs = [{"ref": len(nodes) + k} for k in range(n)]
        holder = rng.choice(lists)
        holder["items"] = [*holder["items"], *refs]
        node = node if node is not holder else {"kind": "list", "items": []}
    nodes += [node] * n


def change_pairs(text: dict[str, Any], rng: random.Random) -> None:
    """Values of dictionaries, such as the states of generators."""
    pairs = [
        pair
        for node in text["nodes"]
        if node.get("kind") in ("dict", "ordered dict")
        for pair in node["items"]
    ]
    for pair in rng.sample(pairs, min(len(pairs), rng.choice([1, 2, 4]))):
        pair[rng.choice([0, 1, 1, 1])] = rng.choice(
            [None, -1, 0, 5, 2**31, 2**70, "a", PATH, 0.5, {"float": "nan"}]
            + [{"ref": rng.randrange(len(text["nodes"]))}]
        )


def change_facts(text: dict[str, Any], rng: random.Random) -> None:
    """What stands beside the nodes."""
    key = rng.choice(sorted(text))
    odd = [None, 3, "\x1b[2J", [3], ["\x1b[2J"], {"a": [1]}, {"\x1b": "\x1b"}]
    text[key] = rng.choice([*odd, {"ref": 1}, {"ref": -1}])


def change_table(
    content: bytearray, rng: random.Random, others: list[bytes]
) -> bytearray:
    """Other types, shapes and places of the numbers."""
    header, data = split(content)
    table = json.loads(header)
    names = [name for name in table if name != "__metadata__"]
    if not names:
        return content
    for name in rng.sample(names, min(len(names), rng.choice([1, 2]))):
        entry = table[name]
        choice = rng.randrange(5)
        if choice == 0:
            entry["dtype"] = rng.choice(["BOOL", "F8_E4M3", "C64", "I64", "O", 3])
        elif choice == 1:
            entry["shape"] = rng.choice([[], [0], [2**62], [-1], [1] * 200, "a", None])
        elif choice == 2:
            entry["data_offsets"] = rng.choice([[0, 0], [0, 2**63], [8, 0], [1], None])
        elif choice == 3:
            table["more"] = dict(entry)
        else:
            other = rng.choice(names)
            table[name], table[other] = table[other], table[name]
    return join(json.dumps(table, separators=(",", ":")), data)


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
        change_table,
        *map(
            described,
            (
                add_attributes,
                change_classes,
                change_keys,
                change_pairs,
                share_nodes,
                change_facts,
            ),
        ),
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


def read(path: Path) -> Any:
    """What is in a file, by all ways in which the package reads one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            described_in(path)
        except PersistenceError as error:
            require(str(error).isprintable(), "an error with odd letters")
        found = read_value(path)
        if isinstance(found, dict):
            with suppress(PersistenceError):
                read_checkpoint(path, {})
    require(PATH not in paths_in(found), "a path of the file is in force")
    return found


def described_in(path: Path) -> None:
    texts = repr(list(describe(path).values()))
    require(texts.isprintable() and "\\x1b[" not in texts.replace("\\\\", ""), texts)


def require(sound: bool, what: str) -> None:
    if not sound:
        raise AssertionError(what)


def paths_in(found: Any) -> list[Any]:
    """Values of `checkpoint_path` in all settings, as far as they hang together."""
    settings = getattr(found, "net_params", None)
    inner = (
        settings if isinstance(settings, dict) else getattr(settings, "__dict__", {})
    )
    return [inner.get("checkpoint_path"), getattr(found, "checkpoint_path", None)]


def judge(path: Path, original: bytes, sealed: bool, watch: Watch) -> tuple[str, float]:
    """Verdict on one file, and the seconds of the processor that it took."""
    watch.seen.clear()
    watch.on, start = True, time.process_time()
    try:
        found = read(path)
    except PersistenceError as error:
        verdict = "refused" if str(error).isprintable() else "FAULT odd letters"
    except BaseException as error:
        verdict = f"FAULT {type(error).__name__}: {str(error)[:200]}"
    else:
        verdict = "loaded"
    seconds = time.process_time() - start
    watch.on = False
    if watch.seen:
        return f"FAULT event {watch.seen[0]}", seconds
    if seconds > MOST_SECONDS:
        return f"FAULT {seconds:.1f} s", seconds
    if verdict == "loaded" and not sealed:
        again = path.with_suffix(".again")
        write_value(again, found)
        same = again.read_bytes() == original
        verdict = "identical" if same else "FAULT loaded to something else"
    return verdict, seconds


def run_block(
    number: int, n_files: int, contents: dict[str, bytes], watch: Watch, folder: Path
) -> dict[str, Any]:
    """Mutate and load the files of one block."""
    rng = random.Random(number)
    verdicts: Counter[str] = Counter()
    faults, slowest, largest = [], 0.0, 0
    path = folder / "mutant"
    for k in range(n_files):
        name = rng.choice(sorted(contents))
        mutation = rng.choice(sorted(MUTATIONS))
        sealed = k % 2 == 0
        others = [content for other, content in contents.items() if other != name]
        mutant = MUTATIONS[mutation](bytearray(contents[name]), rng, others)
        write(path, mutant, sealed)
        with Memory() as memory:
            verdict, seconds = judge(path, contents[name], sealed, watch)
        largest = max(largest, memory.grown)
        if memory.grown > MOST_BYTES:
            verdict = f"FAULT {memory.grown >> 20} MB"
        slowest = max(slowest, seconds)
        verdicts[verdict if not verdict.startswith("FAULT") else "fault"] += 1
        if verdict.startswith("FAULT"):
            faults.append(f"{number}/{k} {name} {mutation} sealed={sealed}: {verdict}")
    return {
        "files": n_files,
        "sealed": (n_files + 1) // 2,
        "refused": verdicts["refused"],
        "identical": verdicts["identical"],
        "forged and loaded": verdicts["loaded"],
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
    harness = Harness("fuzz_persistence", arguments)
    n_blocks, n_files = N_BLOCKS, FILES_PER_BLOCK
    if arguments.smoke:
        n_blocks, n_files = 1, 120
    elif arguments.long:
        n_blocks = LONG_BLOCKS
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = sound_files(folder)
        for content in sorted(contents):  # what a first load imports is no event
            read(folder / content)
        results = [
            harness.run(
                {"block": block, "files": n_files},
                partial(run_block, block, n_files, contents, watch, folder),
            )
            for block in range(min(n_blocks, arguments.blocks or n_blocks))
        ]
    report(harness, results)
    return int(any(result["faults"] for result in results))


def report(harness: Harness, results: list[dict[str, Any]]) -> None:
    """One row for all blocks, then every fault."""
    counts = ("files", "sealed", "refused", "identical", "forged and loaded")
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
