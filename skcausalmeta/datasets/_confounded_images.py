"""Pictures whose colour is the cause in some tasks and misleads in others."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._confounding import (
    check_row_counts,
    check_strengths,
    check_whole_groups,
    draw_tied_classes,
)

_COUNT = [Interval(Integral, 1, None, closed="left")]
_SHAPE, _COLOUR = 0, 1


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
    train, shifted = (
        check_strengths(rho_train, "rho_train"),
        check_strengths(rho_test, "rho_test"),
    )
    check_whole_groups(2, n_tasks=n_tasks, n_test_tasks=n_test_tasks)
    check_row_counts(
        n_classes, n_per_env=n_per_env, n_support=n_support, n_query=n_query
    )
    seeds = named_seeds(random_state, "classes", "train", "test")
    classes, codes = np.unique(names, return_inverse=True)
    held_out = _held_out(classes, test_classes, seeds["classes"])
    painter = _Painter(ink, codes, n_classes, hue_noise, label_noise, signature)

    rng = np.random.RandomState(seeds["train"])
    tasks = _draw_pairs(rng, n_tasks, np.flatnonzero(~held_out), n_classes)
    rows = painter.draw(rng, tasks, train, n_per_env)
    envs = np.repeat(np.arange(len(train)), n_per_env)
    return Bunch(
        **{
            name: values.reshape(-1, *values.shape[2:]) for name, values in rows.items()
        },
        tasks=np.repeat(np.arange(n_tasks), len(envs)),
        envs=np.tile(envs, n_tasks),
        **tasks,
        classes=classes,
        test_classes=classes[held_out],
        rho_train=train,
        rho_test=shifted,
        test=_new_tasks(
            np.random.RandomState(seeds["test"]),
            painter,
            np.flatnonzero(held_out),
            (n_test_tasks, n_support, n_query),
            (train, shifted),
        ),
    )


def _new_tasks(
    rng: np.random.RandomState,
    painter: _Painter,
    pool: NDArray[np.int64],
    sizes: tuple[int, int, int],
    strengths: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Bunch:
    """Tasks with support rows of the training strengths and shifted query rows."""
    n_tasks, n_support, n_query = sizes
    tasks = _draw_pairs(rng, n_tasks, pool, painter.n_classes)
    support = painter.draw(rng, tasks, strengths[0], n_support)
    query = painter.draw(rng, tasks, strengths[1], n_query)
    return Bunch(
        X_support=support.data,
        y_support=support.target,
        X_query=query.data,
        y_query=query.target,
        latents_support=support.latents,
        latents_query=query.latents,
        envs_support=np.repeat(np.arange(len(strengths[0])), n_support),
        rho_query=np.repeat(strengths[1], n_query),
        **tasks,
    )


def _draw_pairs(
    rng: np.random.RandomState, n_tasks: int, pool: NDArray[np.int64], n_classes: int
) -> Bunch:
    """Characters and hues of pairs of tasks, and which of the two is the cause."""
    if len(pool) < n_classes:
        raise InvalidInputError(
            "Training and test tasks need n_classes characters each. Got "
            f"{len(pool)} for n_classes={n_classes}; change test_classes."
        )
    pairs = n_tasks // 2
    ranks = rng.uniform(size=(pairs, len(pool))).argsort(axis=1)
    starts = rng.uniform(size=(pairs, 1))
    hues = (starts + np.arange(n_classes) / n_classes) % 1
    order = rng.uniform(size=hues.shape).argsort(axis=1)
    numbers = np.arange(n_tasks)
    causal = np.eye(2, dtype=bool)[numbers % 2]
    return Bunch(
        causal_sets=causal,
        confounder_sets=~causal,
        groups=numbers // 2,
        confounders=numbers ^ 1,
        characters=np.repeat(pool[ranks[:, :n_classes]], 2, axis=0),
        hues=np.repeat(np.take_along_axis(hues, order, axis=1), 2, axis=0),
    )


class _Painter(NamedTuple):
    """Draws rows of tasks from the characters."""

    ink: NDArray[np.float32]
    codes: NDArray[np.int64]
    n_classes: int
    hue_noise: float
    label_noise: float
    signature: float

    def draw(
        self,
        rng: np.random.RandomState,
        tasks: Bunch,
        strengths: NDArray[np.float64],
        n_rows: int,
    ) -> Bunch:
        """Rows (n_tasks, n_envs * n_rows, ...), environment by environment."""
        shape = len(tasks.characters), n_rows
        drawn = [
            draw_tied_classes(rng, shape, self.n_classes, rho, self.label_noise)
            for rho in strengths
        ]
        target, cause, other = (
            np.concatenate(parts, axis=1) for parts in zip(*drawn, strict=True)
        )
        of_colour = tasks.causal_sets[:, [_COLOUR]]
        shapes = np.take_along_axis(
            tasks.characters, np.where(of_colour, other, cause), axis=1
        )
        hues = np.take_along_axis(
            tasks.hues, np.where(of_colour, cause, other), axis=1
        ) + self.hue_noise * rng.standard_normal(target.shape)
        index = self._draw_images(rng, shapes)
        background = np.where(of_colour, self.signature, 0.0)
        return Bunch(
            data=_paint(self.ink[index], hues % 1, background),
            target=target,
            latents=np.stack([shapes, hues % 1], axis=2),
            index=index,
        )

    def _draw_images(
        self, rng: np.random.RandomState, wanted: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A random image of every wanted class."""
        order = np.argsort(self.codes, kind="stable")
        counts = np.bincount(self.codes)
        first = np.cumsum(counts) - counts
        return order[first[wanted] + rng.randint(counts[wanted])]


def _paint(
    ink: NDArray[np.float32], hues: NDArray[np.float64], background: NDArray[Any]
) -> NDArray[np.float32]:
    """Ink (n_tasks, n_rows, height, width) in pure colours on grey."""
    # Red, green and blue lie at 0, 1/3 and 2/3 of the wheel.
    distance = np.abs((hues[..., None] - np.arange(3) / 3 + 0.5) % 1 - 0.5)
    colours = np.clip(2 - 6 * distance, 0, 1)[:, :, None, None]  # (..., 1, 1, 3)
    paper = background[:, :, None, None, None]
    painted: NDArray[Any] = ink[..., None] * (colours - paper) + paper
    return painted.astype(np.float32)


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
