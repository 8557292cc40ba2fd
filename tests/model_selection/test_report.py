"""The HTML report against the evaluation it shows."""

from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB

from skcausalmeta import GroupLassoSVC
from skcausalmeta.exceptions import EpisodeError
from skcausalmeta.model_selection import FewShotReport, evaluate_few_shot

SIZES = {"n_way": 2, "n_shot": 3, "n_query": 5, "n_episodes": 8, "random_state": 0}


class Reader(HTMLParser):
    """Text of the page, and whether every tag that was opened was closed."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        assert tag != "script"
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return "|".join(reader.text)


def named_iris():
    X, y = load_iris(return_X_y=True)
    return X, np.array(["<setosa>", "versicolor", "virginica"])[y]


def test_report_shows_what_the_evaluation_finds(tmp_path):
    X, y = named_iris()
    head = GroupLassoSVC(group_reg=0.2, fit_intercept=True)
    report = FewShotReport.from_estimator(head, X, y, **SIZES)
    result = evaluate_few_shot(head, X, y, **SIZES)
    np.testing.assert_array_equal(report.result.scores, result.scores)
    assert report.confusion.sum() == 8 * 2 * 5
    assert np.trace(report.confusion) == pytest.approx(80 * result.mean)
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == report._repr_html_()
    text = read(page)
    for expected in (str(result), "group_reg|0.2", "<setosa>", "Duality gap, powers"):
        assert expected in text
    assert "<setosa>" not in page  # escaped
    assert "calibration" not in text


def test_facts_that_a_classifier_lacks_are_left_out():
    report = FewShotReport.from_estimator(
        GaussianNB(), *named_iris(), calibration=True, **SIZES
    )
    text = read(report.to_html())
    assert f"{report.result.calibration_error:.3f}" in text
    assert "Duality gap" not in text
    assert "unused" not in text


def test_confusions_count_true_and_predicted_classes():
    class Always(GaussianNB):
        def predict(self, X):
            return np.full(len(X), self.classes_[0])

    X, y = named_iris()
    report = FewShotReport.from_estimator(Always(), X, y, **SIZES)
    # "<setosa>" sorts first and is never taken for another class.
    assert report.confusion[:, 2].sum() == 0
    assert report.confusion[0, 0] == report.confusion[0].sum()
    assert report.confusion[2, :2].sum() > 0


def test_episodes_that_cannot_be_drawn_are_refused():
    with pytest.raises(EpisodeError, match="n_way"):
        FewShotReport.from_estimator(GaussianNB(), *named_iris(), n_way=4)
