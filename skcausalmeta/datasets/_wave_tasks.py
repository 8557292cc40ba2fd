"""Regression tasks that are one wave each, or the sum of two."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds

_COUNT = [Interval(Integral, 1, None, closed="left")]
_NOISE = [Interval(Real, 0, None, closed="left")]


@validate_params(
    {
        "n_tasks": _COUNT,
        "n_per_task": _COUNT,
        "amplitude": ["array-like"],
        "phase": ["array-like"],
        "x_range": ["array-like"],
        "noise": _NOISE,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_sinusoid_tasks(
    n_tasks: int = 1000,
    n_per_task: int = 20,
    *,
    amplitude: tuple[float, float] = (0.1, 5.0),
    phase: tuple[float, float] = (0.0, np.pi),
    x_range: tuple[float, float] = (-5.0, 5.0),
    noise: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Sinusoids of random amplitude and phase [1]_, one regression task each.

    .. math:: y = A_t \sin(x - b_t) + \nu e

    with :math:`A_t`, :math:`b_t` and x uniform on their ranges. The published
    setting has 10 support rows, so that 20 rows make an episode of 10 and 10.

    Parameters
    ----------
    n_tasks : int, default=1000
        Number of tasks.
    n_per_task : int, default=20
        Rows of every task.
    amplitude : (float, float), default=(0.1, 5.0)
        Range of the amplitudes.
    phase : (float, float), default=(0.0, pi)
        Range of the phases in radians.
    x_range : (float, float), default=(-5.0, 5.0)
        Range of the inputs.
    noise : float, default=0.0
        Standard deviation :math:`\nu` of Gaussian noise.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    Bunch
        ``data`` (n_tasks * n_per_task, 1), ``target`` and ``tasks`` of that many
        rows, task by task; ``amplitudes`` and ``phases`` (n_tasks,).

    Raises
    ------
    InvalidInputError
        If a range is not two finite numbers in order.

    See Also
    --------
    make_harmonic_tasks : Sums of two waves.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine (2017). Model-agnostic meta-learning for
       fast adaptation of deep networks. ICML, section 5.1.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_sinusoid_tasks
    >>> bunch = make_sinusoid_tasks(5, random_state=0)
    >>> bunch.data.shape, bunch.amplitudes.round(1).tolist()
    ((100, 1), [0.9, 2.4, 0.2, 2.2, 3.0])
    """
    rngs = _streams(random_state, "amplitudes", "phases", "inputs", "noise")
    sizes = _uniform(rngs["amplitudes"], "amplitude", amplitude, n_tasks)
    phases = _uniform(rngs["phases"], "phase", phase, n_tasks)
    X = _uniform(rngs["inputs"], "x_range", x_range, n_tasks * n_per_task)
    tasks = np.repeat(np.arange(n_tasks), n_per_task)
    y = sizes[tasks] * np.sin(X - phases[tasks])
    y += noise * rngs["noise"].standard_normal(len(y))
    return Bunch(
        data=X[:, None], target=y, tasks=tasks, amplitudes=sizes, phases=phases
    )


@validate_params(
    {
        "n_tasks": _COUNT,
        "n_per_task": _COUNT,
        "frequency": ["array-like"],
        "centre": ["array-like"],
        "noise": _NOISE,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_harmonic_tasks(
    n_tasks: int = 1000,
    n_per_task: int = 20,
    *,
    frequency: tuple[float, float] = (5.0, 7.0),
    centre: tuple[float, float] = (-4.0, 4.0),
    noise: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Sums of a wave and its first overtone [1]_, one regression task each.

    .. math:: y = a_{t1} \sin(\omega_t x + b_{t1})
                + a_{t2} \sin(2 \omega_t x + b_{t2}) + \nu e

    with standard normal amplitudes a, phases b uniform on 0 to 2 pi, frequencies
    :math:`\omega_t` and centres :math:`\mu_t` uniform on their ranges, and inputs
    x normal around :math:`\mu_t` with standard deviation 1.

    Parameters
    ----------
    n_tasks : int, default=1000
        Number of tasks.
    n_per_task : int, default=20
        Rows of every task.
    frequency : (float, float), default=(5.0, 7.0)
        Range of the frequencies in radians per unit of x.
    centre : (float, float), default=(-4.0, 4.0)
        Range of the centres of the inputs.
    noise : float, default=0.1
        Standard deviation :math:`\nu` of Gaussian noise.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    Bunch
        ``data`` (n_tasks * n_per_task, 1), ``target`` and ``tasks`` of that many
        rows, task by task; ``amplitudes`` and ``phases`` (n_tasks, 2),
        ``frequencies`` and ``centres`` (n_tasks,).

    Raises
    ------
    InvalidInputError
        If a range is not two finite numbers in order.

    See Also
    --------
    make_sinusoid_tasks : Single waves.

    References
    ----------
    .. [1] A. Lacoste et al. (2018). Uncertainty in multitask transfer learning.
       arXiv:1806.07528.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_harmonic_tasks
    >>> bunch = make_harmonic_tasks(5, random_state=0)
    >>> bunch.data.shape, bunch.frequencies.round(1).tolist()
    ((100, 1), [6.5, 5.8, 5.2, 6.9, 5.2])
    """
    rngs = _streams(
        random_state,
        "frequencies",
        "centres",
        "amplitudes",
        "phases",
        "inputs",
        "noise",
    )
    speeds = _uniform(rngs["frequencies"], "frequency", frequency, n_tasks)
    centres = _uniform(rngs["centres"], "centre", centre, n_tasks)
    sizes = rngs["amplitudes"].standard_normal((n_tasks, 2))
    phases = rngs["phases"].uniform(0, 2 * np.pi, size=(n_tasks, 2))
    tasks = np.repeat(np.arange(n_tasks), n_per_task)
    X = centres[tasks] + rngs["inputs"].standard_normal(len(tasks))
    angles = (speeds[tasks] * X)[:, None] * [1, 2] + phases[tasks]  # (n_rows, 2)
    y = (sizes[tasks] * np.sin(angles)).sum(axis=1)
    y += noise * rngs["noise"].standard_normal(len(y))
    return Bunch(
        data=X[:, None],
        target=y,
        tasks=tasks,
        amplitudes=sizes,
        phases=phases,
        frequencies=speeds,
        centres=centres,
    )


def _streams(
    random_state: int | np.random.RandomState | None, *names: str
) -> dict[str, np.random.RandomState]:
    seeds = named_seeds(random_state, *names)
    return {name: np.random.RandomState(seed) for name, seed in seeds.items()}


def _uniform(
    rng: np.random.RandomState, name: str, limits: tuple[float, float], n_draws: int
) -> NDArray[np.float64]:
    ends = np.asarray(limits, dtype=np.float64)
    if ends.shape != (2,) or not np.isfinite(ends).all() or ends[0] > ends[1]:
        raise InvalidInputError(
            f"{name} must be a range (low, high) of finite numbers. Got {limits!r}."
        )
    return rng.uniform(ends[0], ends[1], size=n_draws)
