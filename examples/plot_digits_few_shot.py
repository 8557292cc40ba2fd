"""
Few-shot classification with few features
=========================================

Learn a representation from the digits 0 to 5, then tell 6, 7, 8 and 9 apart from one
or five labels each. ``python -m skcausalmeta demo`` does the same with more
contenders, and takes handwritten characters of whole alphabets (``--data
omniglot``), where there is far more to learn from.
"""

import argparse
import os

# Two threads are the most that arrays of this size can use.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skcausalmeta.backbones import Conv4
from skcausalmeta.datasets import add_rotated_classes
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.inspection import SupportDisplay
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.model_selection import evaluate_few_shot

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
parser.add_argument("--output", default="digits_few_shot.png", help="picture to write")
parser.add_argument("--smoke", action="store_true", help="smallest size")
args = parser.parse_args()
matplotlib.use("Agg")

# %%
# Learn
# -----
# Rotated images serve as further classes, so that a handful of digits teaches
# more than to tell exactly these digits apart.

X, y = load_digits(return_X_y=True)
X = (X / 16.0).astype(np.float32).reshape(-1, 8, 8)
old = y < 6
learner = SparseMetaClassifier(
    GroupLassoSVC(group_reg=0.2, solver="auto"),
    backbone=Conv4(n_blocks=1, n_filters=32),
    augment="shift",
    max_epochs=1,
    batches_per_epoch=3 if args.smoke else 40,
    fit_head=False,
    verbose=0,
    random_state=0,
)
learner.fit(*add_rotated_classes(X[old], y[old]))

# %%
# Evaluate
# --------
# The same random state gives both contenders the same episodes.

X_new, y_new = X[~old], y[~old]
contenders = {
    "SparseMetaClassifier": (learner, X_new),
    "logistic regression": (LogisticRegression(), X_new.reshape(len(X_new), -1)),
}
for name, (estimator, rows) in contenders.items():
    for n_shot in (1, 5):
        result = evaluate_few_shot(
            estimator,
            rows,
            y_new,
            n_way=4,
            n_shot=n_shot,
            n_episodes=5 if args.smoke else 200,
            random_state=0,
        )
        print(f"{name:<24}{result}")

# %%
# Look
# ----
# Every column is a task of five labels per class; the features that its predictor
# uses are dark.

rng = np.random.RandomState(0)
rows = np.concatenate([rng.permutation(len(X_new))[:40] for _ in range(20)])
tasks = np.repeat(np.arange(20), 40)
display = SupportDisplay.from_estimator(
    learner, X_new[rows], y_new[rows], tasks, sort=True
)
display.figure_.savefig(args.output, dpi=120)
