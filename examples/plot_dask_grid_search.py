"""
Grid search on a Dask cluster, from a file
==========================================

Candidates and folds of a grid search do not depend on each other, so that they can
run anywhere. scikit-learn hands them to joblib, and joblib to Dask: two processes on
this machine here, and as many machines as there are once ``LocalCluster`` is replaced
by the address of a scheduler. The rows stay in a file: `RowsOnDisk` sends its name to
the workers, and every learner reads the rows of its episodes.
"""

import argparse
import tempfile
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.model_selection import ClassKFold, few_shot_scorer
from skcausalmeta.utils import RowsOnDisk

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
grid = [0.1, 0.5] if options.smoke else [0.05, 0.2, 0.4, 0.6]
n_batches, n_episodes = (2, 5) if options.smoke else (30, 50)


def timed_search(search, X, y):
    """Fit a copy of the search; the copy and its seconds."""
    begin = time.perf_counter()
    found = clone(search).fit(X, y)
    return found, time.perf_counter() - begin


# %%
# The search
# ----------
# Nothing in it knows of Dask.

X, y = load_digits(return_X_y=True)
search = GridSearchCV(
    SparseMetaClassifier(
        backbone="mlp",
        n_way=3,
        n_shot=5,
        max_epochs=1,
        batches_per_epoch=n_batches,
        fit_head=False,
        verbose=0,
        random_state=0,
    ),
    {"head__group_reg": grid},
    cv=ClassKFold(2),
    scoring=few_shot_scorer(n_way=3, n_shot=5, n_episodes=n_episodes),
    refit=False,
)

# %%
# The same on two workers
# -----------------------
# One thread each: the learners would compete for cores otherwise. Seeds are numbers,
# so the answer is the same to the last bit.


def on_dask():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, X)
        rows = RowsOnDisk(np.load(path, mmap_mode="r"))
        workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**workers) as cluster, Client(cluster) as client:
            client.run(__import__, "skcausalmeta.learners")  # imports are not timed
            with joblib.parallel_config(backend="dask"):
                return timed_search(search, rows, y)


if __name__ == "__main__":  # the workers import this file, and must not search
    serial, seconds = timed_search(search, X, y)
    shared, shared_seconds = on_dask()
    name = "mean_test_score"
    same = np.array_equal(shared.cv_results_[name], serial.cv_results_[name])
    print(f"{len(grid)} candidates x 2 folds; equal scores: {same}")
    print(f"{'engine':>16} {'seconds':>9}   accuracy of the best, +- over folds")
    for engine, found, spent in (
        ("one process", serial, seconds),
        ("Dask, 2 workers", shared, shared_seconds),
    ):
        best = found.best_index_
        mean = 100 * found.cv_results_[name][best]
        spread = 100 * found.cv_results_["std_test_score"][best]
        print(f"{engine:>16} {spent:9.1f}   {mean:.1f}% +- {spread:.1f}%")

    figure, axes = plt.subplots(figsize=(6, 4))
    for found, style, label in (
        (serial, "o-", "one process"),
        (shared, "x--", "Dask, 2 workers"),
    ):
        axes.plot(grid, 100 * found.cv_results_[name], style, label=label)
    axes.set(
        xlabel="group_reg, 1 switches every feature off",
        ylabel="accuracy on held-out classes, %",
        title=f"{seconds:.1f} s in one process, {shared_seconds:.1f} s on two workers",
    )
    axes.legend()
    if options.output:
        figure.savefig(options.output)
    else:
        plt.show()
