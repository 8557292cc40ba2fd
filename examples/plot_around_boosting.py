"""
What is different about a customer: gradient boosting, and a sparse correction
==============================================================================

Customers of a service stay or leave, mostly for the same reasons. A boosted tree
ensemble on the rows of all customers knows these reasons, curved as they are, but
takes no notice of who is asked about. ``common=`` makes it the predictor that every
customer deviates from, and ``backbone="identity"`` lets him deviate in the columns of
the table: the boosted scores get a **sparse linear correction in the user's own
columns**, as far as the labels of the customer say.
"""

import argparse
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import mean_confidence_interval

parser = argparse.ArgumentParser()
parser.add_argument("--smoke", action="store_true", help="smallest size")
parser.add_argument("--output", help="write the picture to this file")
options = parser.parse_args()
n_old, n_new, n_rows, n_epochs = (8, 3, 60, 1) if options.smoke else (60, 40, 100, 5)

# %%
# The table
# ---------
# Price, delay and their product matter to everyone, and age in a curve. Beside that a
# customer weighs two of twelve columns in a way of his own.

columns = ["price", "delay", "age", "visits", "calls", "distance"]
columns += ["discount", "returns", "emails", "devices", "searches", "weekends"]


def customers(n_customers, seed):
    """A data frame with a row a decision, and what each customer weighs."""
    rng = np.random.default_rng(seed)
    own = np.zeros((n_customers, len(columns)))
    for weights in own:
        weights[rng.choice(len(columns), 2, replace=False)] = rng.choice([-3, 3], 2)
    customer = np.repeat(np.arange(n_customers), n_rows)
    rows = rng.standard_normal((len(customer), len(columns)))
    price, delay, age = rows[:, :3].T
    scores = 2 * price * delay - price + 2 * np.abs(age) - 1.5
    scores += (rows * own[customer]).sum(axis=1)
    table = pd.DataFrame(rows, columns=columns).assign(customer=customer)
    scores += rng.logistic(size=len(rows))
    table["label"] = np.where(scores > 0, "leaves", "stays")
    return table, own


old, _ = customers(n_old, seed=1)
new, truth = customers(n_new, seed=2)

# %%
# Learn what customers share, and how far they deviate
# ----------------------------------------------------
# In training every row is scored by trees that have not seen its customer.

boosting = HistGradientBoostingClassifier(max_iter=100, random_state=0)
learner = SparseMetaClassifier(
    common=boosting,
    backbone="identity",
    max_epochs=n_epochs,
    fit_head=False,
    verbose=0,
    random_state=0,
)
learner.fit(old[columns], old["label"], tasks=old["customer"])
print(f"strength of the sparsity, chosen on old customers: {learner.sparse_reg_:g}")

# %%
# New customers, from zero labels on
# ----------------------------------
# The same rows are asked about whatever the number of labels. A model of the customer's
# own labels alone needs two classes to begin with.

shots, n_known = (0, 2, 5, 10, 20, 40), 40
names = ("boosting and correction", "boosting", "own model")
accuracy = {name: np.zeros((n_new, len(shots))) for name in names}
deviations = np.zeros((n_new, len(columns)))
for number, (_, rows) in enumerate(new.groupby("customer")):
    X, y = rows[columns], rows["label"]
    asked, answers = X[n_known:], y[n_known:]
    zero = learner.score(asked, answers)  # by the common predictor
    adapted = copy.copy(learner)
    for at, shot in enumerate(shots):
        support, labels = X[:shot], y[:shot]
        accuracy["boosting"][number, at] = zero
        accuracy["boosting and correction"][number, at] = zero
        accuracy["own model"][number, at] = 0.5
        if shot:
            found = adapted.adapt(support, labels).score(asked, answers)
            accuracy["boosting and correction"][number, at] = found
        if labels.nunique() == 2:
            own_model = LogisticRegression().fit(support, labels)
            accuracy["own model"][number, at] = own_model.score(asked, answers)
    # For the score of "stays" minus that of "leaves".
    deviations[number] = adapted.deviation_[1] - adapted.deviation_[0]

for name, scores in accuracy.items():
    parts = [mean_confidence_interval(scores[:, at]) for at in range(len(shots))]
    cells = [
        f"{shot}: {100 * mean:.1f} +- {100 * half:.1f}"
        for shot, (mean, half) in zip(shots, parts, strict=True)
    ]
    print(f"{name}, accuracy by labels: " + ", ".join(cells))
right = (deviations != 0) == (truth != 0)
print(f"columns told right with {n_known} labels: {100 * right.mean():.0f}%")

# %%
# What differs where
# ------------------
# Red: the column speaks for staying more than it does for all customers, blue: less.

figure, (left, grid) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(1, 1.4))
for name, scores in accuracy.items():
    left.plot(range(len(shots)), scores.mean(axis=0), marker="o", label=name)
left.set_xticks(range(len(shots)), [str(shot) for shot in shots])
left.set(xlabel="labels of the customer", ylabel="accuracy", title="new customers")
left.legend()
shown = deviations[:20].T
bound = max(np.abs(shown).max(), 1e-3)
image = grid.imshow(shown, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
grid.set_yticks(range(len(columns)), columns)
grid.set(xlabel="customer", title=f"what differs, by {n_known} labels")
figure.colorbar(image, ax=grid)
figure.tight_layout()
if options.output:
    figure.savefig(options.output)
else:
    plt.show()
