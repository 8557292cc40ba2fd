"""
A path of sparse classifiers, with certificates
===============================================

How many of the 13 measurements of a wine are needed to tell three cultivars apart?
`group_lasso_path` solves the multiclass SVM with a group Lasso for a descending
sequence of strengths, each from the solution before, and proves how far every
solution is from the optimum. `GroupLassoSVCCV` picks a strength.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

from skcausalmeta.heads import GroupLassoSVCCV, group_lasso_path
from skcausalmeta.metrics import mean_confidence_interval

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_regs = 5 if options.smoke else 30

# %%
# The path
# --------
# The scale of the strengths is relative: at 1 every feature is off.

wine = load_wine()
X, y = scale(wine.data), wine.target
path = group_lasso_path(X, y, n_regs=n_regs, fit_intercept=True)
norms = np.linalg.norm(path.coefs, axis=1)  # (n_regs, n_features)

# %%
# The choice
# ----------
# All folds are solved as one batch. "one-standard-error" prefers few features
# among the strengths that cannot be told from the best one.

search = GroupLassoSVCCV(
    n_regs, fit_intercept=True, selection="one-standard-error", solver="auto"
).fit(X, y)
picked = np.flatnonzero(search.group_regs_ == search.group_reg_)[0]
mean, half_width = mean_confidence_interval(search.scores_[0, picked])
used = [wine.feature_names[j] for j in search.support_features_]
print(f"group_reg={search.group_reg_:.3f}: accuracy {mean:.3f} +- {half_width:.3f}")
print(f"uses {len(used)} of {X.shape[1]} features: {', '.join(used)}")
print(f"duality gap of the final fit: {search.dual_gap_:.1e}")

# %%
# The picture
# -----------
# Left: a line is a feature; it is zero for all classes to the right of where it
# enters. Right: the certificate of every point of the path.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
for j, name in enumerate(wine.feature_names):
    left.plot(path.group_regs, norms[:, j], label=name)
left.axvline(search.group_reg_, color="black", linestyle=":")
left.set(xscale="log", xlabel="group_reg", ylabel="norm of the weights of a feature")
left.legend(fontsize=6)
right.plot(path.group_regs, np.maximum(path.dual_gaps, 1e-16), "o-")
right.set(xscale="log", yscale="log", xlabel="group_reg", ylabel="duality gap")
figure.tight_layout()
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
