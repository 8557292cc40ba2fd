"""Contract of backbones: parameters, and a module for samples of a shape."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from sklearn.base import BaseEstimator, clone
from torch import nn

from ..exceptions import InvalidInputError


class Backbone(BaseEstimator, ABC):
    """A recipe of a module that turns samples into features.

    A learner builds the module when it knows the shape of a sample, so a backbone
    holds parameters only: it is cheap to copy, to save, and to search, as
    ``backbone__n_filters`` and the like. The contract is a constructor that stores
    its parameters, as in every estimator of scikit-learn, and one method, `build`.

    See Also
    --------
    check_backbone : Runs the contract.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import Backbone
    >>> class Linear(Backbone):
    ...     def __init__(self, out_features=8):
    ...         self.out_features = out_features
    ...
    ...     def build(self, input_shape):
    ...         return nn.Linear(input_shape[0], self.out_features)
    >>> Linear(out_features=3).build((5,))
    Linear(in_features=5, out_features=3, bias=True)
    """

    @abstractmethod
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Build the module, with fresh weights.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample: (p,) for vectors, (channels, height, width) for
            images.

        Returns
        -------
        torch.nn.Module
            Called with ``(n, *input_shape)`` it gives one row of features per
            sample; what follows the first axis is flattened.

        Raises
        ------
        InvalidInputError
            If a parameter is out of range, or the samples have another shape than
            the module can take.
        """


def check_backbone(backbone: Backbone, input_shape: tuple[int, ...]) -> None:
    """Check that a backbone keeps its contract.

    Parameters
    ----------
    backbone : Backbone
        The backbone to check.
    input_shape : tuple of int
        Shape of samples that it takes.

    Raises
    ------
    AssertionError
        With the rule that is broken and what was found.

    Examples
    --------
    >>> from skcausalmeta.backbones import Conv4, check_backbone
    >>> check_backbone(Conv4(n_filters=4), (1, 16, 16))
    """
    given = repr(backbone)
    _expect(_cloned(backbone) == given, "clone keeps the parameters", given)
    modules = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            modules.append(backbone.build(input_shape))
    one, two = modules
    _expect(isinstance(one, nn.Module), "build gives a torch.nn.Module", type(one))
    _expect(one is not two, "build gives a new module each time", "the same object")
    _expect(repr(backbone) == given, "build leaves the parameters", repr(backbone))
    first, second = one.state_dict(), two.state_dict()
    same = all(torch.equal(first[name], second[name]) for name in first)
    _expect(same, "weights follow torch's random state", "others for the same seed")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, *input_shape, generator=generator)
    before = rows.clone()
    one.eval()
    with torch.no_grad():
        features = _flat(one(rows))
        alone = torch.cat([_flat(one(rows[k : k + 1])) for k in range(5)])
    _expect(torch.equal(rows, before), "rows are not written to", "other rows")
    _expect(len(features) == 5, "there is a row of features a sample", features.shape)
    _expect(
        torch.allclose(features, alone, rtol=1e-3, atol=1e-4),
        "in evaluation every row is on its own",
        (features - alone).abs().max(),
    )
    _expect(
        torch.equal(_flat(copy.deepcopy(one)(rows)), features),
        "a copy of the module gives the same features",
        "others",
    )


def _cloned(backbone: Backbone) -> str:
    try:
        return repr(clone(backbone))
    except RuntimeError as error:  # the constructor changes what it is given
        return str(error)


def _flat(features: torch.Tensor) -> torch.Tensor:
    return features.reshape(len(features), -1)


def _expect(holds: bool, rule: str, found: object) -> None:
    if not holds:
        raise AssertionError(f"Of a backbone, {rule}. Got {found}.")


def check_image_shape(name: str, input_shape: tuple[int, ...]) -> None:
    """Refuse samples that are not images.

    Raises
    ------
    InvalidInputError
        With the shape.
    """
    if len(input_shape) != 3:
        raise InvalidInputError(
            f"The backbone {name!r} needs images with input_shape (channels, "
            f"height, width). Got input_shape={input_shape}; reshape the samples or "
            "use backbone='mlp'."
        )
