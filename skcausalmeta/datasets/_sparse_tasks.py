"""Regression tasks that depend on few of the latent factors."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..exceptions import InvalidInputError
from ..utils import named_seeds
from ._mixing import build_mixing, draw_vectors, mixed_rows

_COUNT = [Interval(Integral, 1, None, closed="left")]
_MIXINGS = {"identity", "linear", "mlp", "shapes3d"}


@validate_params(
    {
        "n_tasks": _COUNT,
        "n_per_task": _COUNT,
        "n_factors": _COUNT,
        "n_features": _COUNT,
        "correlation": [Real, "array-like", None],
        "support": [StrOptions({"bernoulli", "fixed", "blocks"})],
        "density": [Interval(Real, 0, 1, closed="right")],
        "n_active": _COUNT,
        "block_size": _COUNT,
        "weights": [StrOptions({"gaussian", "laplace"})],
        "mixing": [StrOptions(_MIXINGS), callable],
        "n_layers": _COUNT,
        "size": [Interval(Integral, 4, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_sparse_tasks(
    n_tasks: int = 100,
    n_per_task: int = 50,
    n_factors: int = 6,
    n_features: int = 20,
    *,
    correlation: float | ArrayLike | None = 0.0,
    support: str = "bernoulli",
    density: float = 0.5,
    n_active: int = 2,
    block_size: int = 2,
    weights: str = "gaussian",
    mixing: str | Callable[[NDArray[Any]], NDArray[Any]] = "linear",
    n_layers: int = 2,
    size: int = 64,
    noise: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Many regression tasks, each linear in a few of the shared latent factors.

    .. math:: x = g(z), \qquad y = z' w_t + \varepsilon, \qquad
              w_{tj} \ne 0 \iff j \in S_t

    The map g is shared and one-to-one; a learner sees (x, y) and the number of
    the task. Tasks with sparse :math:`w_t` identify the factors up to order and
    scale, if the supports vary enough [1]_; blocks of factors that always come
    together violate this.

    Parameters
    ----------
    n_tasks : int, default=100
        Number of tasks.
    n_per_task : int, default=50
        Rows of every task.
    n_factors : int, default=6
        Number of latent factors.
    n_features : int, default=20
        Length of x with linear and MLP mixing, at least `n_factors`.
    correlation : float or array-like of shape (n_factors, n_factors), default=0.0
        Correlation of Gaussian factors of variance 1: of every pair, or a matrix.
        None: independent uniform factors of variance 1. For ``"shapes3d"`` see
        `make_shapes3d`.
    support : {"bernoulli", "fixed", "blocks"}, default="bernoulli"
        "bernoulli": every factor is in with probability `density`. "fixed":
        `n_active` factors drawn at random. "blocks": `block_size` consecutive
        factors are in or out together, with probability `density`. Supports are
        never empty.
    density : float, default=0.5
        Probability in (0, 1] of a factor or block, before empty supports are
        excluded; 1 makes dense tasks.
    n_active : int, default=2
        Size of fixed supports, at most `n_factors`.
    block_size : int, default=2
        Size of blocks, at most `n_factors`; the last block may be smaller.
    weights : {"gaussian", "laplace"}, default="gaussian"
        Distribution of the weights on the support, with variance 1.
    mixing : {"identity", "linear", "mlp", "shapes3d"} or callable, default="linear"
        The map g. "linear": a random matrix of orthonormal columns. "mlp": such
        matrices with leaky ReLUs of slope 0.2 between them. "shapes3d": images
        of the scene whose factors in standard units are z, see
        `render_shapes3d`; the factors move between the levels of the grid. A
        callable maps latents (n, n_factors) to rows; pass ``bunch.mixing`` to
        draw more tasks of the same kind.
    n_layers : int, default=2
        Number of leaky ReLU layers of the MLP.
    size : int, default=64
        Height and width of images in pixels.
    noise : float, default=0.1
        Norm of the Gaussian noise of a task over the norm of its targets
        without noise.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Returns
    -------
    Bunch
        ``data`` (n_tasks * n_per_task, n_features) or images (..., size, size, 3),
        ``target`` and ``tasks`` (n_tasks * n_per_task,), rows task by task;
        ``latents`` (n_tasks * n_per_task, n_factors); ``supports`` boolean and
        ``weights`` (n_tasks, n_factors); ``mixing``, the map g, which is called
        with latents and, unless you gave your own, has a method
        ``draw_latents(n_samples, correlation=None, random_state=None)`` for
        latents of another distribution.

    Raises
    ------
    InvalidInputError
        If sizes do not fit each other or `correlation` is none.

    See Also
    --------
    make_sparse_classes : Few-shot classes with sparse means.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_sparse_tasks
    >>> bunch = make_sparse_tasks(8, 5, correlation=0.9, random_state=0)
    >>> bunch.data.shape, bunch.supports.sum(axis=1).tolist()
    ((40, 20), [5, 2, 2, 2, 4, 5, 4, 2])
    >>> uniform = bunch.mixing.draw_latents(100, random_state=1)
    >>> bunch.mixing(uniform).shape
    (100, 20)
    """
    seeds = named_seeds(
        random_state, "mixing", "latents", "supports", "weights", "noise"
    )
    rngs = {name: np.random.RandomState(seed) for name, seed in seeds.items()}
    draw_supports = _supports_of(support, n_factors, density, n_active, block_size)
    supports = draw_supports(rngs["supports"], n_tasks)
    drawn = _draw_weights(rngs["weights"], weights, supports.shape)
    mix = mixing
    if isinstance(mixing, str):
        mix = build_mixing(
            mixing, n_factors, n_features, n_layers, size, seeds["mixing"]
        )
    latents = _draw_latents(
        mix, n_tasks * n_per_task, n_factors, correlation, seeds["latents"]
    )
    target = np.einsum(
        "tnm,tm->tn", latents.reshape(n_tasks, n_per_task, -1), drawn * supports
    )
    target += noise * _matched_noise(rngs["noise"], target)
    return Bunch(
        data=mixed_rows(mix, latents),
        target=target.ravel(),
        tasks=np.repeat(np.arange(n_tasks), n_per_task),
        latents=latents,
        supports=supports,
        weights=drawn * supports,
        mixing=mix,
    )


def _supports_of(
    support: str, n_factors: int, density: float, n_active: int, block_size: int
) -> Callable[[np.random.RandomState, int], NDArray[np.bool_]]:
    """Function that draws supports (n_tasks, n_factors), none of them empty."""
    if support == "fixed":
        _at_most_factors("n_active", n_active, n_factors)
        return lambda rng, n: _subsets(rng, np.full(n, n_active), n_factors)
    width = 1
    if support == "blocks":
        _at_most_factors("block_size", block_size, n_factors)
        width = block_size
    n_blocks = -(-n_factors // width)

    def draw(rng: np.random.RandomState, n_tasks: int) -> NDArray[np.bool_]:
        # Sizes by the inverse of their distribution function, 0 being left out.
        sizes = stats.binom(n_blocks, density)
        shares = rng.uniform(sizes.cdf(0), 1, size=n_tasks)
        counts = np.maximum(sizes.ppf(shares), 1).astype(int)
        blocks = _subsets(rng, counts, n_blocks)
        return np.repeat(blocks, width, axis=1)[:, :n_factors]

    return draw


def _subsets(
    rng: np.random.RandomState, counts: NDArray[np.int64], n: int
) -> NDArray[np.bool_]:
    """Random subsets of n items with given numbers of members, (n_tasks, n)."""
    ranks = rng.uniform(size=(len(counts), n)).argsort(axis=1).argsort(axis=1)
    return ranks < counts[:, None]


def _draw_weights(
    rng: np.random.RandomState, name: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    if name == "gaussian":
        return rng.standard_normal(shape)
    return rng.laplace(scale=np.sqrt(0.5), size=shape)


def _draw_latents(
    mixing: Any,
    n_samples: int,
    n_factors: int,
    correlation: float | ArrayLike | None,
    seed: int,
) -> NDArray[np.float64]:
    if not hasattr(mixing, "draw_latents"):
        return draw_vectors(n_samples, n_factors, correlation, seed)
    if mixing.n_factors != n_factors:
        raise InvalidInputError(
            f"The given mixing takes {mixing.n_factors} factors. Got "
            f"n_factors={n_factors}; pass n_factors={mixing.n_factors}."
        )
    return mixing.draw_latents(n_samples, correlation=correlation, random_state=seed)


def _matched_noise(
    rng: np.random.RandomState, target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Gaussian noise with the norm of the targets of every task."""
    noise = rng.standard_normal(target.shape)
    norms = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (target, noise)]
    return noise * (norms[0] / norms[1])


def _at_most_factors(name: str, value: int, n_factors: int) -> None:
    if value > n_factors:
        raise InvalidInputError(
            f"{name} must be at most n_factors={n_factors}. Got {value}."
        )
