"""Nested parameters of parts that a learner names or leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from sklearn.base import clone

from ..exceptions import InvalidInputError

Makers = Mapping[str, Callable[[Any], Any]]


class NestedParametersMixin:
    """Parameters of parts that have a name, or none, as long as nothing is set.

    `_parts` maps them to makers of the parts.
    """

    _parts: ClassVar[Makers]

    def set_params(self, **params: Any) -> Self:
        """Set parameters, all of them or none.

        A nested one, such as ``backbone__n_filters``, fills in the object that a name
        or None stands for.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : object
            Itself.
        """
        filled = fill_in(self, params, self._parts)
        with all_or_nothing(self):
            super().set_params(**filled)  # type: ignore[misc]
        return self


def fill_in(learner: Any, params: Mapping[str, Any], makers: Makers) -> dict[str, Any]:
    """Return parameters with the objects that nested names need.

    ``head__group_reg=0.3`` needs a head; where the learner has None or a name, the
    object that it stands for comes in its place, with the parameter set. Nothing of
    the learner changes here, so that a wrong name leaves it as it was.

    Parameters
    ----------
    learner : estimator
        Its `set_params` was called.
    params : mapping
        What it was called with.
    makers : mapping of str to callable
        ``maker(value) -> object`` for every parameter that may hold None or a name.

    Returns
    -------
    dict
        Parameters for `set_params` of scikit-learn.

    Raises
    ------
    ValueError
        If the object has no such parameter, or cannot be told.

    Examples
    --------
    >>> from skcausalmeta.backbones import named_backbone
    >>> from skcausalmeta.learners import MAMLClassifier
    >>> from skcausalmeta.learners._nested import fill_in
    >>> learner = MAMLClassifier(backbone="conv4")
    >>> makers = {"backbone": named_backbone}
    >>> fill_in(learner, {"backbone__n_filters": 8}, makers)
    {'backbone': Conv4(n_filters=8)}
    """
    filled = dict(params)
    for name, make in makers.items():
        nested = {
            key.removeprefix(f"{name}__"): value
            for key, value in params.items()
            if key.startswith(f"{name}__")
        }
        value = params.get(name, getattr(learner, name))
        if not nested or _has_parameters(value):
            continue
        for key in nested:
            del filled[f"{name}__{key}"]
        filled[name] = clone(make(value)).set_params(**nested)
    _check_names(learner, filled)
    return filled


@contextmanager
def all_or_nothing(learner: Any) -> Iterator[None]:
    """Put back all parameters, nested ones too, if an error leaves the block.

    Parameters
    ----------
    learner : estimator
        The one whose parameters are set inside the block.

    Examples
    --------
    >>> from skcausalmeta.backbones import Conv4
    >>> from skcausalmeta.learners._nested import all_or_nothing
    >>> backbone = Conv4(n_filters=8)
    >>> try:
    ...     with all_or_nothing(backbone):
    ...         _ = backbone.set_params(n_filters=16)
    ...         raise KeyboardInterrupt
    ... except KeyboardInterrupt:
    ...     print(backbone)
    Conv4(n_filters=8)
    """
    parts = [learner, *filter(_has_parameters, learner.get_params().values())]
    before = [(part, dict(vars(part))) for part in parts if hasattr(part, "__dict__")]
    try:
        yield
    except BaseException:
        for part, state in before:
            vars(part).clear()
            vars(part).update(state)
        raise


def _check_names(owner: Any, params: Mapping[str, Any]) -> None:
    """Refuse parameters that are not there, before the first of them is set."""
    known = owner.get_params()
    nested: dict[str, dict[str, Any]] = {}
    for key, value in params.items():
        name, _, rest = key.partition("__")
        if name not in known:
            raise InvalidInputError(
                f"Invalid parameter {name!r} for estimator {owner}. Valid parameters "
                f"are: {sorted(owner.get_params(deep=False))}."
            )
        if rest:
            nested.setdefault(name, {})[rest] = value
    for name, inner in nested.items():
        part = params.get(name, known[name])
        if not _has_parameters(part):
            raise InvalidInputError(
                f"The {name!r} parameter of {type(owner).__name__} must be an object "
                f"with parameters for {name}__{next(iter(inner))} to be set. Got "
                f"{part!r}; set {name!r} itself."
            )
        fill_in(part, inner, getattr(part, "_parts", {}))


def _has_parameters(value: Any) -> bool:
    return hasattr(value, "set_params") and not isinstance(value, type)
