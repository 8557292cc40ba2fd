"""
Thousands of tasks, asked by id
===============================

Every school has its own small predictor: what all schools share, and the few columns
in which this one differs. ``adapt_tasks`` solves all of them in one call; they are kept
in a folder, asked by id, and solved anew when labels arrive.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skcausalmeta.datasets import fetch_school, make_shared_tasks
from skcausalmeta.inspection import DeviationDisplay, SupportDisplay
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.metrics import mean_confidence_interval
from skcausalmeta.tasks import open_tasks, report, save_tasks

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_old, n_new, n_epochs = (20, 50, 1) if options.smoke else (150, 5000, 10)
picture, (left, middle, right) = plt.subplots(1, 3, figsize=(18, 6))

# %%
# The schools of inner London
# ---------------------------
# Exam scores of the pupils of 139 schools. Where the file is not at hand, a table of
# the same shape takes its place.


def schools():
    """Rows, exam scores and schools."""
    try:
        pupils = fetch_school()
    except FileNotFoundError:
        pupils = make_shared_tasks(
            139, 60, 27, n_classes=None, n_deviating=2, random_state=0
        )
    chosen = pupils.tasks < (30 if options.smoke else 139)
    return pupils.data[chosen], pupils.target[chosen], pupils.tasks[chosen]


X, y, tasks = schools()
rng = np.random.default_rng(0)
names = np.unique(tasks)
seen = np.isin(tasks, rng.choice(names, len(names) // 2, replace=False))
learner = SparseMetaRegressor(
    backbone="identity", max_epochs=n_epochs, verbose=0, random_state=0
)
learner.fit(X[seen], y[seen], tasks=tasks[seen])

# %%
# The other schools are new. Half of their pupils have a score already, the others are
# asked.

labelled = ~seen & (rng.random(len(seen)) < 0.5)
asked = ~seen & ~labelled
solved = learner.adapt_tasks(X[labelled], y[labelled], tasks[labelled])
print(solved.summary())
error = np.mean((learner.predict(X[asked]) - y[asked]) ** 2)
own_error = np.mean((solved.predict(X[asked], tasks[asked]) - y[asked]) ** 2)
spread = np.var(y[asked])
print(f"variance explained by what is common: {1 - error / spread:.3f}")
print(f"variance explained by their own predictors: {1 - own_error / spread:.3f}")
SupportDisplay.from_solved(solved, solved.ids_[:30], sort=True, ax=left)
DeviationDisplay.from_solved(solved, solved.ids_[:30], ax=middle)

# %%
# Learn from some schools of many
# -------------------------------
# Of a generated table of thousands of schools, twenty columns describe a pupil; the
# label tells who has passed.

data = make_shared_tasks(
    n_old + n_new, 60, 20, n_deviating=2, class_sep=3.0, random_state=0
)
old = data.tasks < n_old
learner = SparseMetaClassifier(
    backbone="identity", max_epochs=n_epochs, verbose=0, random_state=0
)
learner.fit(data.data[old], data.target[old], tasks=data.tasks[old])

# %%
# All other schools in one call
# -----------------------------
# Half of the rows are labelled, the others are asked.

few = ~old & (rng.random(len(old)) < 0.5)
asked = ~old & ~few
solved = learner.adapt_tasks(data.data[few], data.target[few], data.tasks[few])
print(solved.summary())
print(solved.to_frame().head())
rows, ids = data.data[asked], data.tasks[asked]
counts = np.bincount(ids)[n_old:]
for name, found in {
    "what is common": learner.predict(rows),
    "their own predictor": solved.predict(rows, ids),
}.items():
    hits = np.bincount(ids, found == data.target[asked])[n_old:]
    mean, half = mean_confidence_interval(hits / counts)
    print(f"accuracy of the schools by {name}: {mean:.3f} +- {half:.3f}")

# %%
# A folder of predictors
# ----------------------
# A school is a few numbers.

folder = Path(tempfile.mkdtemp()) / "schools"
save_tasks(solved, folder)
n_bytes = sum(file.stat().st_size for file in folder.glob("part-*"))
print(f"{n_bytes / len(solved):.0f} bytes a school")
stored = open_tasks(folder)
school = int(stored.ids_[0])
rows = data.tasks == school
print(stored.predict(data.data[rows][:5], data.tasks[rows][:5]))

# %%
# When labels arrive, the schools that have new ones are solved anew; the others stay.

stored.update(data.data[rows], data.target[rows], data.tasks[rows])
print(stored.to_frame([school]).loc[school])

# %%
# A page about all of them
# ------------------------
# The columns in which most schools differ, schools that differ alike, and those that
# differ most.

print(report(stored, folder / "schools.md", n_groups=4).read_text())

# %%
# What differs where
# ------------------

DeviationDisplay.from_solved(stored, stored.ids_[:30], ax=right)
if options.output:
    picture.savefig(options.output, bbox_inches="tight")
else:
    plt.show()
