"""Sparse matrices: the answers of dense rows, without ever being dense as a whole."""

import copy
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
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
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.model_selection import evaluate_few_shot
from skcausalmeta.persistence import load, save
from skcausalmeta.utils import SparseRows, _sparse_rows

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(6), 12)
DENSE = (RNG.random((72, 9)) < 0.3) * RNG.random((72, 9))
DENSE[np.arange(72), Y] += 2.0
ROWS = sparse.csr_array(DENSE)
SHORT = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SHORT, "batches_per_epoch": 2, "tasks_per_batch": 2}
LEARNERS = {
    "sparse": SparseMetaClassifier(**EPISODIC),
    "calibrated": SparseMetaClassifier(RidgeHead(), calibrate=5, **EPISODIC),
    "identity": SparseMetaClassifier(RidgeHead(), backbone="identity", **EPISODIC),
    "episode": SparseMetaClassifier(RidgeHead(), batch_norm="episode", **EPISODIC),
    "maml": MAMLClassifier(inner_steps=1, **EPISODIC),
    "metacrl": MetaCRLClassifier(MAMLClassifier(inner_steps=1, **EPISODIC)),
    "mtcrl": MTCRLClassifier(n_modules=2, **SHORT),
    "values": SparseMetaRegressor(**EPISODIC),
    "maml-values": MAMLRegressor(inner_steps=1, **EPISODIC),
}


def targets_for(name):
    return Y * 1.0 if name.endswith("values") else Y


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(
    "form", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array]
)
def test_learners_answer_as_for_dense_rows(name, form):
    learner, y = clone(LEARNERS[name]), targets_for(name)
    expected = copy.deepcopy(learner).fit(DENSE, y)
    learner.fit(form(DENSE), y)
    np.testing.assert_array_equal(learner.predict(form(DENSE)), expected.predict(DENSE))
    np.testing.assert_array_equal(learner.transform(ROWS), expected.transform(DENSE))
    assert learner.score(ROWS, y) == expected.score(DENSE, y)
    some = Y < 3
    learner.adapt(form(DENSE[some]), y[some])
    expected.adapt(DENSE[some], y[some])
    np.testing.assert_array_equal(learner.predict(form(DENSE)), expected.predict(DENSE))
    if hasattr(learner, "predict_proba"):
        np.testing.assert_array_equal(
            learner.predict_proba(ROWS), expected.predict_proba(DENSE)
        )
    twin = pickle.loads(pickle.dumps(learner))
    np.testing.assert_array_equal(twin.predict(DENSE), expected.predict(DENSE))


def told_twice(rows):
    """A matrix whose entries stand there in two halves, unsorted."""
    found = sparse.coo_array(rows)
    row, column = found.coords
    halves = np.r_[found.data / 2, found.data[::-1] / 2]
    places = (np.r_[row, row[::-1]], np.r_[column, column[::-1]])
    return sparse.coo_array((halves, places), shape=found.shape)


def halves_in_rows(rows):
    """The same as CSR: not canonical, and its indices not sorted."""
    found = sparse.csr_array(rows)
    parts = (np.repeat(found.data / 2, 2), np.repeat(found.indices, 2))
    return sparse.csr_array((*parts, 2 * found.indptr), shape=found.shape)


def with_zeros(rows):
    """Every entry is stored, zeros too, with wide indices that may not be written."""
    n, p = rows.shape
    indices, starts = np.tile(np.arange(p), n), np.arange(0, n * p + 1, p)
    found = sparse.csr_array((rows.ravel().copy(), indices, starts), shape=(n, p))
    found.indices, found.indptr = indices.astype(np.int64), starts.astype(np.int64)
    for part in (found.data, found.indices, found.indptr):
        part.flags.writeable = False
    return found


@pytest.mark.parametrize(
    "form",
    [told_twice, halves_in_rows, with_zeros, sparse.lil_array, sparse.bsr_array],
    ids=lambda form: form.__name__,
)
def test_however_a_matrix_is_stored_it_is_the_same(form):
    given, some = form(DENSE), form(DENSE[:36])
    before = given.copy()
    found = clone(LEARNERS["calibrated"]).fit(given, Y).adapt(some, Y[:36])
    expected = clone(LEARNERS["calibrated"]).fit(DENSE, Y).adapt(DENSE[:36], Y[:36])
    np.testing.assert_array_equal(
        found.predict_proba(given), expected.predict_proba(DENSE)
    )
    head = RidgeHead().fit(given, Y)
    np.testing.assert_array_equal(head.coef_, RidgeHead().fit(DENSE, Y).coef_)
    assert given.nnz == before.nnz
    assert (given != before).nnz == 0


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("way", ["list", "matrix", "bounded"])
def test_many_tasks_come_as_matrices_or_as_one(name, way):
    learner, y = clone(LEARNERS[name]), targets_for(name)
    learner.fit(DENSE, y)
    order = RNG.permutation(36)
    support = np.stack([DENSE[:36][order], DENSE[36:][order]])
    labels = np.stack([y[:36][order], y[36:][order]])
    query = support[:, ::2]
    expected = learner.predict_episodes(support, labels, query)
    if way == "matrix":
        given = [sparse.csr_array(X.reshape(-1, 9)) for X in (support, query)]
    else:
        given = [[sparse.csr_array(one) for one in X] for X in (support, query)]
    bound = {"max_memory": 2**26} if way == "bounded" else {}
    found = learner.predict_episodes(given[0], labels, given[1], **bound)
    np.testing.assert_array_equal(found, expected)


def test_matrices_that_are_no_tasks_are_refused_by_name():
    learner = SparseMetaClassifier(**EPISODIC).fit(ROWS, Y)
    labels = np.tile([0, 1], (5, 7))
    with pytest.raises(InvalidInputError, match="Got 72 rows for 5 tasks; pass a list"):
        learner.predict_episodes(ROWS, labels, ROWS)
    uneven = [ROWS[:14], ROWS[:13], *[ROWS[:14]] * 3]
    with pytest.raises(InvalidInputError, match="as many rows and features each"):
        learner.predict_episodes(uneven, labels, uneven)
    with pytest.raises(ValueError, match="X has 8 features"):
        learner.predict(ROWS[:, :8])
    bad = ROWS.copy()
    bad.data[0] = np.nan
    with pytest.raises(InvalidInputError, match=r"Input X contains NaN.*SimpleImputer"):
        learner.fit(bad, Y)


def test_classes_are_added_to_sparse_support_rows(tmp_path):
    learner = SparseMetaClassifier(RidgeHead(), **EPISODIC).fit(ROWS, Y)
    expected = copy.copy(learner).adapt(DENSE[:36], Y[:36])
    rows = ROWS[:24].copy()
    learner.adapt(rows, Y[:24])
    rows.data[:] = 7.0  # the caller's, not the learner's
    learner.adapt(ROWS[24:36], Y[24:36], keep_classes=True)
    assert isinstance(learner.support_rows_, SparseRows)
    np.testing.assert_array_equal(np.asarray(learner.support_rows_), DENSE[:36])
    np.testing.assert_array_equal(learner.predict(ROWS), expected.predict(DENSE))
    learner.adapt(DENSE[36:48], Y[36:48], keep_classes=True)  # dense to sparse
    np.testing.assert_array_equal(np.asarray(learner.support_rows_), DENSE[:48])
    save(learner, tmp_path / "task.skcm")
    twin = load(tmp_path / "task.skcm")
    twin.adapt(ROWS[48:60], Y[48:60], keep_classes=True)
    assert twin.classes_.tolist() == [0, 1, 2, 3, 4]


HEADS = [
    GroupLassoSVC(),
    GroupLassoSVC(solver="newton", fit_intercept=True),
    GroupLassoSVCCV(group_regs=3, cv=2),
    GroupLassoLogistic(),
    PrototypeHead(),
    PrototypeHead("cosine"),
    RelaxedHead(),
    RelaxedHead(head=RidgeHead()),
    RidgeHead(),
    RidgeRegressionHead(),
    LassoHead(),
]


@pytest.mark.parametrize("head", HEADS, ids=repr)
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array])
def test_heads_answer_as_for_dense_rows(head, form, monkeypatch):
    # Of two rows a block.
    monkeypatch.setattr(_sparse_rows, "_BYTES_PER_BLOCK", 2 * DENSE[0].nbytes)
    expected = clone(head).fit(DENSE, Y)
    found = clone(head).fit(form(DENSE), Y)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-12)
    asked = form(DENSE)
    np.testing.assert_allclose(found.predict(asked), expected.predict(DENSE), atol=1e-9)
    for method in ("decision_function", "predict_proba"):
        if hasattr(head, method):
            one, other = getattr(found, method), getattr(expected, method)
            np.testing.assert_allclose(one(asked), other(DENSE), atol=1e-9)


def test_a_head_refuses_what_would_not_fit_dense(monkeypatch):
    monkeypatch.setattr(_sparse_rows, "_MOST_BYTES", DENSE.nbytes - 1)
    with pytest.raises(InvalidInputError, match=r"RidgeHead solves .*TruncatedSVD"):
        RidgeHead().fit(ROWS, Y)
    with pytest.raises(InvalidInputError, match=r"LassoHead solves .*shape \(72, 9\)"):
        LassoHead().fit(ROWS, Y)


def test_what_the_encoder_of_the_error_for_text_gives_is_taken():
    colours = RNG.choice(["red", "green", "blue"], size=(72, 3))
    colours[np.arange(72), Y % 3] = np.array(["ochre", "lime", "pink"])[Y // 2]
    head = RidgeHead()
    with pytest.raises(InvalidInputError, match="OneHotEncoder in a ColumnTransformer"):
        SparseMetaClassifier(head, **EPISODIC).fit(colours, Y)
    encoder = OneHotEncoder(handle_unknown="ignore")
    pipeline = make_meta_pipeline(encoder, SparseMetaClassifier(head, **EPISODIC))
    pipeline.fit(colours, Y)
    tasks, labels = colours.reshape(2, 36, 3), Y.reshape(2, 36)
    found = pipeline.predict_episodes(tasks, labels, tasks)
    pipeline.adapt(colours[:36], Y[:36])
    np.testing.assert_array_equal(found[0], pipeline.predict(colours[:36]))
    result = evaluate_few_shot(
        pipeline, colours, Y, n_way=2, n_shot=2, n_query=3, n_episodes=5
    )
    assert result.n_episodes == 5


def test_sparse_rows_go_through_the_steps_of_a_pipeline():
    pipeline = make_meta_pipeline(MaxAbsScaler(), SparseMetaClassifier(**EPISODIC))
    pipeline.fit(ROWS, Y)
    labels = Y.reshape(2, 36)
    whole = pipeline.predict_episodes(
        DENSE.reshape(2, 36, 9), labels, DENSE.reshape(2, 36, 9)
    )
    one = pipeline.predict_episodes(ROWS, labels, ROWS)
    listed = [ROWS[:36], ROWS[36:]]
    np.testing.assert_array_equal(one, whole)
    np.testing.assert_array_equal(
        pipeline.predict_episodes(listed, labels, listed), whole
    )
    with pytest.raises(InvalidInputError, match="for 5 tasks of y_support"):
        pipeline.predict_episodes(ROWS, np.tile([0, 1], (5, 3)), ROWS)


def test_words_are_classified_and_evaluated():
    words = ["ash", "birch", "cedar", "elm", "fir", "gorse"]
    texts = [f"{words[k]} {RNG.choice(words)} tree number {i}" for i, k in enumerate(Y)]
    X = TfidfVectorizer().fit_transform(texts)
    learner = SparseMetaClassifier(RidgeHead(), **EPISODIC).fit(X, Y)
    few = {"n_way": 2, "n_shot": 2, "n_query": 3, "n_episodes": 5, "random_state": 0}
    found = evaluate_few_shot(learner, X, Y, **few)
    np.testing.assert_array_equal(
        found.scores, evaluate_few_shot(learner, X.tocoo(), Y, **few).scores
    )
    np.testing.assert_array_equal(
        found.scores, evaluate_few_shot(learner, X.toarray(), Y, **few).scores
    )


@pytest.mark.slow
def test_a_large_matrix_is_learned_from_in_two_gigabytes():
    """10,000 rows of 50,000 columns, one in a thousand filled: 4 GB if dense."""
    program = """
        import resource
        import numpy as np
        import torch
        from scipy import sparse
        from skcausalmeta.backbones import MLP
        from skcausalmeta.heads import RidgeHead
        from skcausalmeta.learners import SparseMetaClassifier

        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        n, p, filled = 10_000, 50_000, 50
        y = np.arange(n) % 20
        # A class has words of its own, which half of the entries are.
        own = rng.integers(200, size=(n, filled // 2)) + 200 * y[:, None]
        words = np.concatenate([own, rng.integers(p, size=(n, filled // 2))], axis=1)
        rows = np.repeat(np.arange(n), filled)
        X = sparse.csr_array((rng.random(n * filled), (rows, words.ravel())), (n, p))
        learner = SparseMetaClassifier(
            RidgeHead(), backbone=MLP(hidden=(64,)), max_epochs=1,
            batches_per_epoch=20, verbose=0, random_state=0,
        )
        learner.fit(X, y)
        some = np.flatnonzero(y < 5)
        learner.adapt(X[some[:50]], y[some[:50]])
        found = learner.predict(X)
        tasks = [X[some[k * 50:(k + 1) * 50]] for k in range(40)]
        labels = y[some[:2_000]].reshape(40, 50)
        learner.predict_episodes(tasks, labels, tasks)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(peak, np.mean(found[some] == y[some]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
    )
    peak, score = map(float, done.stdout.split())
    assert peak < 1.5e9
    assert score > 0.5
