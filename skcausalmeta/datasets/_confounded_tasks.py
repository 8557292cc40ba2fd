"""Tasks whose labels are tied to the causes of other tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._confounded_factors import FactorRule, GroupPlan
from ._confounding import Amounts, assemble, check_row_counts, check_whole_groups
from ._mixing import build_mixing

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
        "label_noise": [Interval(Real, 0, None, closed="left"), None],
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
    label_noise: float | None = None,
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
      corners of a regular simplex (``-scipy.linalg.helmert(n_classes).T``), which
      is the sign of u for two classes. Labels are balanced. u has the class y,
      another one with probability :math:`\nu`. d has the class y with probability
      rho, any class otherwise; for rho < 0 it has the class after y with
      probability abs(rho), so that for two classes the class of d is y with
      probability :math:`(1 + \rho) / 2` throughout.

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
    label_noise : float, default=None
        :math:`\nu`: probability below 1, or standard deviation in regression. None:
        0.05, or 0.5 in regression, where less would leave the confounder no role.
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
    amounts = Amounts(n_tasks, n_per_env, n_test_tasks, n_support, n_query)
    check_whole_groups(tasks_per_group, amounts)
    n_scores, noise = 1, 0.5
    if kind == "classification":
        n_scores, noise = n_classes - 1, 0.05
        check_row_counts(n_classes, amounts)
        _check_noise(label_noise or 0)
    noise = noise if label_noise is None else label_noise
    _check_sets(n_factors, set_size, tasks_per_group, n_scores)
    seeds = named_seeds(random_state, "mixing", "train", "test")
    mix: Any = mixing
    if isinstance(mixing, str):
        mix = build_mixing(mixing, n_factors, n_features, n_layers, 0, seeds["mixing"])
    plan = GroupPlan(n_factors, set_size, tasks_per_group, sets, n_scores)
    rule = FactorRule(kind == "classification", n_classes, noise, signature, mix)
    bunch = assemble(
        (plan.draw, plan.draw),
        rule.draw,
        amounts,
        (rho_train, rho_test),
        (seeds["train"], seeds["test"]),
    )
    return Bunch(mixing=mix, **bunch)


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
