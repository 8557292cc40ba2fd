"""Tasks whose labels are tied to the causes of other tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._confounding import (
    check_row_counts,
    check_strengths,
    check_whole_groups,
    draw_tied_classes,
)
from ._mixing import build_mixing, mixed_rows

_COUNT = [Interval(Integral, 1, None, closed="left")]
_SIZE = [Interval(Integral, 2, None, closed="left")]


@validate_params(
    {
        "n_tasks": _COUNT,
        "n_per_env": _COUNT,
        "n_factors": _COUNT,
        "n_features": _COUNT,
        "set_size": _COUNT,
        "tasks_per_group": _SIZE,
        "sets": [StrOptions({"blocks", "random"})],
        "kind": [StrOptions({"classification", "regression"})],
        "n_classes": _SIZE,
        "rho_train": [Real, "array-like"],
        "rho_test": [Real, "array-like"],
        "signature": [Interval(Real, None, None, closed="neither")],
        "label_noise": [Interval(Real, 0, None, closed="left")],
        "n_test_tasks": _COUNT,
        "n_support": _COUNT,
        "n_query": _COUNT,
        "mixing": [StrOptions({"identity", "linear", "mlp"}), callable],
        "n_layers": _COUNT,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_confounded_tasks(
    n_tasks: int = 100,
    n_per_env: int = 20,
    n_factors: int = 8,
    n_features: int = 20,
    *,
    set_size: int = 2,
    tasks_per_group: int = 4,
    sets: str = "blocks",
    kind: str = "classification",
    n_classes: int = 2,
    rho_train: float | Sequence[float] = (0.9, 0.1),
    rho_test: float | Sequence[float] = -0.9,
    signature: float = 1.0,
    label_noise: float = 0.05,
    n_test_tasks: int = 100,
    n_support: int = 10,
    n_query: int = 20,
    mixing: str | Callable[[NDArray[Any]], NDArray[Any]] = "linear",
    n_layers: int = 2,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Tasks confounded by each other: what causes one misleads about another.

    Factors :math:`z \in R^K` are seen through a map g that all tasks share. Task t
    has a causal set :math:`S_t` of factors; its confounder is the causal set
    :math:`S_{t'}` of another task t' of its group, and :math:`S_t`,
    :math:`S_{t'}` are disjoint. With scores of length n_classes - 1 (1 in
    regression)

    .. math:: u = W_t z_{S_t}, \qquad d = W_{t'} z_{S_{t'}}, \qquad
              x = g(z + \sigma 1_{S_t})

    where the rows of W are orthonormal and the factors standard normal, unless the
    label changes them:

    * regression: :math:`y = u + \nu e`, and d has the correlation rho with y;
    * classification: a score has the class :math:`\arg\max_c (V u)_c`, with V the
      corners of a regular simplex, which is the sign of u for two classes. Labels
      are balanced. u has the class y, another one with probability
      :math:`\nu`. d has the class y with probability rho, any class otherwise;
      for rho < 0 it has the class after y with probability abs(rho), so that for
      two classes :math:`P(d \text{ agrees}) = (1 + \rho) / 2` throughout.

    In training, every task is seen in one environment per entry of `rho_train`. The
    confounder helps there, to the degree that rho differs from 0, and misleads where
    rho turns around. Two things tell the causal set from the confounder: u depends
    on y in the same way in all environments, d does not; and the rows of a task are
    moved by `signature` along its causal factors, so that the mean of the support
    rows shows, in tasks never seen, what has proved causal in training.

    Parameters
    ----------
    n_tasks : int, default=100
        Training tasks, a multiple of `tasks_per_group`.
    n_per_env : int, default=20
        Rows of a training task in every environment.
    n_factors : int, default=8
        Number K of factors, at least ``set_size * tasks_per_group``.
    n_features : int, default=20
        Length of x with linear and MLP mixing, at least `n_factors`.
    set_size : int, default=2
        Factors of a causal set, at least ``n_classes - 1``.
    tasks_per_group : int, default=4
        Tasks of a group. Their causal sets are disjoint; the confounder of a task
        is the causal set of the next one, that of the last one is the first.
    sets : {"blocks", "random"}, default="blocks"
        "blocks": consecutive factors, the same blocks in all groups, assigned at
        random. "random": every group divides the factors anew, so that single
        factors can be told apart.
    kind : {"classification", "regression"}, default="classification"
        Kind of the targets.
    n_classes : int, default=2
        Classes of every task in classification.
    rho_train : float or sequence of float, default=(0.9, 0.1)
        Strength in [-1, 1] of the confounder in every training environment.
    rho_test : float or sequence of float, default=-0.9
        Strengths for the query rows of the test tasks.
    signature : float, default=1.0
        Shift :math:`\sigma` of the causal factors of a task; 0 leaves the
        environments as the only hint.
    label_noise : float, default=0.05
        :math:`\nu`: probability below 1, or standard deviation in regression.
    n_test_tasks : int, default=100
        New tasks with new weights, a multiple of `tasks_per_group`.
    n_support : int, default=10
        Support rows of a test task from every training environment.
    n_query : int, default=20
        Query rows of a test task for every entry of `rho_test`.
    mixing : {"identity", "linear", "mlp"} or callable, default="linear"
        The map g: a matrix of orthonormal columns, such matrices with leaky ReLUs
        between them, or your own, from latents (n, n_factors) to rows. Pass
        ``bunch.mixing`` to draw more tasks of the same kind.
    n_layers : int, default=2
        Number of leaky ReLU layers of the MLP.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    Bunch
        ``data`` (n, n_features), ``target``, ``tasks`` and ``envs`` (n,), rows task
        by task and in it environment by environment; ``latents`` (n, n_factors),
        the shift included. By task: ``causal_sets`` and ``confounder_sets``
        (n_tasks, n_factors) boolean, ``groups`` (n_tasks,), ``confounders``
        (n_tasks,) the number of the task t', ``weights``
        (n_tasks, n_scores, n_factors), W with zeros outside of the causal set.
        ``rho_train``, ``rho_test``, and the map ``mixing``.

        ``test``: a Bunch of new tasks with a leading task axis, as
        `predict_episodes` of a learner takes them: ``X_support``, ``y_support``,
        ``X_query``, ``y_query``, ``latents_support``, ``latents_query``;
        ``envs_support`` (n_support_rows,) and ``rho_query`` (n_query_rows,) say
        where a row comes from; ``causal_sets``, ``confounder_sets``, ``groups``,
        ``confounders``, ``weights`` as above.

    Raises
    ------
    InvalidInputError
        If sizes do not fit each other or a strength is not in [-1, 1].

    See Also
    --------
    make_confounded_images : Shapes and colours instead of vectors.
    make_multi_sem : All tasks labelled on the same rows.

    References
    ----------
    .. [1] J. Wang et al. (2024). Hacking task confounder in meta-learning. IJCAI.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_confounded_tasks
    >>> bunch = make_confounded_tasks(8, 20, random_state=0)
    >>> bunch.data.shape, bunch.test.X_support.shape, bunch.test.X_query.shape
    ((320, 20), (100, 20, 20), (100, 20, 20))
    >>> print(bunch.causal_sets[:4].astype(int))
    [[1 1 0 0 0 0 0 0]
     [0 0 0 0 1 1 0 0]
     [0 0 0 0 0 0 1 1]
     [0 0 1 1 0 0 0 0]]
    >>> bunch.confounders[:4].tolist()
    [1, 2, 3, 0]
    """
    train, shifted = (
        check_strengths(rho_train, "rho_train"),
        check_strengths(rho_test, "rho_test"),
    )
    check_whole_groups(tasks_per_group, n_tasks=n_tasks, n_test_tasks=n_test_tasks)
    n_scores = 1
    if kind == "classification":
        n_scores = n_classes - 1
        check_row_counts(
            n_classes, n_per_env=n_per_env, n_support=n_support, n_query=n_query
        )
        _check_noise(label_noise)
    _check_sets(n_factors, set_size, tasks_per_group, n_scores)
    seeds = named_seeds(random_state, "mixing", "train", "test")
    mix = mixing
    if isinstance(mixing, str):
        mix = build_mixing(mixing, n_factors, n_features, n_layers, 0, seeds["mixing"])
    plan = _Plan(n_factors, set_size, tasks_per_group, sets, n_scores)
    rule = _Rule(kind == "classification", n_classes, label_noise, signature)

    rng = np.random.RandomState(seeds["train"])
    tasks = plan.draw(rng, n_tasks)
    latents, target = rule.draw(rng, tasks, train, n_per_env)
    rows = latents.reshape(-1, n_factors)
    envs = np.repeat(np.arange(len(train)), n_per_env)
    return Bunch(
        data=mixed_rows(mix, rows),
        target=target.ravel(),
        tasks=np.repeat(np.arange(n_tasks), len(envs)),
        envs=np.tile(envs, n_tasks),
        latents=rows,
        **tasks,
        rho_train=train,
        rho_test=shifted,
        mixing=mix,
        test=_new_tasks(
            np.random.RandomState(seeds["test"]),
            plan.draw,
            rule,
            mix,
            (n_test_tasks, n_support, n_query),
            (train, shifted),
        ),
    )


def _new_tasks(
    rng: np.random.RandomState,
    draw: Callable[[np.random.RandomState, int], Bunch],
    rule: _Rule,
    mixing: Any,
    sizes: tuple[int, int, int],
    strengths: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Bunch:
    """Tasks with support rows of the training strengths and shifted query rows."""
    n_tasks, n_support, n_query = sizes
    tasks = draw(rng, n_tasks)
    support, y_support = rule.draw(rng, tasks, strengths[0], n_support)
    query, y_query = rule.draw(rng, tasks, strengths[1], n_query)

    def observed(latents: NDArray[np.float64]) -> NDArray[Any]:
        rows = mixed_rows(mixing, latents.reshape(-1, latents.shape[2]))
        return rows.reshape(*latents.shape[:2], *rows.shape[1:])

    return Bunch(
        X_support=observed(support),
        y_support=y_support,
        X_query=observed(query),
        y_query=y_query,
        latents_support=support,
        latents_query=query,
        envs_support=np.repeat(np.arange(len(strengths[0])), n_support),
        rho_query=np.repeat(strengths[1], n_query),
        **tasks,
    )


class _Plan(NamedTuple):
    """What the tasks of a group depend on."""

    n_factors: int
    set_size: int
    tasks_per_group: int
    sets: str
    n_scores: int

    def draw(self, rng: np.random.RandomState, n_tasks: int) -> Bunch:
        """Causal sets, weights and confounders of that many tasks."""
        groups = np.arange(n_tasks) // self.tasks_per_group
        parts = [self._parts(rng) for _ in range(groups[-1] + 1)]
        members = np.concatenate(parts)  # (n_tasks, set_size)
        normal = rng.standard_normal((n_tasks, self.set_size, self.n_scores))
        inside = np.linalg.qr(normal)[0]  # orthonormal columns
        weights = np.zeros((n_tasks, self.n_scores, self.n_factors))
        places = np.arange(n_tasks)[:, None], slice(None), members
        weights[places] = inside
        causal = np.zeros((n_tasks, self.n_factors), dtype=bool)
        np.put_along_axis(causal, members, True, axis=1)
        first = groups * self.tasks_per_group
        confounders = first + (np.arange(n_tasks) - first + 1) % self.tasks_per_group
        return Bunch(
            causal_sets=causal,
            confounder_sets=causal[confounders],
            groups=groups,
            confounders=confounders,
            weights=weights,
        )

    def _parts(self, rng: np.random.RandomState) -> NDArray[np.int64]:
        """Disjoint sets of factors (tasks_per_group, set_size)."""
        if self.sets == "random":
            count = self.tasks_per_group * self.set_size
            return rng.permutation(self.n_factors)[:count].reshape(-1, self.set_size)
        blocks = rng.permutation(self.n_factors // self.set_size)
        chosen = blocks[: self.tasks_per_group, None]
        return chosen * self.set_size + np.arange(self.set_size)


class _Rule(NamedTuple):
    """How targets come from the factors."""

    classes: bool
    n_classes: int
    noise: float
    signature: float

    def draw(
        self,
        rng: np.random.RandomState,
        tasks: Bunch,
        strengths: NDArray[np.float64],
        n_rows: int,
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Latents (n_tasks, n_envs * n_rows, n_factors) and targets, by environment."""
        draw = self._classify if self.classes else self._regress
        shift = self.signature * tasks.causal_sets[:, None]
        latents, targets = [], []
        for rho in strengths:
            shape = len(tasks.weights), n_rows, tasks.weights.shape[2]
            rows = rng.standard_normal(shape)
            y, score, other = draw(rng, shape[:2], rho)
            _set_scores(rows, tasks.weights, score)
            _set_scores(rows, tasks.weights[tasks.confounders], other)
            latents.append(rows + shift)
            targets.append(y)
        return np.concatenate(latents, axis=1), np.concatenate(targets, axis=1)

    def _classify(
        self, rng: np.random.RandomState, shape: tuple[int, int], rho: float
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        labels, causal, spurious = draw_tied_classes(
            rng, shape, self.n_classes, rho, self.noise
        )
        return labels, self._scores_of(rng, causal), self._scores_of(rng, spurious)

    def _regress(
        self, rng: np.random.RandomState, shape: tuple[int, int], rho: float
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        score, noise, own = rng.standard_normal((3, *shape))
        y = score + self.noise * noise
        other = rho * y / np.sqrt(1 + self.noise**2) + np.sqrt(1 - rho**2) * own
        return y, score[..., None], other[..., None]

    def _scores_of(
        self, rng: np.random.RandomState, classes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Standard normal scores (..., n_classes - 1), given their class."""
        # A swap of two corners maps the simplex and the normal law to themselves.
        corners = rng.standard_normal((*classes.shape, self.n_classes))
        wanted, largest = classes[..., None], corners.argmax(axis=-1)[..., None]
        best = np.take_along_axis(corners, largest, axis=-1)
        replaced = np.take_along_axis(corners, wanted, axis=-1)
        np.put_along_axis(corners, largest, replaced, axis=-1)
        np.put_along_axis(corners, wanted, best, axis=-1)
        return -corners @ helmert(self.n_classes).T  # minus: class 1 is u > 0


def _set_scores(
    latents: NDArray[np.float64],
    weights: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> None:
    """Move latents along orthonormal weights, so that they have given scores."""
    wrong = scores - latents @ weights.swapaxes(1, 2)  # (n_tasks, n_rows, n_scores)
    latents += wrong @ weights


def _check_sets(n_factors: int, set_size: int, per_group: int, n_scores: int) -> None:
    if set_size * per_group > n_factors:
        raise InvalidInputError(
            "n_factors must be at least set_size * tasks_per_group, since the causal "
            f"sets of a group are disjoint. Got n_factors={n_factors} for "
            f"{per_group} sets of {set_size}."
        )
    if set_size < n_scores:
        raise InvalidInputError(
            "set_size must be at least n_classes - 1, so that every class has a "
            f"direction. Got set_size={set_size} for n_classes={n_scores + 1}."
        )


def _check_noise(label_noise: float) -> None:
    if label_noise >= 1:
        raise InvalidInputError(
            "label_noise must be a probability below 1 in classification. Got "
            f"{label_noise}."
        )
