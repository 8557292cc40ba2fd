"""Names in a file: the list, the classes of the caller, and everything else."""

import functools
from types import FunctionType

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcausalmeta.exceptions import InvalidInputError, PersistenceError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import SparseMetaClassifier, UpdateRule
from skcausalmeta.persistence import describe, load, save
from skcausalmeta.persistence._catalog import catalog, names
from skcausalmeta.training import TrainingCheckpoint
from skcausalmeta.utils import all_estimators
from skcausalmeta.utils._discovery import package_definitions

RNG = np.random.RandomState(0)
X, Y = RNG.randn(40, 12), np.repeat(np.arange(4), 10)
SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "tasks_per_batch": 2, "verbose": 0}
MADE = []


class Sequences(nn.Module):
    """Rows as sequences of four steps of three values."""

    def __init__(self, width=5):
        super().__init__()
        MADE.append(self)
        self.lstm = nn.LSTM(3, width, num_layers=2, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(
            width, 1, 4, dropout=0.0, batch_first=True, activation=nn.functional.gelu
        )

    def forward(self, rows):
        return self.attention(self.lstm(rows.reshape(len(rows), 4, 3))[0])[:, -1]


class Sneaky:
    """Anything that a constructor or a state method could do."""

    def __init__(self):
        raise AssertionError("a constructor has run")

    def __setstate__(self, state):
        raise AssertionError("a state method has run")


def make_sequences(width):
    return Sequences(width)


def learner(backbone=Sequences, **params):
    return SparseMetaClassifier(backbone=backbone, **SMALL, **params, random_state=0)


class Holder(RidgeHead):
    """An estimator of one's own, which has any attribute."""


def holder(thing):
    head = Holder()
    head.thing_ = thing
    return head


def test_a_backbone_of_ones_own_comes_back_with_its_class(tmp_path):
    fitted = learner(functools.partial(Sequences, width=4)).fit(X, Y)
    save(fitted, tmp_path / "own")
    n_made = len(MADE)
    again = load(tmp_path / "own", modules={"Sequences": Sequences})
    assert len(MADE) == n_made
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.backbone.func is Sequences
    assert again.fit(X, Y).net_.module_.backbone.backbone.lstm.hidden_size == 4


@pytest.mark.parametrize(
    ("backbone", "needed"),
    [
        (make_sequences(3), ["Sequences"]),
        (functools.partial(make_sequences, 3), ["Sequences", "make_sequences"]),
    ],
)
def test_a_file_tells_what_it_needs(tmp_path, backbone, needed):
    fitted = learner(backbone).fit(X, Y)
    save(fitted, tmp_path / "own")
    assert describe(tmp_path / "own")["modules"] == needed
    modules = {name: globals()[name] for name in needed}
    again = load(tmp_path / "own", modules=modules)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_an_unknown_class_is_refused_by_name(tmp_path):
    save(learner().fit(X, Y), tmp_path / "own")
    with pytest.raises(PersistenceError, match=r"needs 'Sequences'.*modules=\{"):
        load(tmp_path / "own")
    with pytest.raises(PersistenceError, match="needs 'Sequences'"):
        load(tmp_path / "own", modules={"Sequence": Sequences})
    for modules in ([Sequences], ["Sequences"], "Sequences", {Sequences: 1}, Sequences):
        with pytest.raises(InvalidInputError, match="must map names to classes or fun"):
            load(tmp_path / "own", modules=modules)


def test_no_constructor_and_no_state_method_runs(tmp_path):
    thing = object.__new__(Sneaky)
    thing.secret = 7
    save(holder(thing), tmp_path / "sneaky")
    again = load(tmp_path / "sneaky", modules={"Sneaky": Sneaky, "Holder": Holder})
    assert type(again.thing_) is Sneaky
    assert again.thing_.secret == 7


def test_an_update_rule_of_ones_own_comes_back(tmp_path):
    class Sign(UpdateRule):
        def build(self, named, n_steps, lr):
            self.lr = lr

        def direction(self, gradients, fast, step):
            return {name: self.lr * g.sign() for name, g in gradients.items()}

    rule = Sign()
    rule.build({}, 1, 0.5)
    save(holder(rule), tmp_path / "rule")
    modules = {"Sign": Sign, "Holder": Holder}
    assert load(tmp_path / "rule", modules=modules).thing_.lr == 0.5


def other_class_of_that_name():
    class Sneaky(nn.Module):
        pass

    return Sneaky()


def hooked():
    layer = nn.Linear(1, 1)
    layer.register_forward_hook(print)
    return layer


class Slotted:
    __slots__ = ("a",)


class Column(np.ndarray):
    pass


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


REFUSED = {
    "lambda": (lambda: lambda: 0, "must have names, each its own.*thing_"),
    "two of a name": (
        lambda: [object.__new__(Sneaky), other_class_of_that_name()],
        "each its own.*thing_.1",
    ),
    "hook": (hooked, "must have no hooks.*thing_"),
    "generator": (lambda: (k for k in ()), "must hold arrays.*thing_"),
    "slots": (Slotted, "must hold arrays.*thing_"),
    "array of a kind": (lambda: np.ones(3).view(Column), "must hold arrays.*thing_"),
    "fields": (lambda: np.zeros(2, dtype=[("a", "i4")]), "numbers, text or times"),
    "sparse tensor": (lambda: torch.eye(2).to_sparse(), "must be dense"),
    "uninitialised": (lambda: nn.LazyLinear(2), "must have no hooks.*thing_"),
    "too deep": (lambda: nested(200), "nested at most"),
}


@pytest.mark.parametrize(("make", "match"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_saved_is_named(tmp_path, make, match):
    (tmp_path / "kept").write_text("as it was")
    with pytest.raises(PersistenceError, match=match):
        save(holder(make()), tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "as it was"


def test_an_open_file_is_refused(tmp_path):
    with (tmp_path / "log").open("w") as log, pytest.raises(PersistenceError):
        save(holder(log), tmp_path / "holder")


def test_a_cache_of_pickles_is_refused(tmp_path):
    pipeline = make_pipeline(StandardScaler(), RidgeHead(), memory=str(tmp_path))
    with pytest.raises(PersistenceError, match="memory=None"):
        save(pipeline, tmp_path / "pipeline")


def test_only_estimators_are_saved(tmp_path):
    with pytest.raises(PersistenceError, match=r"takes an estimator\. Got a Linear"):
        save(nn.Linear(1, 1), tmp_path / "layer")


def test_an_estimator_that_is_not_listed_needs_its_class(tmp_path):
    pipeline = make_pipeline(StandardScaler(), RidgeClassifier()).fit(X, Y)
    save(pipeline, tmp_path / "pipeline")
    with pytest.raises(PersistenceError, match="needs 'RidgeClassifier'"):
        load(tmp_path / "pipeline")
    again = load(tmp_path / "pipeline", modules={"RidgeClassifier": RidgeClassifier})
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))


def test_the_list_has_every_estimator_and_every_layer():
    known = names()
    assert {cls for _, cls in all_estimators()} <= known.keys()
    rooms = {"backbones", "training", "heads", "learners", "compose"}
    own = {
        thing
        for room, thing in package_definitions()
        if room in rooms and isinstance(thing, type)
    }
    assert own - {TrainingCheckpoint} <= known.keys()
    assert {nn.Linear, nn.Conv2d, nn.BatchNorm2d, torch.optim.Adam} <= known.keys()
    assert all(catalog()[name] is thing for thing, name in known.items())


def test_the_list_has_nothing_that_runs_code_or_writes_files():
    known = set(catalog())
    assert not {name for name in known if name.endswith((".eval", ".exec", ".open"))}
    assert not {name for name in known if name.startswith(("os.", "subprocess."))}
    assert not any(name.startswith(("datasets.", "cli.")) for name in known)
    assert "skorch.callbacks.Checkpoint" not in known
    assert "builtins.getattr" not in known
    assert "training.TrainingCheckpoint" not in known
    own = [name for name, c in catalog().items() if isinstance(c, FunctionType)]
    rooms = {room for room, _ in package_definitions()}
    assert [name for name in own if name.split(".")[0] in rooms] == ["learners._silent"]


def test_device_moves_tensors_and_settings(tmp_path):
    fitted = learner("mlp").fit(X, Y)
    save(fitted, tmp_path / "learner")
    again = load(tmp_path / "learner", device="meta")
    assert again.device == again.net_.device == "meta"
    assert again.reader_.device == torch.device("meta")
    assert {p.device.type for p in again.net_.module_.parameters()} == {"meta"}


def test_a_device_that_is_missing_is_named(tmp_path, monkeypatch):
    save(holder(torch.device("cuda:1")), tmp_path / "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    modules = {"Holder": Holder}
    with pytest.raises(PersistenceError, match=r"Got 'cuda:1'.*device='cpu'"):
        load(tmp_path / "cuda", modules=modules)
    again = load(tmp_path / "cuda", modules=modules, device="cpu")
    assert again.thing_ == torch.device("cpu")
