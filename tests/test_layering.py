"""The walls between the rooms of the package, read from the source."""

import ast
import graphlib
import importlib
from pathlib import Path

import pytest

PACKAGE = "skcausalmeta"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
RANKS = {
    "_version": 0,
    "exceptions": 0,
    "utils": 1,
    "datasets": 2,
    "episodes": 2,
    "metrics": 2,
    "losses": 2,
    "penalties": 2,
    "implicit": 2,
    "persistence": 2,
    "solvers": 3,
    "backbones": 2,
    "training": 3,
    "model_selection": 3,
    "inspection": 3,
    "heads": 4,
    "learners": 5,
    "compose": 6,
    "export": 6,
    "tasks": 6,
    "cli": 7,
    "__main__": 8,
}
MAX_BYTES = 24 * 1024
FILES = sorted(ROOT.rglob("*.py"))
DOORS = sorted(path for path in FILES if path.name == "__init__.py")
# The root takes its names from the doors: test_packaging compares them with discovery.
ROOM_DOORS = [path for path in DOORS if path.parent != ROOT]


def dotted_name(path, root=ROOT):
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def relative_id(path):
    return str(path.relative_to(ROOT))


def imported_modules(tree, package):
    """Yield the absolute names of the modules that the imports of a tree name.

    `package` is the dotted name that a single leading dot stands for.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")
            base = base[: len(base) - node.level + 1] if node.level else []
            yield ".".join([*base, *(node.module or "").split(".")]).strip(".")


def import_faults(name, is_door, source):
    """List the imports of the module `name` that break a wall."""
    package = name if is_door else name.rpartition(".")[0]
    faults = []
    for target in imported_modules(ast.parse(source), package):
        if target.split(".")[0] == PACKAGE:
            reason = wall_between(name, is_door, target)
            faults += [f"{target}: {reason}"] if reason else []
    return faults


def wall_between(name, is_door, target):
    """Say why the module `name` may not import `target`, or return ""."""
    if target == PACKAGE:
        return "the package root is not to be imported"
    if name == PACKAGE:
        return ""
    own_room, room = name.split(".")[1], target.split(".")[1]
    if room == own_room:
        if name.startswith(f"{target}."):
            return "a door is not to be imported from inside its room"
        return wall_within(name, target)
    if is_door:
        return "a door opens on its own room only"
    if room not in RANKS:
        return "the room has no rank; add it to RANKS"
    if target.count(".") > 1:
        return "another room is entered by its door only"
    if RANKS[room] >= RANKS[own_room]:
        return f"rank {RANKS[room]} is not below rank {RANKS[own_room]}"
    return ""


def wall_within(name, target):
    """Say why a module may not import another of its room, or return ""."""
    own, asked = name.split(".")[2:], target.split(".")[2:]
    if not asked[-1].startswith("_"):
        return "a sibling must be private"
    if len(asked) > 1 and len(own) > 1 and own[0] != asked[0]:
        return "another room is entered by its door only"
    return ""


def literal_all(source):
    """Return the value of `__all__` if it is a literal list, otherwise None."""
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "__all__"
            and isinstance(node.value, ast.List)
        ):
            return ast.literal_eval(node.value)
    return None


def print_lines(source):
    """List the lines on which `print` is called."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]


def test_every_room_has_a_rank_and_a_door():
    rooms = {
        path.stem if path.suffix == ".py" else path.name
        for path in ROOT.iterdir()
        if (path.is_dir() and any(path.rglob("*.py"))) or path.suffix == ".py"
    }
    assert rooms - {"__init__"} <= RANKS.keys()
    folders = {path.parent for path in FILES}
    assert {path.parent for path in DOORS} == folders


def test_imports_keep_to_the_walls():
    faults = {}
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        is_door = path.name == "__init__.py"
        faults[relative_id(path)] = import_faults(dotted_name(path), is_door, source)
    assert {name: found for name, found in faults.items() if found} == {}
    assert len(faults) > 200


def test_no_modules_import_each_other_in_a_circle():
    names = {dotted_name(path) for path in FILES}
    graph = {}
    for path in FILES:
        name = dotted_name(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        graph[name] = names & set(imported_modules(tree, package))
    assert set(graphlib.TopologicalSorter(graph).static_order()) == names


@pytest.mark.parametrize("path", ROOM_DOORS, ids=relative_id)
def test_doors_list_names_that_exist(path):
    source = path.read_text(encoding="utf-8")
    exported = literal_all(source)
    assert exported is not None
    assert len(exported) == len(set(exported))
    assert ast.get_docstring(ast.parse(source))
    door = importlib.import_module(dotted_name(path))
    assert [name for name in exported if not hasattr(door, name)] == []


def test_modules_are_small_and_silent():
    sizes = {relative_id(path): path.stat().st_size for path in FILES}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}
    prints = {
        relative_id(path): print_lines(path.read_text(encoding="utf-8"))
        for path in FILES
    }
    assert {name: lines for name, lines in prints.items() if lines} == {}


@pytest.mark.parametrize(
    ("name", "is_door", "source", "reason"),
    [
        ("heads._svc", False, "import skcausalmeta", "package root"),
        ("heads._svc", False, "from .. import exceptions", "package root"),
        ("heads._svc", False, "from skcausalmeta import heads", "package root"),
        ("heads._svc", False, "from . import _ridge", "inside its room"),
        ("heads._svc", False, "import skcausalmeta.heads", "inside its room"),
        ("heads._svc", False, "from .ridge import x", "must be private"),
        ("heads._svc", False, "from ..learners import x", "rank 5 is not below"),
        ("heads._svc", False, "from ..kitchen import x", "no rank"),
        ("losses._hinge", False, "from ..penalties import x", "rank 2 is not below"),
        ("heads._svc", False, "from ..solvers._newton import x", "by its door only"),
        ("learners._a._b", False, "from ...heads._svc import x", "by its door only"),
        ("learners._a._b", False, "from .._c._d import x", "by its door only"),
        ("learners._a._b", False, "from . import x", "inside its room"),
        ("exceptions", False, "from .utils import x", "rank 1 is not below rank 0"),
        ("heads", True, "from ..solvers import x", "its own room only"),
        (
            "solvers._a",
            False,
            "def f():\n    from skcausalmeta.heads import x",
            "rank 4",
        ),
    ],
)
def test_the_check_finds_what_breaks_a_wall(name, is_door, source, reason):
    (fault,) = import_faults(f"{PACKAGE}.{name}", is_door, source)
    assert reason in fault


@pytest.mark.parametrize(
    ("name", "is_door", "source"),
    [
        ("heads._svc", False, "from ._base import x\nfrom ..exceptions import y"),
        ("heads._svc", False, "from skcausalmeta.solvers import x"),
        ("learners._a._b", False, "from .._base import x\nfrom ._c import y"),
        ("learners._a._b", False, "from .._c import x"),
        ("heads._svc", False, "from ..solvers import x\nimport numpy as np"),
        ("heads", True, "from ._svc import GroupLassoSVC"),
    ],
)
def test_the_check_lets_sound_imports_pass(name, is_door, source):
    assert import_faults(f"{PACKAGE}.{name}", is_door, source) == []


def test_the_checks_of_doors_and_prints_can_fail():
    assert literal_all("__all__ = ['a', 'b']") == ["a", "b"]
    assert literal_all("__all__ = sorted(['a'])") is None
    assert literal_all("x = ['a']") is None
    assert print_lines("x = 1\nprint(x)\nlog.print(x)") == [2]
