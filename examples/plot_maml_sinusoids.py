"""
MAML on sinusoids
=================

A task is a sinusoid of its own size and phase, seen at ten points. MAML learns a
start from which a few gradient steps fit a new sinusoid; a net that knows all
sinusoids but not which rows belong together has only their mean to offer.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from skorch.callbacks import GradientNormClipping

from skcausalmeta.backbones import MLP
from skcausalmeta.inspection import AdaptationCurveDisplay
from skcausalmeta.learners import MAMLRegressor
from skcausalmeta.metrics import mean_confidence_interval

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_epochs, n_batches = (1, 3) if options.smoke else (6, 100)
n_episodes = 10 if options.smoke else 200

# %%
# Sinusoids
# ---------


def sinusoids(n_tasks, n_rows, seed):
    """Rows, targets and task ids of ``size * sin(x - phase)``."""
    rng = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(n_tasks), n_rows)
    x = rng.uniform(-5, 5, len(tasks))
    size, phase = rng.uniform(0.1, 5, n_tasks), rng.uniform(0, np.pi, n_tasks)
    return x[:, None], size[tasks] * np.sin(x - phase[tasks]), tasks


X, y, tasks = sinusoids(1000, 20, seed=0)
X_new, y_new, tasks_new = sinusoids(200, 30, seed=1)

# %%
# Two starts
# ----------
# The baseline is the same learner on the same rows with shuffled task ids: its
# support rows say nothing about its query rows, so it learns the mean of all
# sinusoids.

settings = {
    "backbone": MLP(hidden=(40,), out_features=40),
    "inner_steps": 5,
    "inner_lr": 0.02,
    "n_shot": 10,
    "n_query": 10,
    "tasks_per_batch": 16,
    "batches_per_epoch": n_batches,
    "max_epochs": n_epochs,
    "lr": 2e-3,
    "callbacks": [GradientNormClipping(10)],
    "fit_head": False,
    "verbose": 0,
    "random_state": 0,
}
learner = MAMLRegressor(**settings).fit(X, y, tasks=tasks)
shuffled = np.random.default_rng(0).permutation(tasks)
pooled = MAMLRegressor(**settings).fit(X, y, tasks=shuffled)

# %%
# Error against inner steps
# -------------------------
# Both walk on the same episodes. More steps than in training are allowed.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
for name, one in {"MAML": learner, "shuffled tasks": pooled}.items():
    display = AdaptationCurveDisplay.from_estimator(
        one,
        X_new,
        y_new,
        tasks=tasks_new,
        n_shot=10,
        n_query=20,
        n_episodes=n_episodes,
        n_steps=10,
        random_state=0,
        ax=left,
        name=name,
    )
    for step in (0, 1, 5, 10):
        mean, half_width = mean_confidence_interval(display.scores[:, step])
        print(f"{name}, {step:2d} steps: error {mean:.2f} +- {half_width:.2f}")

# %%
# One new sinusoid
# ----------------

rows = tasks_new == 3
known = np.flatnonzero(rows)[:10]
grid = np.linspace(-5, 5, 200)[:, None]
staged = learner.staged_predict_episodes(
    X_new[known][None], y_new[known][None], grid[None]
)  # (6, 1, 200)
for step in (0, 1, 5):
    right.plot(grid, staged[step, 0], label=f"{step} steps")
order = np.argsort(X_new[rows, 0])
right.plot(X_new[rows][order], y_new[rows][order], "k:", label="true")
right.plot(X_new[known], y_new[known], "ko", label="known")
right.legend()
figure.tight_layout()
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
