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

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.inspection import DeviationDisplay
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import mean_confidence_interval
from skcausalmeta.tasks import open_tasks, save_tasks

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_old, n_new, n_epochs = (20, 50, 1) if options.smoke else (150, 5000, 10)

# %%
# Learn from some schools
# -----------------------
# Twenty columns describe a pupil; the label tells who has passed.

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

rng = np.random.default_rng(0)
few = ~old & (rng.random(len(old)) < 0.5)
asked = ~old & ~few
solved = learner.adapt_tasks(data.data[few], data.target[few], data.tasks[few])
print(solved.summary())
print(solved.to_frame().head())
rows, schools = data.data[asked], data.tasks[asked]
counts = np.bincount(schools)[n_old:]
for name, found in {
    "what is common": learner.predict(rows),
    "their own predictor": solved.predict(rows, schools),
}.items():
    right = np.bincount(schools, found == data.target[asked])[n_old:]
    mean, half = mean_confidence_interval(right / counts)
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
print(stored.to_frame().loc[school])

# %%
# What differs where
# ------------------

DeviationDisplay.from_solved(stored, stored.ids_[:30])
if options.output:
    plt.savefig(options.output, bbox_inches="tight")
else:
    plt.show()
