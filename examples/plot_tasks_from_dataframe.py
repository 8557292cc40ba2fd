"""
Tasks by ids, from a data frame
===============================

One row per product that was shown, one column says to whom: every customer is a
task of its own, with the same two labels and a rule of its own.
``fit(X, y, tasks=ids)`` learns a representation from many customers; ``adapt`` then
solves a new customer from a handful of rows.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from skcausalmeta.backbones import MLP
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import paired_difference
from skcausalmeta.model_selection import evaluate_few_shot

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_old, n_new, n_epochs = (20, 5, 1) if options.smoke else (300, 100, 12)

# %%
# The table
# ---------
# Forty columns mix eight traits of a product and sixteen things that nobody minds. A
# customer minds two of the traits.

mixing = np.random.default_rng(0).standard_normal((24, 40))


def shown_products(n_customers, seed):
    """A data frame with a customer and a label in every row."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((n_customers, 8))
    for row in weights:
        row[rng.choice(8, 2, replace=False)] = rng.choice([-1, 1], 2)
    customer = np.repeat(np.arange(n_customers), 60)
    causes = rng.standard_normal((len(customer), 24))
    taste = (causes[:, :8] * weights[customer]).sum(axis=1)
    table = pd.DataFrame(causes @ mixing).add_prefix("column_")
    table["customer"] = [f"customer {number}" for number in customer]
    table["bought"] = np.where(taste > 0, "yes", "no")
    return table


old, new = shown_products(n_old, seed=1), shown_products(n_new, seed=2)
columns = [name for name in old.columns if name.startswith("column_")]
print(old.iloc[:3, -4:].to_string())

# %%
# Learn from the old customers
# ----------------------------
# A linear backbone is enough here. The head of a customer uses few features.

learner = SparseMetaClassifier(
    backbone=MLP(hidden=(), out_features=16),
    n_shot=8,
    n_query=10,
    max_epochs=n_epochs,
    lr=1e-2,
    fit_head=False,
    verbose=0,
    random_state=0,
)
learner.fit(old[columns], old["bought"], tasks=old["customer"])

# %%
# Solve the new customers
# -----------------------
# `evaluate_few_shot` takes one customer after the other, lets a copy of the learner
# adapt to ten rows of each label, and asks about others. Logistic regression has the
# same rows and no other customers.

results = {
    type(estimator).__name__: evaluate_few_shot(
        estimator,
        new[columns],
        new["bought"],
        tasks=new["customer"],
        n_shot=10,
        n_query=5,
        n_episodes=n_new,
        random_state=0,
    )
    for estimator in (learner, LogisticRegression())
}
for name, result in results.items():
    print(f"{name}: {result}")
scores = [result.scores for result in results.values()]
gain, half_width = paired_difference(*scores)
print(f"difference: {100 * gain:.1f} +- {100 * half_width:.1f}")

figure, axes = plt.subplots(figsize=(5, 5))
axes.scatter(*reversed(scores), alpha=0.1)
axes.plot([0.3, 1], [0.3, 1], color="grey", linestyle=":")
axes.set(
    xlabel="accuracy of logistic regression",
    ylabel="accuracy of SparseMetaClassifier",
    title="a point is a new customer, 20 labels",
)
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
