"""
Scenes that are drawn from six factors
======================================

`make_sparse_tasks` with ``mixing="shapes3d"`` renders a room with one object from
six factors: three hues, scale, shape and orientation. A small encoder is trained for
seconds on sparse regression tasks, which is too short to disentangle all factors;
what each code follows is seen by moving one factor at a time.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np

from skcausalmeta.backbones import MLP
from skcausalmeta.datasets import make_sparse_tasks
from skcausalmeta.inspection import LatentTraversalDisplay
from skcausalmeta.learners import SparseMetaRegressor
from skcausalmeta.metrics import mean_confidence_interval, mean_corr_coef, r_score

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_tasks, size, n_epochs, n_batches = (
    (20, 8, 1, 2) if options.smoke else (150, 16, 4, 50)
)
FACTORS = ["floor hue", "wall hue", "object hue", "scale", "shape", "orientation"]

# %%
# Tasks on pictures
# -----------------
# A task is a regression on about half of the factors; the learner sees pixels only.

bunch = make_sparse_tasks(
    n_tasks, 50, correlation=0.5, mixing="shapes3d", size=size, random_state=0
)
learner = SparseMetaRegressor(
    backbone=MLP(hidden=(128,), out_features=6),
    split="none",
    lr=3e-3,
    max_epochs=n_epochs,
    batches_per_epoch=n_batches,
    net_params={"micro_batch": 8},
    verbose=0,
    random_state=0,
)
X = bunch.data.astype(np.float32) / 255
learner.fit(X, bunch.target, tasks=bunch.tasks)

# %%
# How much of the factors the codes hold
# --------------------------------------
# On fresh scenes with independent factors.

latents = bunch.mixing.draw_latents(500, random_state=1)
codes = learner.transform(bunch.mixing(latents).astype(np.float32) / 255)
best = np.abs(np.corrcoef(latents.T, codes.T)[:6, 6:]).max(axis=1)
mean, half_width = mean_confidence_interval(best)
print(f"MCC {mean_corr_coef(latents, codes):.2f}, R {r_score(latents, codes):.2f}")
print(f"best code of a factor: correlation {mean:.2f} +- {half_width:.2f}")

# %%
# One factor at a time
# --------------------
# Above the pictures, below the codes: a panel is the factor that moves.

figure = plt.figure(figsize=(9, 9))
top, bottom = figure.subplots(2, 1, height_ratios=(1.1, 1))


def mixing(rows):
    """Pictures between 0 and 1, as the learner was given."""
    return bunch.mixing(rows).astype(np.float32) / 255


display = LatentTraversalDisplay.from_estimator(
    learner, mixing, base=np.zeros(6), factor_names=FACTORS, ax=bottom
)
display.plot(ax=top, kind="images")
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
