"""What comes back from a file equals what went in, to the last bit."""

import copy
import dataclasses
import functools
import pickle

import numpy as np
import pytest
import skops.io
import torch
from sklearn import config_context
from sklearn import decomposition as dec
from sklearn import preprocessing as pre
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.pipeline import FeatureUnion, make_pipeline
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn

from skcausalmeta.backbones import MLP, Conv4, ResNet12
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.heads import GroupLassoSVC, RidgeHead
from skcausalmeta.learners import (
    KFOUpdate,
    MAMLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.learners._training import FitStage, episode_streams
from skcausalmeta.persistence import describe, load, save
from skcausalmeta.training import SGD, Adam, AdamW, Training, Validation
from skcausalmeta.utils import all_estimators

RNG = np.random.RandomState(0)
X, Y = RNG.randn(72, 6), np.repeat([f"class {k}" for k in range(6)], 12)
SHIFT = RNG.randn(6, 6)[np.repeat(np.arange(6), 12)]
X += SHIFT
X_NEW, Y_NEW = X[:24] + 1.0, np.repeat(["new", "newer"], 12)
SMALL = {"max_epochs": 1, "batches_per_epoch": 3, "tasks_per_batch": 2, "verbose": 0}
METHODS = ("predict", "predict_proba", "decision_function", "transform")


def small(cls):
    """An estimator that is quick to fit."""
    if cls.__name__ == "MetaPipeline":
        return make_meta_pipeline(pre.StandardScaler(), small(SparseMetaClassifier))
    names = cls().get_params()
    params = {name: value for name, value in SMALL.items() if name in names}
    if "random_state" in names:
        params["random_state"] = 0
    if "group_regs" in names:
        params.update(group_regs=2, cv=2)
    if "estimator" in names:  # the learner that a wrapper holds is small too
        inner = SparseMetaRegressor if is_regressor(cls()) else SparseMetaClassifier
        params["estimator"] = small(inner)
    return cls(**params)


def targets_of(estimator, labels):
    if is_regressor(estimator):
        return np.unique(labels, return_inverse=True)[1] + 0.25
    return labels


def fitted(estimator):
    return estimator.fit(X, targets_of(estimator, Y))


def there_and_back(estimator, tmp_path, **options):
    path = tmp_path / "estimator.safetensors"
    save(estimator, path)
    return load(path, **options)


def assert_same(one, two, where="estimator"):
    """Equal in type, value, layout and in what is shared; attribute by attribute."""
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.stride()) == (two.dtype, two.stride()), where
        assert one.requires_grad == two.requires_grad, where
        assert torch.equal(one, two), where
    elif isinstance(one, np.ndarray) and one.dtype != object:
        assert (one.dtype, one.shape) == (two.dtype, two.shape), where
        assert one.strides == two.strides or not one.size, where
        assert one.tobytes() == two.tobytes(), where
    elif isinstance(one, list | tuple | np.ndarray):
        assert len(one) == len(two), where
        for k, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}[{k}]")
    elif isinstance(one, dict):
        assert len(one) == len(two), where
        for (key, a), (other, b) in zip(one.items(), two.items(), strict=True):
            assert_same(key, other, f"{where} keys")
            assert_same(a, b, f"{where}[{key!r:.20}]")
    elif isinstance(one, np.random.RandomState):
        assert_same(one.get_state(legacy=False), two.get_state(legacy=False), where)
    elif isinstance(one, torch.optim.Optimizer):
        assert_same(one.__getstate__(), two.__getstate__(), where)
    elif hasattr(one, "__dict__") and not hasattr(one, "__name__"):
        # As skorch does in pickles: these weights are a copy of the module's.
        states = [{**vars(a), "best_model_weights_": None} for a in (one, two)]
        assert_same(*states, where)
    else:
        assert one == two or (one != one and two != two), where


def assert_predicts_the_same(one, two):
    for method in METHODS:
        if hasattr(one, method):
            expected = getattr(one, method)(X)
            np.testing.assert_array_equal(getattr(two, method)(X), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, _ in all_estimators()])
def test_every_estimator_comes_back_fitted_and_adapted(name, tmp_path):
    estimator = fitted(small(dict(all_estimators())[name]))
    again = there_and_back(estimator, tmp_path)
    assert again is not estimator
    assert_same(estimator, again)
    assert_predicts_the_same(estimator, again)
    if hasattr(estimator, "adapt"):
        y = targets_of(estimator, Y_NEW)
        # What is loaded adapts to the same, and what is adapted is saved as such.
        assert_same(copy.copy(again).adapt(X_NEW, y), estimator.adapt(X_NEW, y))
        assert_predicts_the_same(estimator, there_and_back(estimator, tmp_path))
        assert_same(estimator, there_and_back(estimator, tmp_path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, _ in all_estimators()])
def test_every_estimator_comes_back_before_fit(name, tmp_path):
    estimator = small(dict(all_estimators())[name])
    again = there_and_back(estimator, tmp_path)
    assert repr(again) == repr(estimator)
    assert_same(fitted(again).predict(X), fitted(clone(estimator)).predict(X))


VARIANTS = {
    "conv4": SparseMetaClassifier(
        backbone=Conv4(n_filters=4, n_blocks=1),
        input_shape=(8, 8),
        validation=Validation(["class 1", "class 4"], n_episodes=3, patience=None),
        optimizer=Adam(betas=(0.8, 0.99)),
    ),
    "resnet12": SparseMetaClassifier(
        backbone=ResNet12(n_filters=(2, 3)),
        input_shape=(1, 8, 8),
        validation=np.array(["class 1", "class 4"]),
        optimizer=AdamW(weight_decay=0.1),
        net_params=Training(precision="bfloat16", keywords={"head_tol": 1e-2}),
    ),
    "callbacks": SparseMetaClassifier(
        GroupLassoSVC(solver="auto"),
        validation=0.3,
        callbacks=[LRScheduler("StepLR", step_size=1), GradientNormClipping(1.0)],
        random_state=np.random.RandomState(3),
        optimizer=torch.optim.AdamW,
        net_params={"optimizer__weight_decay": 5e-4},
    ),
    "kfo": MAMLClassifier(
        KFOUpdate(1, bias=True), adapt_layers="head", backbone=MLP((9,), dropout=0.1)
    ),
    "meta-curvature": MAMLClassifier(
        "meta-curvature",
        optimizer=SGD(momentum=0.9, nesterov=True),
        net_params={"linear_layers": 1, "warm_start": True},
    ),
    "many tasks": MTCRLClassifier("mmoe", max_epochs=1, task_types="multiclass"),
    "layers": SparseMetaClassifier(
        backbone=nn.Sequential(nn.Linear(64, 9), nn.GELU(), nn.LayerNorm(9))
    ),
    "class": SparseMetaClassifier(
        backbone=functools.partial(nn.Linear, in_features=64, out_features=5)
    ),
}
IMAGES = RNG.rand(72, 64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", VARIANTS.values(), ids=VARIANTS.keys())
def test_settings_of_all_kinds_come_back(estimator, tmp_path):
    estimator = clone(estimator)
    if "batches_per_epoch" in estimator.get_params():
        estimator.set_params(**SMALL, n_way=2, n_shot=2)
    estimator.fit(IMAGES, Y)
    again = there_and_back(estimator, tmp_path)
    assert_same(estimator, again)
    np.testing.assert_array_equal(again.predict(IMAGES), estimator.predict(IMAGES))


@pytest.mark.parametrize("estimator", VARIANTS.values(), ids=VARIANTS.keys())
def test_settings_of_all_kinds_come_back_before_fit(estimator, tmp_path):
    assert_same(estimator, there_and_back(estimator, tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_a_solved_task_comes_back_with_its_kind(tmp_path):
    learner = fitted(small(MAMLClassifier))
    kinds = []
    for _ in range(2):
        again = there_and_back(learner, tmp_path)
        assert_same(learner.task_, again.task_)
        kinds.append(type(again.task_).__name__)
        learner.adapt(X_NEW, Y_NEW)
    assert kinds == ["HeadTask", "AdaptedTask"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.task_.scale = 2.0


@pytest.mark.parametrize("optimizer_state", [True, False])
def test_training_goes_on_from_a_file(tmp_path, optimizer_state):
    learner = fitted(small(SparseMetaClassifier))
    path = tmp_path / "learner"
    save(learner, path, optimizer_state=optimizer_state)
    nets = [learner.net_, load(path).net_]
    seeds = {"episodes": 1, "validation": 2, "held-out": 3, "augmentation": 4}
    stage = FitStage(
        X, Y, None, None, learner.reader_, Training.of(None), None, seeds, None
    )
    for net in nets:
        plan = learner._plan(Y, None, None, None, seeds)
        net.partial_fit(episode_streams(learner, stage, plan))
    weights = [net.module_.state_dict() for net in nets]
    same = all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert same == optimizer_state
    assert len(nets[1].history) == 2


def test_the_optimizer_is_most_of_a_file(tmp_path):
    learner = fitted(small(MAMLClassifier).set_params(backbone=MLP(hidden=(99,))))
    save(learner, tmp_path / "all")
    save(learner, tmp_path / "less", optimizer_state=False)
    sizes = [(tmp_path / name).stat().st_size for name in ("all", "less")]
    assert sizes[1] < 0.6 * sizes[0]
    assert_predicts_the_same(learner, load(tmp_path / "less"))


def test_equal_estimators_give_equal_files(tmp_path):
    learner = fitted(small(SparseMetaClassifier))
    save(learner, tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_shared_stays_shared(tmp_path):
    learner = fitted(small(MAMLClassifier))
    net = there_and_back(learner, tmp_path).net_
    assert net.module is net.module_
    of_optimizer = net.optimizer_.param_groups[0]["params"]
    assert all(
        a is b for a, b in zip(of_optimizer, net.module_.parameters(), strict=True)
    )


STEPS = {
    "scalers": make_pipeline(
        pre.StandardScaler(), pre.MinMaxScaler(), pre.MaxAbsScaler(), pre.RobustScaler()
    ),
    "shapes": make_pipeline(
        pre.PowerTransformer(), pre.QuantileTransformer(n_quantiles=9)
    ),
    "bins": pre.KBinsDiscretizer(3, encode="onehot-dense"),
    "powers": make_pipeline(
        pre.PolynomialFeatures(), pre.Normalizer(), pre.Binarizer()
    ),
    "gaps": make_pipeline(SimpleImputer(add_indicator=True), KNNImputer()),
    "parts": FeatureUnion(
        [
            ("pca", dec.PCA(2)),
            ("svd", dec.TruncatedSVD(2)),
            ("ica", dec.FastICA(2, random_state=0)),
            ("fa", dec.FactorAnalysis(2)),
            ("kernel", dec.KernelPCA(2, kernel="rbf")),
        ]
    ),
    "kernels": FeatureUnion(
        [("rbf", RBFSampler(random_state=0)), ("nys", Nystroem(n_components=9))]
    ),
    "choice": make_pipeline(VarianceThreshold(), SelectKBest(f_classif, k=3)),
    "columns": ColumnTransformer(
        [
            ("a", pre.OneHotEncoder(sparse_output=False), [0]),
            ("b", pre.OrdinalEncoder(), slice(1, 3)),
        ],
        remainder="passthrough",
    ),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_steps_of_scikit_learn_come_back(step, tmp_path):
    rows = X.round()
    pipeline = make_pipeline(clone(step), RidgeHead()).fit(rows, Y)
    again = there_and_back(pipeline, tmp_path)
    expected = pipeline[:-1].transform(rows)
    np.testing.assert_array_equal(again[:-1].transform(rows), expected)
    np.testing.assert_array_equal(again.predict(rows), pipeline.predict(rows))


def test_routing_output_and_data_frames_come_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    with config_context(enable_metadata_routing=True):
        learner = small(SparseMetaClassifier).set_fit_request(tasks=True, envs="site")
        learner.set_output(transform="pandas").fit(frame, Y)
        again = there_and_back(learner, tmp_path)
        assert again.get_metadata_routing().fit.requests == {
            "tasks": True,
            "envs": "site",
            "sample_weight": None,
        }
    assert list(again.feature_names_in_) == list("abcdef")
    pandas.testing.assert_frame_equal(again.transform(frame), learner.transform(frame))


class Holder(RidgeHead):
    """Estimator whose attributes a test decides."""


THINGS = {
    "arrays": [
        np.arange(6).reshape(2, 3).T,
        np.asfortranarray(RNG.rand(2, 3, 4)),
        np.array(3.5),
        np.zeros((0, 4)),
        np.array([True, False]),
        np.arange(3, dtype=">i4"),
        np.array([1 + 2j]),
        np.array(["a", "née", ""]),
        np.array([b"a", b"bc"]),
        np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
        np.array([None, "a", 1.5, np.nan], dtype=object),
        np.float16([1.5]),
        np.uint64([2**63]),
        np.longdouble([1.5]),
        np.broadcast_to(1.0, (2, 2)),
    ],
    "tensors": [
        torch.arange(6).reshape(2, 3).T,
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.tensor(2.0, dtype=torch.bfloat16),
        torch.tensor([1 + 2j], dtype=torch.complex128),
        torch.ones(3, requires_grad=True),
        torch.empty(0, 2),
        torch.tensor([True]),
    ],
    "scalars": [np.float32(0.1), np.int8(-3), np.str_("née"), np.str_(""), np.bool_(1)],
    "numbers": [
        float("nan"),
        float("-inf"),
        -0.0,
        5e-324,
        2**80,
        True,
        1 + 2j,
        "née\0",
    ],
    "containers": [
        (1, [2, {"a": {3}}]),
        frozenset({"b", "a"}),
        {1: "one", (2, 3): None},
        torch.Size([2]),
        b"\x00\xff",
        slice(1, None, 2),
    ],
    "types": [np.dtype("f4"), np.dtype(object), torch.float16, np.float64, nn.ReLU],
}


@pytest.mark.parametrize("things", THINGS.values(), ids=THINGS.keys())
def test_attributes_of_all_kinds_come_back(things, tmp_path):
    holder = Holder()
    holder.things_ = things
    again = there_and_back(holder, tmp_path, modules={"Holder": Holder})
    for k, (one, two) in enumerate(zip(things, again.things_, strict=True)):
        if isinstance(one, np.ndarray | torch.Tensor):
            assert type(one) is type(two)
            assert (one.dtype, one.shape) == (two.dtype, two.shape)
        if isinstance(one, np.ndarray) and one.dtype == object:
            assert_same(one.tolist(), two.tolist())
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
        else:
            assert_same(one, two, str(k))


def test_random_states_come_back(tmp_path):
    states = [
        np.random.RandomState(1),
        np.random.default_rng(2),
        np.random.Generator(np.random.Philox(3)),
        torch.Generator().manual_seed(4),
    ]
    states[0].standard_normal()  # leaves the second of a pair for later
    holder = Holder()
    holder.states_ = states
    found = there_and_back(holder, tmp_path, modules={"Holder": Holder}).states_
    for one, two in zip(states[:3], found[:3], strict=True):
        np.testing.assert_array_equal(
            one.standard_normal(700), two.standard_normal(700)
        )
    draws = [torch.rand(9, generator=state) for state in (states[3], found[3])]
    assert torch.equal(*draws)


def test_a_memory_map_and_one_array_twice_come_back(tmp_path):
    np.save(tmp_path / "rows.npy", X)
    holder = Holder()
    holder.rows_ = np.load(tmp_path / "rows.npy", mmap_mode="r")
    holder.same_ = holder.rows_
    holder.view_ = X[::2]
    holder.base_ = X
    holder.itself_ = holder
    again = there_and_back(holder, tmp_path, modules={"Holder": Holder})
    assert type(again.rows_) is np.ndarray
    assert again.rows_ is again.same_
    assert again.itself_ is again
    np.testing.assert_array_equal(again.rows_, X)
    np.testing.assert_array_equal(again.view_, X[::2])


def test_a_file_describes_itself(tmp_path):
    learner = small(SparseMetaClassifier).set_params(
        head=RidgeHead(0.5),
        input_shape=(3, 2),
        backbone=MLP(hidden=(4,)),
        validation=Validation(0.3, n_episodes=9),
        optimizer=Adam(weight_decay=0.1),
        net_params=Training(warm_start=True, keywords={"head_tol": 0.01}),
    )
    save(fitted(learner), tmp_path / "learner")
    found = describe(tmp_path / "learner")
    assert found["class"] == "SparseMetaClassifier"
    assert set(found["parameters"]) == set(learner.get_params(deep=False))
    assert found["parameters"]["head"].startswith("RidgeHead(ridge_reg=0.5, ")
    assert found["parameters"]["input_shape"] == "[3, 2]"
    assert found["parameters"]["backbone"].startswith("MLP(hidden=[4], out_features=")
    assert found["parameters"]["validation"] == (
        "Validation(held_out=0.3, n_episodes=9, patience=5)"
    )
    assert "weight_decay=0.1" in found["parameters"]["optimizer"]
    assert "keywords={'head_tol': 0.01}" in found["parameters"]["net_params"]
    assert found["versions"]["torch"] == str(torch.__version__)
    assert found["modules"] == []
    assert found["n_bytes"] == (tmp_path / "learner").stat().st_size


def test_any_safetensors_reader_finds_the_weights(tmp_path):
    from safetensors.torch import load_file

    learner = fitted(small(MAMLClassifier))
    save(learner, tmp_path / "learner")
    found = load_file(tmp_path / "learner")
    weight = learner.net_.module_.output[-1].weight
    assert any(
        v.shape == weight.shape and torch.equal(v, weight) for v in found.values()
    )


HEADS = [name for name, c in all_estimators() if c.__module__.split(".")[1] == "heads"]


@pytest.mark.parametrize("name", HEADS)
def test_skops_takes_the_heads(name):
    head = fitted(small(dict(all_estimators())[name]))
    text = skops.io.dumps(head)
    types = skops.io.get_untrusted_types(data=text)
    held = [part for part in vars(head).values() if isinstance(part, BaseEstimator)]
    expected = {name, *(type(part).__name__ for part in held)}
    assert {kind.rpartition(".")[2] for kind in types} == expected
    assert_predicts_the_same(head, skops.io.loads(text, trusted=types))


@pytest.mark.parametrize("cls", [SparseMetaClassifier, MAMLClassifier, MTCRLClassifier])
def test_pickle_takes_the_learners(cls):
    learner = fitted(small(cls))
    assert is_classifier(learner)
    assert_predicts_the_same(learner, pickle.loads(pickle.dumps(learner)))
