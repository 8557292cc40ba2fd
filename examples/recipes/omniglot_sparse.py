"""Omniglot with few features: a task is answered from a fraction of 1,024.

Data, training and evaluation are those of ``omniglot.py``; a group Lasso, which enters
after half of the epochs, chooses the features, and class means read them::

    python examples/recipes/omniglot_sparse.py --data-dir DIR
"""

from __future__ import annotations

from _recipe import run
from omniglot import EVALUATIONS, load
from omniglot import make_learner as with_all_features

from skcausalmeta.heads import GroupLassoSVC, RelaxedHead
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.training import HeadWarmup


def make_learner(seed: int = 0, *, smoke: bool = False) -> SparseMetaClassifier:
    """The learner, with the exact parameters."""
    learner = with_all_features(seed, smoke=smoke)
    warmup = HeadWarmup("selector__group_reg", n_epochs=learner.max_epochs // 2)
    return learner.set_params(
        head=RelaxedHead(GroupLassoSVC(0.2, ridge_reg=0.1, solver="newton")),
        backbone__out_filters=12 if smoke else 1024,
        callbacks=[*learner.callbacks, warmup],
    )


if __name__ == "__main__":
    run(__doc__, make_learner, load, EVALUATIONS)
