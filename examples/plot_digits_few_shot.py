"""
Few-shot classification with few features
=========================================

Learn a representation from some classes, then learn *new* classes from one or
five labels each. By default the classes are scikit-learn's 8 x 8 digits: 0-5 to
learn from, 6-9 to adapt to. ``--data omniglot --data-dir DIR`` takes handwritten
characters of whole alphabets instead (``omniglot.npz``), where there are many
more classes to learn from and the gain is large.

`SparseMetaClassifier` is compared with classifiers on the raw pixels over the
same episodes. Its settings for digits were chosen by cross-validation over the
six training digits alone.
"""

import argparse
import copy
import os
import warnings
from pathlib import Path

# Two threads are the most that arrays of this size can use.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from skorch.callbacks import LRScheduler

from skcausalmeta.datasets import add_rotated_classes, fetch_omniglot
from skcausalmeta.episodes import EpisodeSampler
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.model_selection import evaluate_few_shot

SHOTS = (1, 2, 5, 10)
TABLE_SHOTS = (1, 5)

# %%
# Data and learner
# ----------------
# Rotated images serve as further classes, so that a handful of digits teaches
# more than to tell exactly these digits apart.


def digits(smoke):
    """Images of old digits (with rotations), images of new ones, learner."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16.0).astype(np.float32).reshape(-1, 8, 8)
    old = y < 6
    learner = SparseMetaClassifier(
        GroupLassoSVC(group_reg=0.2, solver="newton"),
        backbone="conv4",
        backbone_params={"n_blocks": 1, "n_filters": 32},
        augment="shift",
        max_epochs=1,
        batches_per_epoch=3 if smoke else 40,
        fit_head=False,
        random_state=0,
    )
    return add_rotated_classes(X[old], y[old]), (X[~old], y[~old]), 4, learner


def omniglot(smoke, data_dir):
    """Characters of the training alphabets, those of the test one, learner."""
    train = fetch_omniglot(data_home=data_dir, split="train")
    test = fetch_omniglot(data_home=data_dir, split="test")
    epochs = 1 if smoke else 15
    learner = SparseMetaClassifier(
        GroupLassoSVC(group_reg=0.3, solver="newton"),
        backbone="conv4",
        augment="affine",
        n_way=5,
        n_shot=1,
        n_query=5,
        max_epochs=epochs,
        batches_per_epoch=3 if smoke else 100,
        fit_head=False,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
        random_state=0,
    )
    old = add_rotated_classes(train.data, train.target)
    return old, (test.data, test.target), 5, learner


# %%
# Evaluation
# ----------
# The same random state gives every contender the same episodes.


def evaluate(learner, X, y, n_way, smoke):
    """FewShotResult of every contender and number of shots."""
    contenders = {
        "SparseMetaClassifier": (learner, X),
        "nearest centroid, pixels": (NearestCentroid(), _flat(X)),
        "1-NN, pixels": (KNeighborsClassifier(1), _flat(X)),
        "logistic regression, pixels": (LogisticRegression(max_iter=200), _flat(X)),
    }
    results = {}
    for shots in SHOTS:
        n_episodes = 5 if smoke else 600 if shots in TABLE_SHOTS else 100
        n_query = min(15, min(np.unique(y, return_counts=True)[1]) - shots)
        for name, (estimator, rows) in contenders.items():
            results[name, shots] = evaluate_few_shot(
                estimator,
                rows,
                y,
                n_way=n_way,
                n_shot=shots,
                n_query=n_query,
                n_episodes=n_episodes,
                random_state=0,
            )
    return results


def _flat(X):
    return X.reshape(len(X), -1) / float(X.max())


def print_table(results, n_way):
    """Accuracy with intervals, features used and time to adapt."""
    names = list(dict.fromkeys(name for name, _ in results))
    heading = "".join(f"{f'{shots} shot':>16}" for shots in TABLE_SHOTS)
    print(
        f"{f'{n_way}-way accuracy, %':<30}{heading}{'features used':>16}{'adapt':>10}"
    )
    for name in names:
        row = [results[name, shots] for shots in TABLE_SHOTS]
        cells = "".join(
            f"{f'{100 * r.mean:.1f} +- {100 * r.half_width:.1f}':>16}" for r in row
        )
        used = row[-1].sparsity
        share = "all" if np.isnan(used) else f"{100 * (1 - used):.0f}%"
        print(f"{name:<30}{cells}{share:>16}{1e3 * row[-1].adapt_time:>7.1f} ms")
    first = results[names[0], TABLE_SHOTS[-1]]
    print(
        f"{first.n_episodes} episodes, 95% intervals; features used and time at "
        f"{TABLE_SHOTS[-1]} shots; largest duality gap {first.max_dual_gap:.1e}"
    )


# %%
# Picture
# -------
# Which features each of 40 tasks uses, and accuracy against the number of labels.


def draw(learner, X, y, n_way, results, path):
    """Mask of features x tasks and accuracy against shots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    masks = support_masks(learner, X, y, n_way)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    order = np.argsort(-masks.mean(axis=1))
    left.imshow(masks[order], aspect="auto", cmap="Greys", interpolation="nearest")
    left.set(
        xlabel="task",
        ylabel="feature, most used first",
        title=f"features in use (black): {100 * masks.mean():.0f}%",
    )
    for name in dict.fromkeys(name for name, _ in results):
        row = [results[name, shots] for shots in SHOTS]
        right.errorbar(
            SHOTS,
            [100 * r.mean for r in row],
            [100 * r.half_width for r in row],
            marker="o",
            capsize=3,
            label=name,
        )
    right.set(xscale="log", xlabel="labels per class", ylabel="accuracy, %")
    right.set_xticks(SHOTS, [str(s) for s in SHOTS])
    right.minorticks_off()
    right.legend()
    right.set_title(f"new classes, {n_way}-way, 95% intervals")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def support_masks(learner, X, y, n_way, n_tasks=40):
    """Which features each task uses, (n_features, n_tasks)."""
    sampler = EpisodeSampler(y, n_way=n_way, n_shot=5, n_query=1, random_state=1)
    masks = np.zeros((learner.n_features_out_, n_tasks), dtype=bool)
    for task, episode in enumerate(sampler.draw(n_tasks)):
        adapted = copy.copy(learner).adapt(X[episode.support], y[episode.support])
        masks[adapted.support_features_, task] = True
    return masks


def main():
    """Train, evaluate, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", choices=["digits", "omniglot"], default="digits")
    parser.add_argument("--data-dir", help="folder of omniglot.npz")
    parser.add_argument("--output", type=Path, default=Path("digits_few_shot.png"))
    parser.add_argument("--smoke", action="store_true", help="smallest size")
    args = parser.parse_args()
    if args.data == "digits":
        old, new, n_way, learner = digits(args.smoke)
    else:
        old, new, n_way, learner = omniglot(args.smoke, args.data_dir)
    # Some pixels are always blank, which NearestCentroid remarks on at every fit.
    warnings.filterwarnings("ignore", module="sklearn.neighbors._nearest_centroid")
    learner.fit(*old)
    results = evaluate(learner, *new, n_way, args.smoke)
    print_table(results, n_way)
    draw(learner, *new, n_way, results, args.output)
    print(f"picture: {args.output}")


if __name__ == "__main__":
    main()
