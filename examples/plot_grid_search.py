"""
Grid search on classes that were held out
=========================================

How sparse should the heads be? `ClassKFold` holds out whole classes and
`few_shot_scorer` adapts to episodes of them, so that scikit-learn's
`GridSearchCV` answers the question that matters: how well does the learner do on
classes that it has not seen?
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skcausalmeta.backbones import MLP
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot, few_shot_scorer

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
grid = [0.1, 0.5] if options.smoke else [0.05, 0.2, 0.4, 0.6, 0.8]
n_batches, n_episodes = (2, 5) if options.smoke else (20, 50)

# %%
# The search
# ----------
# The digits 7, 8 and 9 are kept for the end; the search sees the others.

X, y = load_digits(return_X_y=True)
learner = SparseMetaClassifier(
    backbone=MLP(hidden=(64,), out_features=32),
    n_way=3,
    n_shot=5,
    max_epochs=1,
    batches_per_epoch=n_batches,
    fit_head=False,
    verbose=0,
    random_state=0,
)
search = GridSearchCV(
    learner,
    {"head__group_reg": grid},
    cv=ClassKFold(2),
    scoring=few_shot_scorer(n_way=3, n_shot=5, n_episodes=n_episodes),
).fit(X[y < 7], y[y < 7])
print(f"best: {search.best_params_}")

# %%
# New classes
# -----------
# Accuracy and share of features in use, on digits that nobody has seen.

result = evaluate_few_shot(
    search.best_estimator_,
    X[y >= 7],
    y[y >= 7],
    n_way=3,
    n_episodes=n_episodes,
    random_state=0,
)
print(result)
print(f"features in use: {100 * (1 - result.sparsity):.0f}%")

figure, axes = plt.subplots(figsize=(6, 4))
mean = search.cv_results_["mean_test_score"]
spread = search.cv_results_["std_test_score"]
axes.errorbar(grid, 100 * np.asarray(mean), 100 * np.asarray(spread), fmt="o-")
axes.set(
    xlabel="group_reg, 1 switches every feature off",
    ylabel="accuracy on held-out classes, %",
    title="mean and standard deviation over the folds",
)
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
