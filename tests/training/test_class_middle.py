"""The middle of the classes of a task."""

import numpy as np
import torch

from skcausalmeta.training import class_middle


def test_it_is_the_mean_of_the_class_means():
    rows = torch.randn(2, 9, 4).double()
    targets = torch.tensor([[0] * 7 + [2, 3], [1, 0, 1, 0, 1, 0, 1, 0, 1]])
    for task in range(2):
        labels = targets[task].unique()
        means = [rows[task, targets[task] == k].mean(0) for k in labels]
        expected = torch.stack(means).mean(0)
        found = class_middle(rows, targets)[task, 0]
        torch.testing.assert_close(found, expected)


def test_for_equal_classes_it_is_the_mean_of_the_rows():
    rows, targets = torch.randn(3, 10, 4).double(), torch.arange(10).expand(3, -1) % 5
    middle = class_middle(rows.requires_grad_(), targets)
    torch.testing.assert_close(middle, rows.mean(1, keepdim=True))
    (gradient,) = torch.autograd.grad(middle.sum(), rows)
    np.testing.assert_allclose(gradient.numpy(), 0.1)
