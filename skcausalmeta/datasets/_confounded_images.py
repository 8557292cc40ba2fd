"""Pictures whose colour is the cause in some tasks and misleads in others."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._coloured_ink import Painter, PairPlan
from ._confounding import Amounts, assemble, check_row_counts, check_whole_groups

_COUNT = [Interval(Integral, 1, None, closed="left")]


@validate_params(
    {
        "images": ["array-like"],
        "labels": ["array-like"],
        "n_tasks": _COUNT,
        "n_per_env": _COUNT,
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "rho_train": [Real, "array-like"],
        "rho_test": [Real, "array-like"],
        "signature": [Interval(Real, 0, 1, closed="left")],
        "hue_noise": [Interval(Real, 0, None, closed="left")],
        "label_noise": [Interval(Real, 0, 1, closed="left")],
        "test_classes": [Interval(Real, 0, 1, closed="neither"), "array-like"],
        "n_test_tasks": _COUNT,
        "n_support": _COUNT,
        "n_query": _COUNT,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_confounded_images(
    images: ArrayLike,
    labels: ArrayLike,
    n_tasks: int = 40,
    n_per_env: int = 20,
    *,
    n_classes: int = 2,
    rho_train: float | Sequence[float] = (0.9, 0.1),
    rho_test: float | Sequence[float] = -0.9,
    signature: float = 0.3,
    hue_noise: float = 0.03,
    label_noise: float = 0.05,
    test_classes: float | ArrayLike = 0.4,
    n_test_tasks: int = 40,
    n_support: int = 10,
    n_query: int = 20,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Coloured characters: the shape causes the label, or the colour does.

    Tasks come in pairs that share `n_classes` characters and as many hues, evenly
    spaced on the colour wheel from a random start. In the first task of a pair the
    shape is the cause and the hue the confounder, in the second the hue is the
    cause and the shape the confounder. Labels are balanced. With strength rho,

    * the cause shows the label, another class with probability `label_noise`;
    * the confounder shows the label with probability rho, any class otherwise; for
      rho < 0 it shows the class after it with probability abs(rho).

    A picture of ink :math:`k \in [0, 1]` is drawn in the pure colour h of its hue on
    a grey background, :math:`x = k h + (1 - k) s`, where s is `signature` in tasks
    of colour and 0 in tasks of shape. So two things tell the cause: it depends on
    the label in the same way in all environments, and the background of the support
    rows shows, in tasks never seen, what has proved causal in training.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width)
        Single characters, such as those of `fetch_omniglot`, `fetch_mnist` or
        scikit-learn's `load_digits().images`; 0 is the background.
    labels : array-like of shape (n_images,)
        Their labels.
    n_tasks : int, default=40
        Training tasks, an even number.
    n_per_env : int, default=20
        Rows of a training task in every environment.
    n_classes : int, default=2
        Classes of every task, at most the training and the test characters.
    rho_train : float or sequence of float, default=(0.9, 0.1)
        Strength in [-1, 1] of the confounder in every training environment.
    rho_test : float or sequence of float, default=-0.9
        Strengths for the query rows of the test tasks.
    signature : float, default=0.3
        Brightness in [0, 1) of the background in tasks of colour; 0 leaves the
        environments as the only hint.
    hue_noise : float, default=0.03
        Standard deviation of the hue of a class, where 1 is the whole wheel.
    label_noise : float, default=0.05
        Probability below 1 that the cause shows another class than the label.
    test_classes : float or array-like, default=0.4
        Characters of the test tasks, which no training task uses: their labels, or
        their share of all, drawn at random.
    n_test_tasks : int, default=40
        New tasks, an even number.
    n_support : int, default=10
        Support rows of a test task from every training environment.
    n_query : int, default=20
        Query rows of a test task for every entry of `rho_test`.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    Bunch
        ``data`` (n, height, width, 3) float32 in [0, 1], ``target``, ``tasks`` and
        ``envs`` (n,), rows task by task and in it environment by environment;
        ``latents`` (n, 2): the position of the shape in `classes` and the hue in
        [0, 1); ``index`` (n,) positions in `images`. By task: ``causal_sets`` and
        ``confounder_sets`` (n_tasks, 2) boolean, shape and colour; ``groups`` and
        ``confounders`` (n_tasks,), the number of the pair and of the other task in
        it; ``characters`` and ``hues`` (n_tasks, n_classes) of its classes, as
        positions in `classes` and in [0, 1). ``classes``, the sorted labels,
        ``test_classes``, ``rho_train``, ``rho_test``.

        ``test``: a Bunch of new tasks with a leading task axis, as
        `predict_episodes` of a learner takes them: ``X_support``, ``y_support``,
        ``X_query``, ``y_query``, ``latents_support``, ``latents_query``;
        ``envs_support`` (n_support_rows,) and ``rho_query`` (n_query_rows,) say
        where a row comes from; and what is said by task, as above.

    Raises
    ------
    InvalidInputError
        If shapes, counts, strengths or classes do not fit.

    See Also
    --------
    make_confounded_tasks : The same with vectors, and with regression.
    make_multi_mnist : Two digits in one picture.

    References
    ----------
    .. [1] J. Wang et al. (2024). Hacking task confounder in meta-learning. IJCAI.
    .. [2] M. Arjovsky et al. (2019). Invariant risk minimization.
       arXiv:1907.02893, for digits whose colour misleads.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.datasets import make_confounded_images
    >>> digits = load_digits()
    >>> bunch = make_confounded_images(digits.images, digits.target, 4, random_state=0)
    >>> bunch.data.shape, bunch.test.X_support.shape
    ((160, 8, 8, 3), (40, 20, 8, 8, 3))
    >>> bunch.causal_sets.tolist()
    [[True, False], [False, True], [True, False], [False, True]]
    """
    ink, names = _check_images(images, labels)
    amounts = Amounts(n_tasks, n_per_env, n_test_tasks, n_support, n_query)
    check_whole_groups(2, amounts)
    check_row_counts(n_classes, amounts)
    seeds = named_seeds(random_state, "classes", "train", "test")
    classes, codes = np.unique(names, return_inverse=True)
    held_out = _held_out(classes, test_classes, seeds["classes"])
    plans = [_pairs_of(mask, n_classes) for mask in (~held_out, held_out)]
    painter = Painter(ink, codes, n_classes, hue_noise, label_noise, signature)
    bunch = assemble(
        (plans[0].draw, plans[1].draw),
        painter.draw,
        amounts,
        (rho_train, rho_test),
        (seeds["train"], seeds["test"]),
    )
    return Bunch(classes=classes, test_classes=classes[held_out], **bunch)


def _pairs_of(mask: NDArray[np.bool_], n_classes: int) -> PairPlan:
    pool = np.flatnonzero(mask)
    if len(pool) < n_classes:
        raise InvalidInputError(
            "Training and test tasks need n_classes characters each. Got "
            f"{len(pool)} for n_classes={n_classes}; change test_classes."
        )
    return PairPlan(pool, n_classes)


def _check_images(
    images: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Ink in [0, 1] and labels."""
    pictures, names = np.asarray(images), np.asarray(labels)
    if pictures.ndim != 3 or pictures.size == 0:
        raise InvalidInputError(
            "images must have shape (n_images, height, width), without colours. Got "
            f"{pictures.shape}."
        )
    if names.shape != pictures.shape[:1]:
        raise InvalidInputError(
            f"labels must hold one label per image. Got {names.shape} for "
            f"{len(pictures)} images."
        )
    low, high = float(pictures.min()), float(pictures.max())
    if not 0 <= low < high < np.inf:
        raise InvalidInputError(
            "images must hold ink: finite values from 0 (background) up, some above "
            f"0. Got values from {low} to {high}."
        )
    return (pictures / high).astype(np.float32), names


def _held_out(
    classes: NDArray[Any], test_classes: float | ArrayLike, seed: int
) -> NDArray[np.bool_]:
    """Mask of the classes that only test tasks use."""
    if not isinstance(test_classes, Real):
        wanted = np.asarray(test_classes)
        unknown = np.setdiff1d(wanted, classes)
        if len(unknown):
            raise InvalidInputError(
                "test_classes must be labels that occur. Got also "
                f"{unknown.tolist()[:5]}."
            )
        return np.isin(classes, wanted)
    order = np.random.RandomState(seed).permutation(len(classes))
    return order < round(float(test_classes) * len(classes))
