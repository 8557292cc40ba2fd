"""
When MAML cannot adapt fast, and what helps
===========================================

Tasks are linear regressions of two inputs on very different scales. One weight
vector is all that a task needs, but a gradient step cannot suit both directions:
MAML on the linear model adapts slowly. Extra linear layers (the same functions) or a
learned transform of the gradient (KFO) repair it, as Arnold et al. (2021) found.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np

from skcausalmeta.inspection import LossSurfaceDisplay
from skcausalmeta.learners import MAMLRegressor
from skcausalmeta.metrics import mean_confidence_interval

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_epochs = 1 if options.smoke else 4
n_batches = 3 if options.smoke else 100

# %%
# Tasks
# -----
# The standard deviations of the inputs are 2 and 0.3; both matter as much.

SCALES = np.array([2.0, 0.3])


def linear_tasks(n_tasks, seed):
    """Rows (n_tasks, 60, 2) and targets (n_tasks, 60)."""
    rng = np.random.default_rng(seed)
    X = SCALES * rng.standard_normal((n_tasks, 60, 2))
    weights = rng.standard_normal((n_tasks, 2, 1)) / SCALES[:, None]
    return X, (X @ weights)[..., 0]


X, y = linear_tasks(300, seed=0)
X_new, y_new = linear_tasks(200, seed=1)
tasks = np.repeat(np.arange(len(X)), X.shape[1])

# %%
# Three learners, the same budget
# -------------------------------

contenders = {
    "MAML": {},
    "MAML, 3 linear layers": {"net_params": {"linear_layers": 3}},
    "KFO": {"update": "kfo"},
}
learners = {
    name: MAMLRegressor(
        backbone="identity",
        inner_steps=1,
        inner_lr=0.1,
        n_shot=40,
        n_query=20,
        tasks_per_batch=16,
        batches_per_epoch=n_batches,
        max_epochs=n_epochs,
        lr=2e-2,
        normalize_targets=False,
        fit_head=False,
        verbose=0,
        random_state=0,
        **params,
    ).fit(X.reshape(-1, 2), y.ravel(), tasks=tasks)
    for name, params in contenders.items()
}

# %%
# New tasks
# ---------

for name, learner in learners.items():
    staged = learner.staged_predict_episodes(X_new[:, :40], y_new[:, :40], X_new)
    errors = np.square(staged - y_new)[..., 40:].mean(axis=2)
    before, after = errors[0].mean(), mean_confidence_interval(errors[-1])
    print(
        f"{name}: error {before:.2f}, after one step {after[0]:.3f} +- {after[1]:.3f}"
    )

# %%
# Paths on the loss of one task
# -----------------------------
# Left: plain gradient descent from one point, on models of several depths. Right:
# the steps of the meta-trained learners.

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5))
LossSurfaceDisplay.from_data(
    X_new[0, :40], y_new[0, :40], depths=(1, 2, 3), n_steps=20, lr=0.05, ax=left
)
left.set_title("gradient descent, 20 steps")
LossSurfaceDisplay.from_estimator(learners, X_new[0, :40], y_new[0, :40], ax=right)
right.set_title("meta-trained, one step")
figure.tight_layout()
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
