"""
Correlated factors, disentangled by sparse tasks
================================================

Six factors with pairwise correlation 0.9 are mixed by an unknown matrix. Every task
depends on about half of them. Codes on which *sparse* regressions solve the tasks
become the factors, up to order and scale; codes for dense (ridge) regressions
solve the tasks as well but mix the factors.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

from skcausalmeta.backbones import MLP
from skcausalmeta.datasets import make_sparse_tasks
from skcausalmeta.heads import LassoHead, RidgeHead
from skcausalmeta.inspection import LatentCorrelationDisplay, SupportDisplay
from skcausalmeta.learners import SparseMetaRegressor
from skcausalmeta.metrics import mean_confidence_interval

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_tasks, n_epochs, n_batches = (40, 1, 2) if options.smoke else (500, 10, 50)

# %%
# Tasks
# -----
# Whitening gives all directions the same variance, so that none is slow to learn.

bunch = make_sparse_tasks(n_tasks, correlation=0.9, random_state=0)
whitening = PCA(6, whiten=True).fit(bunch.data)
X = whitening.transform(bunch.data)

# %%
# Two learners
# ------------
# The only difference is the inner problem.


def learn(head):
    """Codes for the given head; all rows of a task are support and query."""
    learner = SparseMetaRegressor(
        head,
        backbone=MLP(hidden=(), out_features=6, standardize=False),
        split="none",
        lr=0.03,
        max_epochs=n_epochs,
        batches_per_epoch=n_batches,
        net_params={"micro_batch": 8},
        verbose=0,
        random_state=0,
    )
    return learner.fit(X, bunch.target, tasks=bunch.tasks)


sparse, dense = learn(LassoHead(0.3)), learn(RidgeHead(1e-7))

# %%
# Judged on uniform factors
# -------------------------
# The codes are compared with the factors where these are independent, which was
# never the case in training.

factors = bunch.mixing.draw_latents(2000, random_state=1)
rows = whitening.transform(bunch.mixing(factors))
figure, axes = plt.subplots(2, 2, figsize=(11, 8))
for panel, (name, learner) in zip(
    axes[0], {"Lasso": sparse, "ridge": dense}.items(), strict=True
):
    display = LatentCorrelationDisplay.from_estimator(learner, rows, factors, ax=panel)
    best = np.abs(display.correlation).max(axis=1)
    mean, half_width = mean_confidence_interval(best)
    print(f"{name}: MCC {display.score:.3f}")
    print(f"  best correlation, mean of the factors: {mean:.3f} +- {half_width:.3f}")
    panel.set_title(f"inner {name}, {panel.get_title()}")

# %%
# Which codes a task uses
# -----------------------
# With the true supports beside them. The sparse heads leave out what a task does not
# need, and at this strength, with factors that are so alike, some that it does; the
# dense heads use everything.

for panel, (name, learner) in zip(
    axes[1], {"Lasso": sparse, "ridge": dense}.items(), strict=True
):
    SupportDisplay.from_arrays(
        learner.task_coef_[:30], truth=bunch.supports[:30], ax=panel
    )
    panel.set_title(f"inner {name}, {panel.get_title()}")
axes[1, 0].get_legend().remove()
figure.tight_layout()
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
