"""What files do not bring along: paths, programs, and attributes of no class."""

import functools
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping
from torch import nn

from skcausalmeta.backbones import PreparedBackbone
from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.persistence import load, read_value, save, write_value
from skcausalmeta.training import Training, TrainingCheckpoint

RNG = np.random.RandomState(0)
X, Y = RNG.randn(40, 4), np.repeat(np.arange(4), 10)
SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "tasks_per_batch": 2, "verbose": 0}
LEFT_OUT = "files hold no paths, no programs"


def learner(**params):
    return SparseMetaClassifier(RidgeHead(), random_state=0, **SMALL, **params)


@pytest.fixture
def victim(tmp_path):
    """A file that a harmless file must leave alone."""
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


# -- paths -----------------------------------------------------------------------------


def test_a_checkpoint_among_the_callbacks_is_left_out(tmp_path, victim):
    given = learner(callbacks=[("own", TrainingCheckpoint(str(victim), {}))])
    with pytest.warns(UserWarning, match=r"was saved without TrainingCheckpoint"):
        save(given, tmp_path / "learner")
    with pytest.warns(UserWarning, match=r"was loaded without TrainingCheckpoint"):
        again = load(tmp_path / "learner")
    assert again.callbacks == []
    again.fit(X, Y)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("paired", [True, False])
def test_a_forged_checkpoint_is_left_out(tmp_path, victim, forge, paired):
    callback = ("own", EarlyStopping()) if paired else EarlyStopping()
    save(learner(callbacks=[callback]), tmp_path / "learner")

    def change(nodes):
        node = forge.node(
            nodes, kind="object", **{"class": "skorch.callbacks.EarlyStopping"}
        )
        node["class"] = "training.TrainingCheckpoint"
        node["state"] = {"path": str(victim), "facts": {}}

    with pytest.warns(UserWarning, match=r"was loaded without TrainingCheckpoint"):
        again = load(forge.change(tmp_path / "learner", change))
    assert again.callbacks == []
    again.fit(X, Y)
    assert victim.read_text() == "precious"


def test_a_fitted_learner_is_saved_without_its_checkpoint(tmp_path):
    path = tmp_path / "training.ckpt"
    fitted = learner(net_params=Training(checkpoint_path=path)).fit(X, Y)
    path.unlink()
    with pytest.warns(UserWarning, match=LEFT_OUT):
        save(fitted, tmp_path / "learner")
    with pytest.warns(UserWarning, match=r"Training.checkpoint_path"):
        again = load(tmp_path / "learner")
    assert again.net_params.checkpoint_path is None
    assert "checkpoint" not in dict(again.net_.callbacks_)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    again.fit(X, Y)
    assert not path.exists()


NESTED = {
    "dictionary": lambda path: learner(net_params={"checkpoint_path": path}),
    "wrapped": lambda path: MetaCRLClassifier(
        learner(net_params=Training(checkpoint_path=path))
    ),
    "maml": lambda path: MAMLClassifier(net_params={"checkpoint_path": path}, **SMALL),
}


@pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)
def test_paths_are_left_out_wherever_they_are(tmp_path, forge, make):
    path = str(tmp_path / "made-by-a-file")
    with pytest.warns(UserWarning, match="checkpoint_path"):
        save(make(path), tmp_path / "learner")
    assert path not in (tmp_path / "learner").read_bytes().decode("latin-1")
    save(make(None), tmp_path / "learner")
    text = '"checkpoint_path":null'

    def change(nodes):
        for node in nodes:
            if "checkpoint_path" in node.get("state", {}):
                node["state"]["checkpoint_path"] = path
            if node["kind"] == "dict":
                for pair in node["items"]:
                    if pair[0] == "checkpoint_path":
                        pair[1] = path

    forge.change(tmp_path / "learner", change)
    assert text not in (tmp_path / "learner").read_bytes().decode("latin-1")
    with pytest.warns(UserWarning, match="checkpoint_path"):
        again = load(tmp_path / "learner")
    assert path not in repr(again.get_params())
    again.fit(X, Y)
    assert not (tmp_path / "made-by-a-file").exists()


# -- programs --------------------------------------------------------------------------

OPTIONS = {"options": {"cpp.cxx": ("touch",)}, "mode": "default", "dynamic": True}


def test_options_of_a_compiler_are_left_out(tmp_path):
    for params in (Training(compile=OPTIONS), {"compile": OPTIONS}):
        with pytest.warns(UserWarning, match=r"compile\['options'\]"):
            save(learner(net_params=params), tmp_path / "learner")
        with pytest.warns(UserWarning, match=r"compile\['options'\]"):
            again = load(tmp_path / "learner").net_params
        kept = again["compile"] if isinstance(again, dict) else again.compile
        assert kept == {"mode": "default", "dynamic": True}


def test_a_prepared_backbone_brings_no_options(tmp_path, forge):
    write_value(tmp_path / "net", PreparedBackbone(nn.Identity(), compile_with={}))

    def change(nodes):
        node = forge.node(nodes, kind="dict")
        nodes.append({"kind": "dict", "items": [["cpp.cxx", "touch"]]})
        pairs = [["options", {"ref": len(nodes) - 1}], ["backend", "mine"]]
        node["items"] = [*pairs, ["fullgraph", True]]

    with pytest.warns(UserWarning, match="was loaded without PreparedBackbone"):
        again = read_value(forge.change(tmp_path / "net", change))
    assert again.compile_with == {"fullgraph": True}


@pytest.mark.parametrize("value", ["touch", 3, ["touch"]])
def test_compile_is_a_flag_or_settings(tmp_path, forge, value):
    save(learner(net_params=Training()), tmp_path / "learner")

    def change(nodes):
        state = forge.node(nodes, **{"class": "training.Training"})["state"]
        nodes.append({"kind": "list", "items": ["touch"]})
        is_list = isinstance(value, list)
        state["compile"] = {"ref": len(nodes) - 1} if is_list else value

    with pytest.warns(UserWarning, match=r"Training\.compile"):
        again = load(forge.change(tmp_path / "learner", change))
    assert again.net_params.compile is False


def test_harmless_settings_are_kept_in_silence(tmp_path):
    settings = Training(compile={"mode": "max-autotune", "backend": "inductor"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(learner(net_params=settings), tmp_path / "learner")
        assert load(tmp_path / "learner").net_params.compile == settings.compile


# -- attributes ------------------------------------------------------------------------

ODD_NAMES = [
    *("score", "predict", "fit", "get_params", "_validate_params", "evil_", "payload"),
    *("__deepcopy__", "__class__", "__dict__", "_repr_html_", "_parameter_constraints"),
    *("", "a b", "coef_.x", "évil"),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_sets_no_attribute_that_the_class_has_not(tmp_path, forge, name):
    save(RidgeHead().fit(X, Y), tmp_path / "head")

    def change(nodes):
        nodes[0]["state"][name] = {"ref": len(nodes)}
        nodes.append({"kind": "name", "name": "builtins.print"})

    with pytest.warns(UserWarning, match="was loaded without RidgeHead"):
        again = load(forge.change(tmp_path / "head", change))
    assert name not in vars(again)
    assert 0 <= again.score(X, Y) <= 1


@pytest.mark.parametrize(
    "name", ["forward", "_compiled_call_impl", "__call__", "_forward_hooks", "train"]
)
def test_a_file_replaces_no_method_of_a_layer(tmp_path, forge, name):
    write_value(tmp_path / "layer", nn.Linear(2, 1))

    def change(nodes):
        nodes[0]["state"][name] = {"ref": len(nodes)}
        nodes.append({"kind": "name", "name": "builtins.print"})

    with pytest.warns(UserWarning, match="was loaded without Linear"):
        again = read_value(forge.change(tmp_path / "layer", change))
    assert again(torch.ones(1, 2)).shape == (1, 1)
    assert vars(again).keys() == vars(nn.Linear(2, 1)).keys()


@pytest.mark.parametrize("group", ["parameters", "buffers", "modules"])
def test_a_file_adds_no_part_to_a_layer(tmp_path, forge, group):
    write_value(tmp_path / "net", [nn.BatchNorm1d(2), nn.Linear(2, 1)])
    kind = {"parameters": "parameter", "buffers": "tensor", "modules": "module"}[group]

    def change(nodes):
        number = [node["kind"] for node in nodes].index(kind, 2)
        layer = forge.node(nodes, **{"class": "torch.nn.Linear"})
        layer[group]["evil"] = {"ref": number} if group != "modules" else None

    with pytest.warns(UserWarning, match="was loaded without Linear.evil"):
        again = read_value(forge.change(tmp_path / "net", change))[1]
    assert not hasattr(again, "evil")


def test_what_a_user_adds_is_said_when_it_is_saved(tmp_path):
    head = RidgeHead().fit(X, Y)
    head.note = "from Tuesday"
    with pytest.warns(UserWarning, match=r"was saved without RidgeHead\.note"):
        save(head, tmp_path / "head")
    assert "Tuesday" not in (tmp_path / "head").read_bytes().decode("latin-1")


class Remembering(nn.Linear):
    """A layer of one's own with a value that it computes once."""

    @functools.cached_property
    def norm(self):
        return float(self.weight.detach().norm())

    def __init__(self):
        super().__init__(2, 1)


def test_classes_of_ones_own_keep_their_methods(tmp_path, forge):
    layer = Remembering()
    layer.note = "mine"
    norm = layer.norm
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is computed again is no loss
        write_value(tmp_path / "layer", layer)
        again = read_value(tmp_path / "layer", {"Remembering": Remembering})
    assert (again.note, "norm" in vars(again)) == ("mine", False)
    assert again.norm == norm

    def change(nodes):
        nodes[0]["state"]["forward"] = "replaced"

    forge.change(tmp_path / "layer", change)
    with pytest.warns(UserWarning, match=r"without Remembering\.forward"):
        again = read_value(tmp_path / "layer", {"Remembering": Remembering})
    assert again(torch.ones(1, 2)).shape == (1, 1)


# -- classes that changed --------------------------------------------------------------


def later(extra):
    """The class `Own` of a later day."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            if extra == "layer":
                self.second = nn.Linear(3, 3)
            if extra == "number":
                self.scale = 2.0

        def forward(self, rows):
            return self.layer(rows)

    return Own


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, rows):
        return self.layer(rows)


class Renamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)


Renamed.__name__ = "Own"


def test_a_class_that_sets_more_than_before_is_refused(tmp_path):
    fitted = learner(backbone=Own).fit(X, Y)
    save(fitted, tmp_path / "own")
    again = load(tmp_path / "own", modules={"Own": Own})
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    for changed, name in ((later(None), "scale"), (Renamed, "linear")):
        with pytest.raises(PersistenceError, match=f"constructor also sets.*{name}"):
            load(tmp_path / "own", modules={"Own": changed})


def test_a_device_that_is_not_there_is_named(tmp_path):
    save(RidgeHead(), tmp_path / "head")
    for device in ("moon", "xla:0"):
        with pytest.raises(PersistenceError, match=f"'{device}' on a machine without"):
            load(tmp_path / "head", device=device)
