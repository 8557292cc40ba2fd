"""No message advises a parameter that its reader does not have."""

import ast
import importlib
import inspect
import pkgutil
import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import skcausalmeta
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.training import Training

ALL = (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
PACKAGE = Path(skcausalmeta.__file__).parent
NAMED = re.compile(r"(?<![\w.\"'<-])([A-Za-z_]\w*)=(?![=\"'\d]*[\"']?>)")
QUOTED = re.compile(r"[\"'][^\"\n]*?\b[A-Za-z_]\w*=")
IMPORT = re.compile(r"^ *from (\.*)([\w.]*) import ", re.MULTILINE)
# Of functions of numpy, torch, scikit-learn and of autograd, which the text names.
OF_OTHERS = {
    "numpy.load": ["mmap_mode"],
    "numpy.unique": ["axis", "return_index"],
    "torch.nn.BatchNorm1d": ["track_running_stats"],
    "torch.autograd.grad": ["create_graph"],
    "torch.nn.utils.rnn.pad_sequence": ["batch_first"],
    "sklearn.set_config": ["enable_metadata_routing"],
    "sklearn.preprocessing.MinMaxScaler": ["clip"],
    "sklearn.pipeline.Pipeline": ["memory"],
}
# Rooms whose messages reach those who hold a learner, and who pass net_params.
TAKES_LEARNERS = {"compose", "export", "inspection", "model_selection", "tasks"}
TAKES_KEYWORDS = {"backbones", "export", "learners", "training"}
# Forms of a file, no advice.
NO_ADVICE = {"model_selection/_report.py", "datasets/_resume.py", "tasks/_report.py"}


def literal(node):
    """Text of a constant or of an f-string; what is put in is left out."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(map(literal, node.values)) if isinstance(node, ast.JoinedStr) else ""


def texts(tree):
    """Yield the texts of a module that are no docstrings."""
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        if isinstance(node, ast.JoinedStr):
            passed.update(n for n in ast.walk(node) if n is not node)
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in passed:
            yield node, literal(node)


@cache
def modules():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] not in ("__init__", "__main__"):
            found[".".join(["skcausalmeta", *parts])] = path
    return found


@cache
def users(name):
    """Modules that import a module, however far away, and itself."""
    found, new = {name}, {name}
    while new:
        doors = {part.rpartition(".")[0] for part in new} | new
        new = {one for one in modules() if not imported(one).isdisjoint(doors)} - found
        found |= new
    return found


@cache
def imported(name):
    parts, found = name.split("."), set()
    for dots, module in IMPORT.findall(modules()[name].read_text()):
        base = parts[: len(parts) - len(dots)] if dots else []
        found.add(".".join([*base, *filter(None, [module])]))
    return found


def parameters(value):
    """Names of the parameters of a function, or of a class and its methods."""
    functions = [value]
    if inspect.isclass(value):
        own = inspect.getmembers(value, inspect.isroutine)
        functions = [f for name, f in own if name == "__init__" or name[0] != "_"]
    for function in functions:
        try:
            yield from inspect.signature(function).parameters
        except (TypeError, ValueError):
            continue


def keywords(learner):
    """Names of what the net of a learner takes from net_params."""
    return learner._net_keywords[1] if hasattr(learner, "_net_keywords") else ()


@cache
def offered():
    """By module: the parameters of the public names that are defined there."""
    found = {}
    for info in pkgutil.iter_modules([str(PACKAGE)]):
        if info.name.startswith("_"):
            continue
        room = importlib.import_module(f"skcausalmeta.{info.name}")
        for name in room.__all__:
            value = getattr(room, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(value.__module__, set()).update(parameters(value))
    return found


def test_functions_of_others_have_what_is_said_of_them():
    for name, names in OF_OTHERS.items():
        module, _, function = name.rpartition(".")
        value = getattr(importlib.import_module(module), function)
        assert set(names) <= set(inspect.signature(value).parameters), name


def test_advised_parameters_exist():
    strange = [fault for name in sorted(modules()) for fault in unknown_advice(name)]
    assert not strange, "\n".join(strange)


def unknown_advice(name):
    """Texts of a module that name what none of its users offers."""
    path = modules()[name]
    if path.relative_to(PACKAGE).as_posix() in NO_ADVICE:
        return
    source = path.read_text()
    if not QUOTED.search(source):
        return
    said = [
        (one, node.lineno, text)
        for node, text in texts(ast.parse(source))
        for one in sorted(set(NAMED.findall(text)))
    ]
    if not said:
        return
    known = {one for names in OF_OTHERS.values() for one in names}
    known |= set(inspect.signature(torch.optim.Adam).parameters)
    if name.split(".")[1] in TAKES_LEARNERS or "_metacrl" in name:
        known |= {one for learner in ALL for one in parameters(learner)}
    if name.split(".")[1] in TAKES_KEYWORDS:
        known |= set(inspect.signature(Training).parameters)
        known |= {one for learner in ALL for one in keywords(learner)}
    for user in users(name):
        known |= offered().get(user, set())
    for one, line, text in said:
        if one not in known:
            yield f"{one} in {path}:{line}: {text}"


def test_an_advice_that_no_one_can_follow_is_found():
    tree = ast.parse('raise ValueError(f"Got {n}; pass nonesuch={n}, or n=None")')
    found = [one for _, text in texts(tree) for one in NAMED.findall(text)]
    assert found == ["nonesuch", "n"]
    assert "nonesuch" not in set().union(*offered().values())


# -- what a user reads -----------------------------------------------------------------

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 3)), np.tile([0, 1, 2], 8)
IDS = np.repeat(np.arange(4), 6)
SMALL = {"max_epochs": 1, "batches_per_epoch": 1, "verbose": 0, "random_state": 0}
LEARNERS = {
    "sparse": SparseMetaClassifier(shared_labels=False, common=None, **SMALL),
    "maml": MAMLClassifier(inner_steps=1, **SMALL),
    "factors": MetaCRLClassifier(MAMLClassifier(inner_steps=1, **SMALL)),
    "multi": MTCRLClassifier(max_epochs=1, verbose=0, random_state=0),
    "values": SparseMetaRegressor(**SMALL, common=None),
    "maml-values": MAMLRegressor(inner_steps=1, **SMALL),
    "multi-values": MTCRLRegressor(max_epochs=1, verbose=0, random_state=0),
}
ONE_ROW = np.arange(24)
FAULTS = {
    "classes of one row": {"y": ONE_ROW},
    "one small class": {"y": np.r_[9, Y[1:]]},
    "one class": {"y": np.zeros(24, dtype=int)},
    "tasks of one row": {"tasks": ONE_ROW},
    "one small task": {"tasks": np.r_[9, IDS[1:]]},
    "tasks of one class": {"tasks": Y},
    "two rows": {"X": X[:2], "y": Y[:2]},
    "many shots": {"n_shot": 50},
    "many queries": {"n_query": 50},
    "many ways": {"n_way": 50},
    "shots of tasks": {"n_shot": 50, "tasks": IDS},
    "one environment": {"across_envs": True, "envs": np.zeros(24)},
    "no environment": {"across_envs": True},
    "small environments": {"across_envs": True, "envs": ONE_ROW},
    "validation of all": {"validation": 0.9},
    "validation of strange tasks": {"validation": [77], "tasks": IDS},
    "validation without tasks": {"validation": [1]},
    "wide values": {"X": X * 1e30},
    "an infinite value": {"X": np.where(X.max() - 1e-9 < X, np.inf, X)},
    "images": {"input_shape": (3, 8, 8)},
    "rejection": {"reject": 0.1, "n_episodes": 3},
    "one label a task": {"shared_labels": True, "tasks": Y},
    "shared without tasks": {"shared_labels": True},
    "keep classes": {"keep_classes": True},
    "precision": {"net_params": Training(precision="float16")},
}


def messages(learner, fault):
    """Whatever a fit, or an adaptation, says of a fault."""
    given = {"X": X, "y": Y, **fault}
    parameters = {k: v for k, v in given.items() if k in learner.get_params()}
    data = {k: v for k, v in given.items() if k in ("X", "y", "tasks", "envs")}
    if parameters.keys() | data.keys() != given.keys():
        return
    learner = learner.__class__(**{**learner.get_params(deep=False), **parameters})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            learner.fit(**data)
        except Exception as error:
            yield str(error)
    yield from (str(one.message) for one in said)


ADVICE = re.compile(
    r"\b(?:lower|raise|set|use|pass|with|need|needs) ([a-z]+_[a-z_]+)\b"
)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_user_reads_of_own_parameters(name, fault):
    learner = LEARNERS[name]
    known = {key.rpartition("__")[2] for key in learner.get_params()}
    known |= set(parameters(type(learner))) | set(parameters(Training))
    for message in messages(learner, FAULTS[fault]):
        bare = re.sub(r"[A-Za-z_.]+\([^()]*\)", "", message)  # of a named function
        assert set(NAMED.findall(bare)) | set(ADVICE.findall(bare)) <= known, message
