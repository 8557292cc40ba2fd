"""Tiny-ImageNet-FS: photographs of classes never seen, from five of each.

Trains on 64 classes, keeps the weights that do best on 16 others, and prints 5-way
accuracy on the last 20::

    python examples/recipes/tiny_imagenet.py --data-dir DIR

DIR holds ``tiny_imagenet_fs.npz``; see `skcausalmeta.datasets.fetch_tiny_imagenet`.
The settings are those of the Omniglot recipe with the usual augmentation of
photographs; they were not searched.
"""

from __future__ import annotations

from _recipe import Split, read_splits, run, smoke_splits
from skorch.callbacks import LRScheduler

from skcausalmeta.backbones import Conv4, RandomColor, RandomFlip, RandomShift
from skcausalmeta.datasets import fetch_tiny_imagenet
from skcausalmeta.heads import PrototypeHead
from skcausalmeta.learners import SparseMetaClassifier

EVALUATIONS = ((5, 5), (5, 1))


def load(data_dir: str | None, *, smoke: bool = False) -> dict[str, Split]:
    """Images and labels of every split; labels of no two are the same."""
    if smoke:
        return smoke_splits((16, 16, 3))
    return read_splits(fetch_tiny_imagenet, data_dir)


def make_learner(seed: int = 0, *, smoke: bool = False) -> SparseMetaClassifier:
    """The learner, with the exact parameters."""
    n_epochs = 1 if smoke else 30
    return SparseMetaClassifier(
        PrototypeHead(),
        backbone=Conv4(n_filters=4 if smoke else 64),
        n_way=3 if smoke else 10,
        n_shot=5,
        n_query=5,
        tasks_per_batch=2,
        batches_per_epoch=2 if smoke else 100,
        max_epochs=n_epochs,
        lr=1e-3,
        augment=[RandomFlip(), RandomShift(4), RandomColor()],
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=n_epochs)],
        fit_head=False,
        verbose=0 if smoke else 1,
        random_state=seed,
    )


if __name__ == "__main__":
    run(__doc__, make_learner, load, EVALUATIONS)
