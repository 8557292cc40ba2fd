"""Training that begins with another value of a parameter of the head."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from skorch.callbacks import Callback

from ..exceptions import InvalidInputError


class HeadWarmup(Callback):
    """Hold a parameter of the head at another value in the first epochs.

    Where a group Lasso is at work from the first step, only the features that it
    happens to choose are trained. A backbone that begins without it
    (``HeadWarmup("group_reg")``) learns with all features first and is then asked to
    need few of them. Afterwards, and for new tasks, the head has the value that it
    was given.

    Parameters
    ----------
    parameter : str
        Name of the parameter, as for ``set_params`` of the head:
        ``"selector__group_reg"`` for a `RelaxedHead`.
    value : object, default=0.0
        Value in the first epochs.
    n_epochs : int, default=1
        Number of epochs with that value, >= 0. A training that goes on from a
        checkpoint counts the epochs before; one with ``warm_start`` begins anew.

    Raises
    ------
    InvalidInputError
        In ``fit``, before any step, if the learner has no head, the head no such
        parameter, or `n_epochs` is no such number.

    See Also
    --------
    skcausalmeta.learners.SparseMetaClassifier : Takes it among its `callbacks`.

    Notes
    -----
    ``logit_scale="auto"`` looks at the head as it was given. The weights that are kept
    are those that validate best with the head of their epoch, of the first epochs too.

    Examples
    --------
    >>> from skcausalmeta.heads import GroupLassoSVC
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.training import HeadWarmup
    >>> warmup = HeadWarmup("group_reg", 0.0, n_epochs=10)
    >>> learner = SparseMetaClassifier(
    ...     GroupLassoSVC(0.2), max_epochs=20, callbacks=[warmup]
    ... )
    """

    def __init__(self, parameter: str, value: Any = 0.0, n_epochs: int = 1) -> None:
        self.parameter = parameter
        self.value = value
        self.n_epochs = n_epochs

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Remember the value that the head was given."""
        head = getattr(net, "head", None)
        if head is None:
            raise InvalidInputError(
                "HeadWarmup needs a learner that solves a head in every task. Got the "
                f"{type(net).__name__} of one without; use it with "
                "SparseMetaClassifier or SparseMetaRegressor."
            )
        parameters = head.get_params()
        if self.parameter not in parameters:
            raise InvalidInputError(
                "The 'parameter' of HeadWarmup must be a parameter of the head. Got "
                f"{self.parameter!r}; {type(head).__name__} has "
                f"{sorted(parameters)}."
            )
        if not isinstance(self.n_epochs, Integral) or self.n_epochs < 0:
            raise InvalidInputError(
                "The 'n_epochs' of HeadWarmup must be a whole number >= 0. Got "
                f"{self.n_epochs!r}; 0 leaves the head as it is."
            )
        self.given_: Any = parameters[self.parameter]

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Set the value of this epoch."""
        first = len(net.history) <= self.n_epochs
        net.head.set_params(**{self.parameter: self.value if first else self.given_})

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Leave the head with the value that it was given."""
        net.head.set_params(**{self.parameter: self.given_})
