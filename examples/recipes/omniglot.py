"""Omniglot: characters of an alphabet never seen, from one drawing each.

Trains on four alphabets and their rotations, keeps the weights that do best on a fifth,
and prints 5-way and 20-way accuracy on a sixth::

    python examples/recipes/omniglot.py --data-dir DIR

DIR holds ``omniglot.npz``; see `skcausalmeta.datasets.fetch_omniglot`. The head and
the width of the last block were chosen by short trials on the validation alphabet.
"""

from __future__ import annotations

from _recipe import Split, read_splits, run, smoke_splits
from skorch.callbacks import LRScheduler

from skcausalmeta.backbones import Conv4, RandomAffine
from skcausalmeta.datasets import add_rotated_classes, fetch_omniglot
from skcausalmeta.heads import PrototypeHead
from skcausalmeta.learners import SparseMetaClassifier

EVALUATIONS = ((5, 1), (5, 5), (20, 1))


def load(data_dir: str | None, *, smoke: bool = False) -> dict[str, Split]:
    """Images and labels of every split; labels of no two are the same."""
    if smoke:
        return smoke_splits((16, 16))
    splits = read_splits(fetch_omniglot, data_dir)
    images, labels = add_rotated_classes(*splits["train"])
    splits["train"] = images, labels + 10_000
    return splits


def make_learner(seed: int = 0, *, smoke: bool = False) -> SparseMetaClassifier:
    """The learner, with the exact parameters."""
    n_epochs = 1 if smoke else 30
    return SparseMetaClassifier(
        PrototypeHead(),
        backbone=Conv4(n_filters=4 if smoke else 64, out_filters=12 if smoke else 256),
        n_way=3 if smoke else 20,
        n_shot=1,
        n_query=5,
        tasks_per_batch=2,
        batches_per_epoch=2 if smoke else 100,
        max_epochs=n_epochs,
        lr=1e-3,
        augment=RandomAffine(15, 0.15, 0.15),
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=n_epochs)],
        fit_head=False,
        verbose=0 if smoke else 1,
        random_state=seed,
    )


if __name__ == "__main__":
    run(__doc__, make_learner, load, EVALUATIONS)
