"""
A backbone of your own
======================

``backbone=`` takes a `torch.nn.Module`, or a class or function that returns one.
Here the rows are signals of a sensor: a class is a pair of frequencies, the phases
are random. A small one-dimensional convolutional net learns features from 30
classes; new classes are then told apart from three signals each.
"""

import argparse
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import paired_difference
from skcausalmeta.model_selection import evaluate_few_shot

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_epochs, n_episodes = (1, 5) if options.smoke else (10, 200)

# %%
# Signals
# -------


def signals(n_classes, seed):
    """Rows (n_classes * 20, 64) and their classes."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), 20)
    frequencies = rng.uniform(1, 12, (n_classes, 2))[y]
    phases = rng.uniform(0, 2 * np.pi, (len(y), 2))
    times = np.linspace(0, 1, 64)
    waves = np.sin(2 * np.pi * frequencies[..., None] * times + phases[..., None])
    return waves.sum(axis=1) + 0.3 * rng.standard_normal((len(y), 64)), y


X, y = signals(30, seed=0)
X_new, y_new = signals(20, seed=1)

# %%
# The module
# ----------
# It maps (n, 64) to (n, n_features). A class or function is called in a random state
# of its own, so that ``clone`` and ``random_state`` do what they promise;
# ``functools.partial`` gives it parameters.


class SignalNet(nn.Module):
    """Energies of learned filters, which do not depend on the phase."""

    def __init__(self, n_filters=32):
        super().__init__()
        self.filters = nn.Conv1d(1, 2 * n_filters, kernel_size=31)

    def forward(self, rows):
        waves = self.filters(rows[:, None])  # (n, 2 n_filters, time)
        return torch.log1p(waves.square().mean(dim=2))


learner = SparseMetaClassifier(
    backbone=partial(SignalNet, n_filters=24),
    n_way=5,
    n_shot=3,
    max_epochs=n_epochs,
    lr=1e-2,
    verbose=0,
    random_state=0,
).fit(X, y)

# %%
# New classes
# -----------
# The same random state gives both contenders the same episodes.

results = {
    name: evaluate_few_shot(
        estimator, X_new, y_new, n_shot=3, n_episodes=n_episodes, random_state=0
    )
    for name, estimator in {
        "own backbone": learner,
        "nearest neighbour": KNeighborsClassifier(1),
    }.items()
}
for name, result in results.items():
    print(f"{name}: {result}")
gain, half_width = paired_difference(*(r.scores for r in results.values()))
print(f"difference: {100 * gain:.1f} +- {100 * half_width:.1f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
for row in np.flatnonzero(y_new < 2)[::10]:
    left.plot(X_new[row] + 5 * y_new[row], color=f"C{y_new[row]}")
left.set(xlabel="time", title="two signals of two new classes each", yticks=[])
right.bar(
    list(results),
    [100 * result.mean for result in results.values()],
    yerr=[100 * result.half_width for result in results.values()],
    capsize=5,
)
right.axhline(20, color="grey", linestyle=":")
right.set(ylabel="accuracy, %", title="5-way 3-shot, 95% intervals")
figure.tight_layout()
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
