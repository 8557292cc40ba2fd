"""Injected faults: each ends in a right answer or an error of the package.

After every one of them the learner answers as before.
"""

import copy
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from skcausalmeta.exceptions import (
    ConvergenceWarning,
    DivergenceError,
    InvalidInputError,
    OutOfMemoryError,
    SkcausalmetaError,
)
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    LassoHead,
    PrototypeHead,
    RidgeHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.learners._maml._net import GradientNet
from skcausalmeta.training._episodic_net import HeadNet

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(3), 12)
X = RNG.standard_normal((36, 4))
X[np.arange(36), Y] += 6
SMALL = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SMALL, "batches_per_epoch": 2, "tasks_per_batch": 4}
LEARNERS = {
    "sparse": SparseMetaClassifier(**EPISODIC),
    "maml": MAMLClassifier(**EPISODIC, inner_steps=1),
    "values": SparseMetaRegressor(**EPISODIC, normalize_codes=False),
    "maml-values": MAMLRegressor(**EPISODIC, inner_steps=1),
    "mtcrl": MTCRLClassifier(**SMALL),
    "mtcrl-values": MTCRLRegressor(**SMALL),
}


def targets_of(name):
    return Y * 1.0 if name.endswith("values") else Y


@pytest.fixture(scope="module", params=LEARNERS)
def fitted(request):
    y = targets_of(request.param)
    return copy.deepcopy(LEARNERS[request.param]).fit(X, y), y


class Poisoned(nn.Module):
    """A backbone whose weights turn to NaN in a step of training."""

    def __init__(self, input_shape, at=3):
        super().__init__()
        self.layer, self.at, self.calls = nn.Linear(input_shape[0], 4), at, 0

    def forward(self, rows):
        if self.training:
            self.calls += 1
        return self.layer(rows) * (float("nan") if self.calls >= self.at else 1.0)


ROWS = {
    "integers": np.round(10 * X).astype(np.int16),
    "bytes": np.round(10 * X - X.min()).astype(np.int8),
    "objects": X.astype(object),
    "half": X.astype(np.float16),
    "long double": X.astype(np.longdouble),
    "big endian": X.astype(">f8"),
    "fortran": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=0)[::2],
    "reversed": np.ascontiguousarray(X[::-1])[::-1],
    "read-only": np.frombuffer(X.tobytes()).reshape(X.shape),
    "list": X.tolist(),
    "sparse": sparse.csr_array(X),
    "sparse columns": sparse.csc_matrix(X),
    "tensor": torch.from_numpy(X),
    "frame": pd.DataFrame(X, columns=list("abcd")),
    "nullable": pd.DataFrame(X, columns=list("abcd")).convert_dtypes(),
    "arrow": pd.DataFrame(X, columns=list("abcd")).convert_dtypes(
        dtype_backend="pyarrow"
    ),
    "duplicated columns": X[:, [0, 0, 1, 1, 2, 2]],
    "constant column": np.c_[X, np.ones(36)],
    "ill conditioned": X * [1, 1e4, 1e-2, 1],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_of_any_kind_give_the_right_answer(rows):
    for learner in (SparseMetaClassifier(**EPISODIC), MTCRLClassifier(**SMALL)):
        learner.fit(rows, Y)
        assert learner.adapt(rows, Y).score(rows, Y) > 0.8


NOT_ROWS = {
    "nan": (np.where(X > 6, np.nan, X), ValueError),
    "infinite": (np.where(X > 6, np.inf, X), ValueError),
    "text": (np.full(X.shape, "a", object), ValueError),
    "complex": (X + 1j, ValueError),
    "no columns": (X[:, :0], ValueError),
    "no rows": (X[:0], ValueError),
    "too large": (X * 1e40, ValueError),
    "missing": (pd.DataFrame(X).mask(X > 6).convert_dtypes(), (ValueError, TypeError)),
    "sparse nan": (sparse.csr_array(np.where(X > 6, np.nan, X)), ValueError),
    "sparse complex": (sparse.csr_array(X + 1j), ValueError),
    "sparse no rows": (sparse.csr_array(X[:0]), ValueError),
    "ragged": ([[1.0], [1.0, 2.0]] * 18, ValueError),
}


@pytest.mark.parametrize(("rows", "error"), NOT_ROWS.values(), ids=NOT_ROWS)
def test_what_are_no_rows_is_refused(fitted, rows, error):
    learner, y = fitted
    before = learner.predict(X)
    for call in (learner.fit, learner.adapt):
        with pytest.raises(error) as found:
            call(rows, y)
        assert isinstance(found.value, SkcausalmetaError | TypeError)
    np.testing.assert_array_equal(learner.predict(X), before)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e20, 1e30])
@pytest.mark.parametrize("name", LEARNERS)
def test_scales_beyond_single_precision_are_refused_or_right(name, scale):
    learner, y = copy.deepcopy(LEARNERS[name]), targets_of(name)
    usual = copy.deepcopy(learner).fit(X, y).score(X, y)
    try:
        score = learner.fit(X * scale, y).score(X * scale, y)
    except SkcausalmetaError:
        return
    assert score > usual - 0.1


@pytest.mark.parametrize("kind", [SparseMetaClassifier, MTCRLClassifier])
def test_rows_beyond_single_precision_are_named(kind):
    with pytest.raises(InvalidInputError, match=r"single precision"):
        kind(**SMALL).fit(1e40 * X, Y)
    ready = SparseMetaClassifier(backbone="identity", **EPISODIC)
    assert ready.fit(1e-9 * X, Y).score(1e-9 * X, Y) > 0.8


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize(
    "head", [GroupLassoSVC(solver="newton"), GroupLassoLogistic(), PrototypeHead()]
)
def test_heads_are_free_of_units(head, scale):
    assert head.fit(X * scale, Y).score(X * scale, Y) > 0.9


@pytest.mark.parametrize(
    "head", [RidgeHead(), LassoHead(), GroupLassoSVC(solver="newton")]
)
def test_heads_solve_singular_systems(head):
    y = Y * 1.0 if isinstance(head, LassoHead) else Y
    twice = np.tile(np.c_[X, X, np.zeros((36, 3))], (2, 1))
    assert head.fit(twice, np.tile(y, 2)).score(twice, np.tile(y, 2)) > 0.8


@pytest.mark.parametrize("kind", [GroupLassoSVC, GroupLassoLogistic])
def test_a_solver_that_does_not_converge_says_how_far_it_is(kind):
    learner = SparseMetaClassifier(
        kind(max_iter=1, tol=1e-12, solver="fista"), **EPISODIC, fit_head=False
    ).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="(?i)gap"):
        learner.adapt(X, Y)
    assert learner.dual_gap_ > 0
    learner.set_params(head__max_iter=10_000, head__tol=1e-4)
    assert learner.adapt(X, Y).score(X, Y) > 0.9


@pytest.mark.parametrize("at", [1, 3, 6])
@pytest.mark.parametrize("kind", [SparseMetaClassifier, SparseMetaRegressor])
def test_a_backbone_that_diverges_is_reported_with_the_step(kind, at):
    learner = kind(backbone=partial(Poisoned, at=at), **EPISODIC)
    y = Y * 1.0 if kind is SparseMetaRegressor else Y
    step = 1 + (at - 1) // 4 if kind is SparseMetaClassifier else 1
    match = "features of training must stay finite.* step . of epoch 1"
    if kind is SparseMetaClassifier:
        match = match.replace("step .", f"step {step}")
    if at == 6 and kind is SparseMetaRegressor:
        return
    with pytest.raises(DivergenceError, match=match):
        learner.fit(X, y)
    learner.set_params(backbone=partial(Poisoned, at=10**6))
    assert learner.fit(X, y).predict(X).size


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sparse", {"lr": 1e30, "optimizer": "sgd", "batches_per_epoch": 8}),
        ("values", {"lr": 1e30, "optimizer": "sgd", "batches_per_epoch": 8}),
        ("maml", {"inner_lr": 1e30}),
        ("maml-values", {"inner_lr": 1e30}),
        ("mtcrl-values", {"lr": 1e30, "optimizer": "sgd", "max_epochs": 8}),
    ],
)
def test_training_that_diverges_is_reported(name, params):
    learner, y = copy.deepcopy(LEARNERS[name]), targets_of(name)
    before = learner.fit(X, y).predict(X)
    usual = {key: learner.get_params()[key] for key in params}
    with pytest.raises(DivergenceError, match=r"must stay finite|must be finite"):
        learner.set_params(**params).fit(X, y)
    np.testing.assert_array_equal(learner.predict(X), before)
    again = learner.set_params(**usual).fit(X, y).predict(X)
    np.testing.assert_array_equal(again, before)


def test_a_last_step_that_diverges_is_reported():
    learner = SparseMetaClassifier(
        **{**EPISODIC, "batches_per_epoch": 1, "optimizer": "sgd", "lr": 1e38}
    )
    with pytest.raises(DivergenceError, match=r"after the last step|must be finite"):
        learner.fit(1e6 * X, Y)


@pytest.mark.parametrize("name", ["sparse", "maml", "values", "maml-values"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError("no"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "numpy", "cpu"],
)
def test_training_takes_fewer_tasks_where_memory_runs_out(monkeypatch, name, error):
    learner, y = copy.deepcopy(LEARNERS[name]), targets_of(name)
    tasks = X[None], y[None], X[None]
    expected = copy.deepcopy(learner).fit(X, y).predict_episodes(*tasks)
    seen = starve(monkeypatch, error, most=1)
    found = learner.fit(X, y).predict_episodes(*tasks)
    assert seen[:3] == [4, 2, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def starve(monkeypatch, error, most):
    """Let the nets run out of memory with more than `most` tasks at a time."""
    seen = []
    for kind, method in ((HeadNet, "_batch_loss"), (GradientNet, "_query_loss")):
        whole = getattr(kind, method)

        def scarce(self, tasks, *args, whole=whole, **kwargs):
            n_tasks = len(getattr(tasks, "tasks", tasks))
            seen.append(n_tasks)
            if n_tasks > most:
                raise error
            return whole(self, tasks, *args, **kwargs)

        monkeypatch.setattr(kind, method, scarce)
    return seen


@pytest.mark.parametrize("name", ["sparse", "maml"])
def test_a_task_that_fits_nowhere_is_an_error(monkeypatch, name):
    learner = copy.deepcopy(LEARNERS[name]).fit(X, Y)
    before = learner.predict(X)
    with monkeypatch.context() as patch:
        starve(patch, torch.OutOfMemoryError("CUDA out of memory"), most=0)
        with pytest.raises(OutOfMemoryError, match=r"one task must fit.* step 1 of"):
            learner.fit(X, Y)
    np.testing.assert_array_equal(learner.predict(X), before)


def test_other_errors_of_the_runtime_pass(monkeypatch):
    learner = copy.deepcopy(LEARNERS["sparse"])
    starve(monkeypatch, RuntimeError("shapes"), most=0)
    with pytest.raises(RuntimeError, match="shapes"):
        learner.fit(X, Y)


def test_weights_lost_after_fit_are_noticed(fitted):
    learner, y = copy.deepcopy(fitted[0]), fitted[1]
    with torch.no_grad():
        for parameter in learner.net_.module_.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises((DivergenceError, InvalidInputError)):
        learner.adapt(X, y).predict(X)


@pytest.fixture(scope="module")
def sparse():
    return copy.deepcopy(LEARNERS["sparse"]).fit(X, Y)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(-30, 30),
    st.integers(-30, 30),
    st.sampled_from(["C", "F", "read-only", "strided"]),
    st.integers(0, 3),
)
def test_any_scale_gives_an_answer_or_an_error(sparse, large, small, layout, copies):
    learner = copy.copy(sparse)
    rows = X[::3] * np.array([10.0**large, 10.0**small, 1.0, 1.0])
    rows = np.concatenate([rows, *[rows[:4]] * copies])
    y = np.concatenate([Y[::3], *[Y[::3][:4]] * copies])
    if layout == "F":
        rows = np.asfortranarray(rows)
    elif layout == "strided":
        rows = np.repeat(rows, 2, axis=0)[::2]
    elif layout == "read-only":
        rows.setflags(write=False)
    before = rows.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            found = learner.adapt(rows, y).predict(rows)
        except SkcausalmetaError:
            found = y
    assert set(found) <= {0, 1, 2}
    np.testing.assert_array_equal(rows, before)
    assert learner.adapt(X, Y).score(X, Y) > 0.9
