"""Text among numbers: what is said of it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoSVC, LassoHead, PrototypeHead, RelaxedHead
from skcausalmeta.learners import MTCRLClassifier, MTCRLRegressor, SparseMetaClassifier
from skcausalmeta.utils import saying_where_text_is

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 2)), np.arange(24) % 3
CITIES = np.array(["Bern", "Rome", "Oslo"])[np.arange(24) % 3]
TABLE = pd.DataFrame(X, columns=["a", "b"]).assign(city=CITIES)
CATEGORIES = TABLE.assign(city=pd.Categorical(CITIES))
SMALL = {"max_epochs": 1, "batches_per_epoch": 1, "tasks_per_batch": 1, "verbose": 0}


def text_in(rows, name="X"):
    """What is said of rows that cannot become numbers."""
    with (
        pytest.raises(ValueError, match=r"cannot|hold numbers") as caught,
        saying_where_text_is(rows, name),
    ):
        raise ValueError("cannot")
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ([[1.0, "red"]], "'red' in row 0, column 1"),
        (np.array([["1.5", "b"]]), "'b' in row 0, column 1"),
        (np.array([b"x"], dtype=object), "b'x' in row 0"),
        (TABLE, "'Bern' in row 0, column 'city'"),
        (CATEGORIES, "'Bern' in row 0, column 'city'"),
        (np.full((2, 2, 2), "a"), "'a' in row 0"),
    ],
)
def test_the_first_text_is_named(rows, place):
    assert text_in(rows, "rows").startswith(f"rows must hold numbers. Got {place};")


@pytest.mark.parametrize(
    "rows",
    [
        *(X, X.tolist(), [[1], [1, 2]], [["1.5"]], [[None]], [[]], None),
        pd.Series(["7", "8"]),
    ],
)
def test_other_errors_stay_what_they_are(rows):
    assert text_in(rows) == "cannot"


def test_nothing_is_said_without_an_error():
    with saying_where_text_is(TABLE):
        pass


@pytest.mark.parametrize(
    "estimator",
    [
        GroupLassoSVC(),
        RelaxedHead(),
        SparseMetaClassifier(**SMALL),
        MTCRLClassifier(max_epochs=1, verbose=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("table", [TABLE, CATEGORIES], ids=["text", "categories"])
def test_estimators_say_it_in_fit_and_in_predict(estimator, table):
    before = vars(estimator).copy()
    with pytest.raises(InvalidInputError, match="'Bern' in row 0, column 'city'"):
        estimator.fit(table, Y)
    assert vars(estimator) == before
    numbers = table.assign(city=Y)
    fitted = estimator.fit(numbers, Y)
    with pytest.raises(InvalidInputError, match="'Bern' in row 0, column 'city'"):
        fitted.predict(table)


def test_regression_heads_say_it_of_targets_too():
    with pytest.raises(InvalidInputError, match="'Bern' in row 0, column 'city'"):
        LassoHead().fit(TABLE, X[:, 0])
    with pytest.raises(InvalidInputError, match=r"y must hold numbers\. Got 'Bern'"):
        LassoHead().fit(X, CITIES.astype(object))
    with pytest.raises(InvalidInputError, match="'Bern' in row 0, column 'city'"):
        LassoHead().fit(TABLE.assign(city=Y), X[:, 0]).predict(TABLE)


def test_a_regression_of_many_tasks_says_it_too():
    learner = MTCRLRegressor(max_epochs=1, verbose=0)
    with pytest.raises(InvalidInputError, match=r"y of the regression task .*'Bern'"):
        learner.fit(X, CITIES.astype(object), tasks=np.arange(24) % 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((X + 1j).astype("c8"), r"Complex data not supported: .* Got complex64"),
        (np.ma.masked_less(X, -1.0), r"not be missing. Got \d+ masked ones; fill"),
        ([[1.0], [1.0, 2.0]] * 12, "must have one shape. Got 2 shapes"),
    ],
)
@pytest.mark.parametrize("head", [GroupLassoSVC(), RelaxedHead(), PrototypeHead()])
def test_heads_name_what_is_no_table_of_real_numbers(head, rows, message):
    with pytest.raises(InvalidInputError, match=message):
        head.fit(rows, Y)
    fitted = head.fit(X, Y)
    with pytest.raises(InvalidInputError, match=message):
        fitted.predict(rows)


@pytest.mark.parametrize("unit", ["datetime64[D]", "timedelta64[s]"])
def test_learners_refuse_dates_and_spans_of_time(unit):
    with pytest.raises(InvalidInputError, match=r"must hold numbers\. Got (date|time)"):
        SparseMetaClassifier(**SMALL).fit(np.ones((24, 2)).astype(int).astype(unit), Y)


def test_categories_that_are_numbers_are_numbers():
    table = TABLE.assign(city=pd.Categorical(Y))
    learner = SparseMetaClassifier(**SMALL, random_state=0).fit(table, Y)
    plain = SparseMetaClassifier(**SMALL, random_state=0).fit(TABLE.assign(city=Y), Y)
    np.testing.assert_array_equal(
        learner.decision_function(table), plain.decision_function(TABLE.assign(city=Y))
    )


def test_the_remedy_works():
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city"]), remainder="passthrough"
    )
    pipe = make_meta_pipeline(encoder, SparseMetaClassifier(**SMALL))
    assert pipe.fit(TABLE, Y).predict(TABLE).shape == (24,)
