"""The page about solved tasks."""

from html.parser import HTMLParser

import numpy as np
import pandas
import pytest

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import (
    HeadBlock,
    MAMLClassifier,
    SolvedTasks,
    SparseMetaClassifier,
)
from skcausalmeta.tasks import report, save_tasks
from tests.tasks.test_stored_tasks import SMALL, table

NAMES = ["age", "a|b", "<b>", "income", "x_y", "rate"]


@pytest.fixture(scope="module")
def learner():
    X, y, tasks = table()
    learner = SparseMetaClassifier(common="linear", **SMALL)
    return learner.fit(pandas.DataFrame(X, columns=NAMES), y, tasks=tasks)


@pytest.fixture
def solved(learner):
    """Three tasks differ in age, the last two of these most; one in nothing."""
    weights = np.array([0.1, 2.0, -4.0, 0.5])
    block = HeadBlock(
        ids=np.array(["low", "high|", "<i>most</i>", "other", "none"]),
        n_labels=np.array([5, 6, 7, 8, 1000]),
        begins=np.array([0, 1, 2, 3, 4, 4]),
        columns=np.array([0, 0, 0, 2], dtype=np.int32),
        values=np.stack([-weights, weights], axis=1) / 2,
        intercepts=np.zeros((5, 2)),
        gaps=np.array([1e-9, 2e-9, 3e-9, 4e-9, 7.1e-4]),
        width=6,
        flat=False,
    )
    failed = {f"bad {k}": "Input X contains NaN." for k in range(3)}
    return SolvedTasks(learner, [block], {**failed, "worse": "Got label <7>."})


class Cells(HTMLParser):
    """Rows of all tables."""

    def __init__(self):
        super().__init__()
        self.rows, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":  # which has no end
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_page_tells_what_tasks_are(solved, tmp_path):
    found = Cells()
    page = report(solved, tmp_path / "tasks.html", n_groups=3).read_text()
    found.feed(page)
    rows = found.rows
    assert "5 tasks of SparseMetaClassifier are solved, 4 were left out." in page
    assert ["labels of a task", "5", "7", "603", "1000"] in rows
    assert rows[3][0].startswith("certificate")
    assert rows[3][-1] == "7.1e-04"
    assert ["3", "bad 0", "Input X contains NaN."] in rows
    assert ["1", "worse", "Got label <7>."] in rows
    columns = [row for row in rows if row[0] in NAMES and len(row) == 4]
    assert columns == [
        ["age", "3", "60.0%", f"{6.1 / 6:.3g}"],
        ["<b>", "1", "20.0%", "0.25"],
    ]
    groups = [row for row in rows if len(row) == 3 and row[2] in solved]
    assert sorted(row[:2] for row in groups) == [
        ["<b>", "1"],
        ["age", "1"],  # more of it where others have less
        ["age", "2"],
        ["nothing", "1"],
    ]
    norms = [row[:2] for row in rows if len(row) == 3 and row[0] in solved]
    size = np.sqrt(2) / 2
    assert norms[:2] == [
        ["<i>most</i>", f"{4 * size:.3g}"],
        ["high|", f"{2 * size:.3g}"],
    ]


def test_page_of_text_has_the_same_cells(solved, tmp_path):
    text = report(solved, tmp_path / "tasks.md", n_rows=2).read_text()
    assert "5 tasks of SparseMetaClassifier are solved" in text
    assert r"| \<b\> | 1 | 20.0% | 0.25 |" in text
    assert r"| high\| | 1.41 | age (1) |" in text
    assert r"Got label \<7\>." in text


def test_page_of_a_folder_and_of_a_net(learner, tmp_path):
    X, y, tasks = table(seed=1, n_tasks=4)
    frame = pandas.DataFrame(X, columns=NAMES)
    stored = save_tasks(learner.adapt_tasks(frame, y, tasks), tmp_path / "store")
    assert "4 tasks" in report(stored, tmp_path / "stored.md").read_text()
    net = MAMLClassifier(**{**SMALL, "backbone": "mlp"}).fit(X, y, tasks=tasks)
    text = report(net.adapt_tasks(X, y, tasks), tmp_path / "net.md").read_text()
    assert "4 tasks of MAMLClassifier" in text
    assert "What differs" not in text
    nothing = SolvedTasks(learner, [], {1: "why"})
    assert "0 tasks" in report(nothing, tmp_path / "nothing.html").read_text()


def test_wrong_pages_are_refused(solved, tmp_path):
    with pytest.raises(InvalidInputError, match=r"\.html or \.md"):
        report(solved, tmp_path / "tasks.pdf")
    with pytest.raises(InvalidInputError, match="n_groups"):
        report(solved, tmp_path / "tasks.md", n_groups=0)
    assert not list(tmp_path.iterdir())


def test_facts_of_some_tasks_come_in_their_order(solved):
    assert solved.to_frame(["none", "low"])["n_labels"].tolist() == [1000, 5]
    with pytest.raises(InvalidInputError, match="nobody"):
        solved.to_frame(["nobody"])
