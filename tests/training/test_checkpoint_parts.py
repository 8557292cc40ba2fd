"""Parts of a checkpoint: the history that it packs, and weights to begin with."""

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.exceptions import PersistenceError
from skcausalmeta.training import WarmStart
from skcausalmeta.training._checkpoint_state import packed, unpacked


def test_a_history_is_packed_as_plain_numbers():
    found = packed([{"loss": np.float32(0.5), "epoch": 1, "note": "a"}])
    assert unpacked(found) == [{"loss": 0.5, "epoch": 1, "note": "a"}]


def test_what_is_no_number_is_refused():
    with pytest.raises(PersistenceError, match="must hold numbers and text"):
        packed([{"loss": object()}])


class Net:
    """A net that begins to train."""

    def __init__(self):
        self.module_ = nn.Linear(2, 1)


def test_training_begins_with_given_weights_or_its_own():
    given, net = nn.Linear(2, 1), Net()
    own = net.module_.weight.clone()
    WarmStart(None).on_train_begin(net)
    assert torch.equal(net.module_.weight, own)
    WarmStart(given).on_train_begin(net)
    assert torch.equal(net.module_.weight, given.weight)
