"""Tables as they come: missing values, categories and text, of pandas and polars."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import MTCRLClassifier, SparseMetaClassifier
from skcausalmeta.model_selection import evaluate_few_shot

SHORT = {"max_epochs": 1, "verbose": 0, "random_state": 0}
NUMBERS, WORDS = ["age", "dose"], ["site", "kind"]


def table(seed=0):
    """Rows of six classes; a fifth of the numbers and of the words is missing."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(6), 20)
    frame = pd.DataFrame(
        {
            "age": rng.normal(size=120) + 3 * (y % 3),
            "site": np.array(["north", "south", "east"])[y % 3],
            "dose": rng.normal(size=120) + 3 * (y // 3),
            "kind": np.array(["acute", "chronic"])[y // 3],
        }
    )
    for name in frame.columns:
        frame.loc[rng.random(120) < 0.2, name] = None
    return frame, y


def prepared(sparse):
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="unknown", missing_values=None),
        OneHotEncoder(handle_unknown="ignore", sparse_output=sparse),
    )
    columns = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("words", words, WORDS)],
        sparse_threshold=1.0 if sparse else 0.0,
    )
    learner = SparseMetaClassifier(
        RidgeHead(), batches_per_epoch=2, n_way=3, fit_head=True, **SHORT
    )
    return make_meta_pipeline(columns, learner)


def as_given(frame, library):
    frame = frame.astype(dict.fromkeys(WORDS, object))
    frame[WORDS] = frame[WORDS].where(frame[WORDS].notna(), None)
    if library == "polars":
        return pl.DataFrame(
            {name: frame[name].to_list() for name in frame.columns}
        ).with_columns(pl.col(NUMBERS).fill_nan(None))
    return frame


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_column_transformer_before_the_learner_works(library, sparse):
    frame, y = table()
    X = as_given(frame, library)
    pipeline = prepared(sparse).fit(X, y)
    some = np.flatnonzero(y < 3)
    few = X[some.tolist()] if library == "polars" else X.iloc[some]
    pipeline.adapt(few, y[some])
    assert pipeline.score(few, y[some]) > 0.7
    result = evaluate_few_shot(
        pipeline, X, y, n_way=3, n_shot=5, n_query=5, n_episodes=10, random_state=0
    )
    assert result.mean > 0.6
    halves = np.split(np.random.default_rng(1).permutation(120), 2)
    tasks = [X[h.tolist()] if library == "polars" else X.iloc[h] for h in halves]
    labels = np.stack([y[half] for half in halves])
    found = pipeline.predict_episodes(tasks, labels, tasks)
    expected = pipeline.adapt(tasks[0], labels[0]).predict(tasks[0])
    np.testing.assert_array_equal(found[0], expected)


def test_tasks_of_frames_must_agree_in_length():
    frame, y = table()
    X = as_given(frame, "pandas")
    pipeline = prepared(False).fit(X, y)
    with pytest.raises(InvalidInputError, match=r"as many rows\. Got \[20, 30\]"):
        pipeline.predict_episodes([X[:20], X[:30]], [y[:20], y[:20]], [X[:5], X[:5]])


@pytest.mark.parametrize("learner", [SparseMetaClassifier(**SHORT), MTCRLClassifier()])
def test_without_it_the_error_names_it(learner):
    frame, y = table()
    with pytest.raises(InvalidInputError, match=r"Input X contains NaN.*SimpleImputer"):
        learner.fit(frame[NUMBERS], y)
    with pytest.raises(
        InvalidInputError, match=r"ColumnTransformer.*make_meta_pipeline"
    ):
        learner.fit(frame[NUMBERS], y)
    words = frame[WORDS].fillna("unknown")
    message = (
        r"Got 'unknown' in row 0, column 'site'.*OneHotEncoder in a ColumnTransformer"
    )
    with pytest.raises(InvalidInputError, match=message):
        learner.fit(words, y)
    with pytest.raises(InvalidInputError, match=message):
        learner.fit(words.astype("category"), y)


def test_columns_are_chosen_by_their_type():
    frame, y = table()
    chosen = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), make_column_selector(dtype_include="number")),
            (
                "words",
                OneHotEncoder(handle_unknown="ignore"),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    )
    learner = SparseMetaClassifier(RidgeHead(), batches_per_epoch=2, **SHORT)
    pipeline = make_meta_pipeline(chosen, learner).fit(frame, y)
    strange = frame.assign(site="elsewhere")  # unseen in fit
    assert pipeline.predict(strange).shape == (120,)
