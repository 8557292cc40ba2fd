"""Exported graphs against the learners that they come from, by onnxruntime."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.base import clone
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    StandardScaler,
)
from torch import nn

from skcausalmeta.backbones import MLP, Conv4, Identity, ResNet12
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError, NotFittedError
from skcausalmeta.export import to_module, to_onnx, to_torch
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    Head,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MetaCRLRegressor,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(5), 12)
TABLE = (RNG.normal(size=(60, 6)) + Y[:, None]).astype(np.float32)
IMAGES = (
    RNG.normal(size=(60, 12, 12, 3)).astype(np.float32) + 0.3 * Y[:, None, None, None]
)
IMAGES = IMAGES.astype(np.float32)
PIXELS = RNG.integers(256, size=(60, 12, 12), dtype=np.uint8)
STEPS = (RNG.normal(size=(60, 7, 3)) + Y[:, None, None]).astype(np.float32)
TOKENS = RNG.integers(20, size=(60, 4))
SHORT = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SHORT, "batches_per_epoch": 2, "tasks_per_batch": 2}


def narrow(head=None, **params):
    return SparseMetaClassifier(head, backbone=MLP(hidden=(8,)), **EPISODIC, **params)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True)

    def forward(self, rows):
        return self.gru(rows)[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(3, 1, 8, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, rows):
        return self.encoder(rows).mean(dim=1)


HEADS = {
    "svc": GroupLassoSVC(0.3, solver="newton"),
    "svc-intercept": GroupLassoSVC(0.1, solver="newton", fit_intercept=True),
    "svc-cv": GroupLassoSVCCV(group_regs=3, cv=2),
    "logistic": GroupLassoLogistic(),
    "ridge": RidgeHead(),
    "prototype": PrototypeHead(temperature=2.0),
    "cosine": PrototypeHead("cosine", temperature=0.1),
    "relaxed": RelaxedHead(),
    "relaxed-ridge": RelaxedHead(head=RidgeHead()),
}
CLASSIFIERS = {
    **{name: (narrow(head), TABLE) for name, head in HEADS.items() if name != "svc-cv"},
    "calibrated": (narrow(RidgeHead(), calibrate=20), TABLE),
    "identity": (SparseMetaClassifier(backbone="identity", **EPISODIC), TABLE),
    "identity-object": (SparseMetaClassifier(backbone=Identity(), **EPISODIC), TABLE),
    "conv4": (
        SparseMetaClassifier(backbone=Conv4(n_blocks=2, n_filters=4), **EPISODIC),
        IMAGES,
    ),
    "bytes": (
        SparseMetaClassifier(backbone=Conv4(n_blocks=2, n_filters=4), **EPISODIC),
        PIXELS,
    ),
    "flat-images": (
        SparseMetaClassifier(
            backbone=Conv4(n_blocks=2, n_filters=4), input_shape=(12, 12), **EPISODIC
        ),
        PIXELS.reshape(60, -1) / 255.0,
    ),
    "resnet12": (
        SparseMetaClassifier(
            RidgeHead(), backbone=ResNet12(n_filters=(4, 4, 8, 8)), **EPISODIC
        ),
        IMAGES,
    ),
    "module": (
        SparseMetaClassifier(
            RidgeHead(), backbone=nn.Sequential(nn.Linear(6, 4), nn.Tanh()), **EPISODIC
        ),
        TABLE,
    ),
    "recurrent": (SparseMetaClassifier(backbone=Recurrent(), **EPISODIC), STEPS),
    "attention": (SparseMetaClassifier(backbone=Attention(), **EPISODIC), STEPS),
    "integers": (
        SparseMetaClassifier(backbone=nn.Embedding(20, 3), **EPISODIC),
        TOKENS,
    ),
    "maml": (MAMLClassifier(inner_steps=2, **EPISODIC), TABLE),
    "anil": (MAMLClassifier(inner_steps=2, adapt_layers="head", **EPISODIC), TABLE),
    "kfo": (MAMLClassifier(update="kfo", inner_steps=2, **EPISODIC), TABLE),
    "maml-images": (
        MAMLClassifier(
            backbone=Conv4(n_blocks=2, n_filters=4),
            inner_steps=1,
            calibrate=10,
            **EPISODIC,
        ),
        IMAGES,
    ),
    "metacrl": (MetaCRLClassifier(narrow(RidgeHead()), across_envs=False), TABLE),
    "metacrl-maml": (
        MetaCRLClassifier(MAMLClassifier(inner_steps=1, **EPISODIC), across_envs=False),
        TABLE,
    ),
    "mtcrl": (MTCRLClassifier(n_modules=3, **SHORT), TABLE),
    "scaled": (make_meta_pipeline(StandardScaler(), narrow(RidgeHead())), TABLE),
    "scaled-twice": (
        make_meta_pipeline(MinMaxScaler(), "passthrough", MaxAbsScaler(), narrow()),
        TABLE * 1e3 + 7.0,
    ),
}
REGRESSORS = {
    "lasso": SparseMetaRegressor(LassoHead(), **EPISODIC),
    "ridge": SparseMetaRegressor(RidgeRegressionHead(), **EPISODIC),
    "as-they-are": SparseMetaRegressor(normalize_codes=False, **EPISODIC),
    "maml": MAMLRegressor(inner_steps=2, **EPISODIC),
    "metacrl": MetaCRLRegressor(
        SparseMetaRegressor(RidgeHead(0.1), **EPISODIC), across_envs=False
    ),
    "mtcrl": MTCRLRegressor(n_modules=3, **SHORT),
    "scaled": make_meta_pipeline(StandardScaler(), SparseMetaRegressor(**EPISODIC)),
}


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def agree(learner, X, path, names, **options):
    """The graph answers as the learner, for any number of rows; return its session."""
    module = to_onnx(learner, path, **options)
    dtype = str(module.input_dtype).removeprefix("torch.")
    session = session_of(path)
    assert [one.name for one in session.get_outputs()] == names
    for n_rows in (1, 2, len(X)):
        rows = X[:n_rows].astype(dtype)
        found = session.run(None, {"rows": rows})
        own = [part.numpy() for part in module(torch.from_numpy(rows))]
        if names == ["predictions"]:
            expected = [learner.predict(rows)]
        else:
            scores = learner.decision_function(rows)
            if scores.ndim == 1:
                scores = np.stack([np.zeros_like(scores), scores], axis=1)
            expected = [scores, learner.predict_proba(rows)]
        for one, two, other in zip(found, own, expected, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(two, other, rtol=1e-5, atol=1e-5)
    return session


# Drawing a graph takes seconds: some of every kind, the others in the second tier.
def by_speed(names, quick):
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


@pytest.mark.parametrize("name", by_speed(CLASSIFIERS, {"bytes", "maml", "scaled"}))
def test_classifiers_answer_in_onnxruntime(name, tmp_path):
    learner, X = CLASSIFIERS[name]
    names = np.array(["bee", "cat", "dog", "eel", "fox"])
    learner = clone(learner).fit(X, names[Y])
    path = tmp_path / "task.onnx"
    task = [3, 4] if name == "scaled" else [0, 1, 2]  # two classes, and several
    some = np.isin(Y, task)
    learner.adapt(X[some], names[Y[some]])
    session = agree(learner, X, path, ["scores", "probabilities"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == names[task].tolist()
    assert json.loads(facts["input_shape"]) == list(X.shape[1:])
    assert facts["learner"] == type(learner).__name__
    winners = session.run(["scores"], {"rows": X.astype(facts["input_dtype"])})[0]
    winners = names[task][winners.argmax(axis=1)]
    np.testing.assert_array_equal(winners, learner.predict(X))


@pytest.mark.parametrize("name", ["svc", "cosine", "integers", "metacrl", "mtcrl"])
def test_modules_answer_as_their_learners(name):
    """What is drawn: a module of torch, in no time."""
    learner, X = CLASSIFIERS[name]
    learner = clone(learner).fit(X, Y)
    for task in ([0, 1, 2], [3, 4]):  # several classes, and two
        some = np.isin(Y, task)
        learner.adapt(X[some], Y[some])
        module = to_module(learner)
        rows = X.astype(str(module.input_dtype).removeprefix("torch."))
        scores, shares = module(torch.from_numpy(rows))
        np.testing.assert_allclose(
            shares.numpy(), learner.predict_proba(rows), rtol=1e-5, atol=1e-5
        )
        found = np.array(task)[scores.numpy().argmax(axis=1)]
        np.testing.assert_array_equal(found, learner.predict(rows))


@pytest.mark.parametrize("name", ["lasso", "maml", "mtcrl"])
def test_modules_answer_as_their_regressors(name):
    learner, y = clone(REGRESSORS[name]), TABLE @ np.arange(6.0) + 100.0
    learner.fit(TABLE, y, tasks=Y).adapt(TABLE[:20], y[:20])
    (found,) = to_module(learner)(torch.from_numpy(TABLE))
    np.testing.assert_allclose(found.numpy(), learner.predict(TABLE), rtol=1e-5)


@pytest.mark.parametrize("name", by_speed(REGRESSORS, {"scaled"}))
def test_regressors_answer_in_onnxruntime(name, tmp_path):
    learner, y = clone(REGRESSORS[name]), TABLE @ np.arange(6.0) + 100.0
    learner.fit(TABLE, y, tasks=Y) if name != "scaled" else learner.fit(TABLE, y)
    learner.adapt(TABLE[:20], y[:20])
    session = agree(learner, TABLE, tmp_path / "task.onnx", ["predictions"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) is None


@pytest.mark.parametrize(
    "learner",
    [narrow(RidgeHead()), MAMLClassifier(**EPISODIC)],
    ids=lambda learner: type(learner).__name__,
)
def test_the_classes_of_fit_answer_too(learner):
    """The module of a learner without a task; own heads below draw one."""
    for task in ([0, 1, 2, 3, 4], [0, 1]):
        some = np.isin(Y, task)
        learner.fit(TABLE[some], Y[some])
        module = to_module(learner)
        scores, shares = module(torch.from_numpy(TABLE))
        np.testing.assert_allclose(
            shares.numpy(), learner.predict_proba(TABLE), rtol=1e-5, atol=1e-5
        )
        assert module.classes.tolist() == task
        found = module.classes[scores.numpy().argmax(axis=1)]
        np.testing.assert_array_equal(found, learner.predict(TABLE))


@pytest.mark.slow
def test_the_classes_of_fit_answer_in_onnxruntime(tmp_path):
    learner = MAMLClassifier(**EPISODIC).fit(TABLE, Y)
    agree(learner, TABLE, tmp_path / "task.onnx", ["scores", "probabilities"])


def test_a_program_of_torch_is_written_and_read(tmp_path):
    learner = narrow(RidgeHead()).fit(TABLE, Y).adapt(TABLE[:24], Y[:24])
    path = tmp_path / "task.pt2"
    to_torch(learner, path)
    program = torch.export.load(path).module()
    for n_rows in (1, 60):
        _, probabilities = program(torch.from_numpy(TABLE[:n_rows]))
        expected = learner.predict_proba(TABLE[:n_rows])
        np.testing.assert_allclose(probabilities.numpy(), expected, atol=1e-6)


def test_the_graph_shares_nothing_and_the_learner_stays():
    learner = narrow(RidgeHead()).fit(TABLE, Y).adapt(TABLE[:24], Y[:24])
    before = learner.predict_proba(TABLE)
    module = to_module(learner)
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            value.add_(1.0) if value.is_floating_point() else None
    np.testing.assert_array_equal(learner.predict_proba(TABLE), before)
    assert all(p.requires_grad for p in learner.net_.module_.backbone.parameters())


class OwnLinear(Head):
    """Linear by its contract: exported as it is."""

    def _layer(self, features, targets, weights, tol):
        means = targets.mT @ features / targets.sum(dim=1)[..., None]
        return 2 * means.mT, -means.square().sum(-1)


class OwnCurve(OwnLinear):
    """Not linear, and says nothing of it."""

    def _scores(self, X):
        return np.tanh(super()._scores(X))


class OwnLayer(OwnCurve):
    """Not linear, with a layer."""

    def score_layer(self):
        layer = nn.Linear(self.n_features_in_, len(self.classes_)).double()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(self.coef_)))
            layer.bias.copy_(torch.from_numpy(np.array(self.intercept_)))
        return nn.Sequential(layer, nn.Tanh()).requires_grad_(False)


@pytest.mark.parametrize(
    "head", [OwnLayer(), pytest.param(OwnLinear(), marks=pytest.mark.slow)]
)
def test_heads_of_ones_own_are_exported_in_any_opset(head, tmp_path):
    learner = narrow(head).fit(TABLE, Y)
    path = str(tmp_path / "a.onnx")
    agree(learner, TABLE, path, ["scores", "probabilities"], opset=20)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {one.domain: one.version for one in model.opset_import}[""] == 20
    (rows,) = model.graph.input
    n_rows, width = rows.type.tensor_type.shape.dim
    assert (n_rows.dim_param, width.dim_value) == ("n", 6)


def test_an_opset_without_the_operations_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"'opset' .* at least 18\. Got 9"):
        to_onnx(narrow(), tmp_path / "b.onnx", opset=9)


class Sorted(nn.Module):
    """An operation that no graph has: it leaves torch."""

    def forward(self, rows):
        return torch.from_numpy(np.sort(rows.detach().numpy(), axis=1))


REFUSED = {
    "own-head": (narrow(OwnCurve()), r"must answer as its learner. Got scores"),
    "episode": (
        narrow(RidgeHead(), batch_norm="episode"),
        "on its own. Got batch_norm",
    ),
    "half": (
        narrow(RidgeHead(), net_params={"precision": "bfloat16"}),
        "single precision.*Got precision='bfloat16'; fit with",
    ),
    "unsolved": (narrow(fit_head=False), "has solved none; call adapt"),
    "unfitted": (narrow(), "is not fitted yet"),
    "another": (RidgeHead(), "A learner of this package.*Got RidgeHead"),
    "steps": (
        make_meta_pipeline(PolynomialFeatures(2), narrow()),
        "must scale columns.*'polynomialfeatures', a PolynomialFeatures; export the",
    ),
    "clip": (
        make_meta_pipeline(MinMaxScaler(clip=True), narrow()),
        "linear.*clip=True",
    ),
    "all-tasks": (MTCRLClassifier(**SHORT), "solved none; call adapt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_graph_is_refused_with_the_reason(name, tmp_path):
    learner, reason = REFUSED[name]
    learner = clone(learner)
    if name != "unfitted":
        learner.fit(TABLE, Y)
    with pytest.raises((InvalidInputError, NotFittedError), match=reason):
        to_module(learner)


def test_operations_without_a_counterpart_are_refused(tmp_path):
    learner = SparseMetaClassifier(RidgeHead(), backbone=Sorted(), **EPISODIC)
    learner.fit(TABLE, Y)
    with pytest.raises(InvalidInputError, match="counterpart in ONNX"):
        to_onnx(learner, tmp_path / "a.onnx")
    with pytest.raises(InvalidInputError, match="able to follow a backbone"):
        to_torch(learner)
    assert not (tmp_path / "a.onnx").exists()


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    from skcausalmeta.export import _onnx

    monkeypatch.setattr(_onnx, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"skcausalmeta\[export\]"):
        to_onnx(narrow().fit(TABLE, Y), tmp_path / "a.onnx")
