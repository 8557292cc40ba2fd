"""
Heads compared on digits
========================

Every head is a base-predictor: a convex problem (or class means) solved on the
support rows of a task. The same backbone is trained under six of them, and new
digits are told apart from five labels each. All accuracies are on the same
episodes.
"""

import argparse

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skcausalmeta.backbones import Conv4
from skcausalmeta.datasets import add_rotated_classes
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
)
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.model_selection import evaluate_few_shot

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_batches, n_episodes = (2, 5) if options.smoke else (20, 100)

# %%
# Data
# ----
# Rotated images serve as further classes to learn from.

images, y = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 8, 8)
X_old, y_old = add_rotated_classes(images[y < 6], y[y < 6])

# %%
# Train under each head
# ---------------------

heads = {
    "GroupLassoSVC": GroupLassoSVC(0.2, solver="auto"),
    "GroupLassoSVC, no Lasso": GroupLassoSVC(0.0, solver="auto"),
    "GroupLassoLogistic": GroupLassoLogistic(0.2),
    "RidgeHead": RidgeHead(),
    "PrototypeHead": PrototypeHead(),
    "RelaxedHead": RelaxedHead(GroupLassoSVC(0.2, solver="auto")),
}
results = {}
for name, head in heads.items():
    learner = SparseMetaClassifier(
        head,
        backbone=Conv4(n_blocks=1, n_filters=16),
        max_epochs=1,
        batches_per_epoch=n_batches,
        fit_head=False,
        verbose=0,
        random_state=0,
    ).fit(X_old, y_old)
    results[name] = evaluate_few_shot(
        learner,
        images[y >= 6],
        y[y >= 6],
        n_way=4,
        n_episodes=n_episodes,
        random_state=0,
    )
    used = 1 - results[name].sparsity
    print(f"{name}: {results[name]}, {100 * used:.0f}% of the features")

# %%
# Accuracy against features in use
# --------------------------------

figure, axes = plt.subplots(figsize=(7, 4.5))
for name, result in results.items():
    axes.errorbar(
        100 * (1 - result.sparsity),
        100 * result.mean,
        100 * result.half_width,
        marker="o",
        capsize=4,
        label=name,
    )
axes.set(
    xlabel="features in use, %",
    ylabel="accuracy, %",
    title="digits 6 to 9, 4-way 5-shot, 95% intervals",
    xlim=(0, 105),
)
axes.legend(fontsize=8)
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
