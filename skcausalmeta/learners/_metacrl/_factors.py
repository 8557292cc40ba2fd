"""Factors of the features and the weights that a task gives them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ...exceptions import InvalidInputError
from ...training import EpisodeHook, EpisodeOutcome
from ._label_statistics import N_STATISTICS, label_statistics

Swap = Callable[[int], tuple[Tensor, Tensor]]

_MOMENTUM = 0.05
_PLATEAU = 1.0
# Rates of Xi and of f_gr in the public code.
PUBLIC_RATES = {"xi": 0.4, "group": 0.01}
# Largest rates, and rates times features. A step of Adam moves every entry of Xi by its
# rate, and turns d features by up to d times as much; one of f_gr, which all factors
# share, moves the weights of all of them. From 16 features on rates fall as they grow.
AUTO_RATES = {"xi": (3e-3, 0.05), "group": (1e-2, 0.15)}


class FactorHook(EpisodeHook):
    """Disentangling matrix Xi, task grouping f_gr and the second level of MetaCRL.

    Factors are ``a = Xi'z``, the weights of a task ``m = f_gr(support)`` in (0, 1),
    and the head gets ``m * a``. Parameters are those of `MetaCRLClassifier`.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._metacrl._factors import FactorHook
    >>> hook = FactorHook()
    >>> hook.build(3)
    3
    >>> code = hook.task_code(torch.randn(2, 6, 3), torch.arange(6).expand(2, 6), 6)
    >>> code.shape
    torch.Size([2, 3])
    """

    middle: Tensor
    spread: Tensor
    n_seen: Tensor
    n_turns: Tensor

    def __init__(
        self,
        n_factors: int | None = None,
        *,
        lambda_orth: float = 1.0,
        lambda_group: float = 0.1,
        lambda_inv: float = 1.0,
        lambda_swap: float = 1.0,
        causal_every: int | None = 4,
        xi_lr: float | str = "auto",
        group_lr: float | str = "auto",
        level2_every: int | None = 1,
        group_hidden: int = 32,
        task_embedding: str = "labels",
    ) -> None:
        super().__init__()
        self.n_factors = n_factors
        self.lambda_orth = lambda_orth
        self.lambda_group = lambda_group
        self.lambda_inv = lambda_inv
        self.lambda_swap = lambda_swap
        self.causal_every = causal_every
        self.xi_lr = xi_lr
        self.group_lr = group_lr
        self.every = level2_every or 0
        self.group_hidden = group_hidden
        self.task_embedding = task_embedding
        self._turned = False  # whether query rows stand for the support

    def build(self, n_features: int) -> int:
        """Create Xi with orthonormal columns, and f_gr with equal weights at first."""
        k = n_features if self.n_factors is None else self.n_factors
        if k > n_features:
            raise InvalidInputError(
                "n_factors must be at most the number of features of the backbone. Got "
                f"n_factors={k} for {n_features} features; lower it, or widen the "
                "backbone."
            )
        start = torch.eye(n_features)
        if k != n_features:
            start = nn.init.orthogonal_(torch.empty(n_features, k))
        self.xi = nn.Parameter(start)
        shared = self.task_embedding == "labels"
        n_in, n_out = (2 * N_STATISTICS, 1) if shared else (k, k)
        first = nn.Linear(n_in, self.group_hidden)
        last = nn.Linear(self.group_hidden, n_out)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.group = nn.Sequential(first, nn.ReLU(), last)
        self.group_bias = nn.Parameter(torch.zeros(k))
        self.register_buffer("middle", torch.zeros(k))
        self.register_buffer("spread", torch.ones(k))
        self.register_buffer("n_seen", torch.zeros(()))
        self.register_buffer("n_turns", torch.zeros((), dtype=torch.long))
        return k

    # -- features ----------------------------------------------------------------------

    def task_code(self, support: Tensor, targets: Tensor, n_way: int) -> Tensor:
        """Return the weights m (n_tasks, n_factors); the factors are constants here."""
        with torch.no_grad():
            factors = support.to(self.xi.dtype) @ self.xi
            if self.training and self.every and not self._turned:
                self._follow_statistics(factors)
            factors = (factors - self.middle) / self.spread
            if self.task_embedding == "labels":
                facts = label_statistics(factors, targets, n_way)
                pooled = facts.mean(dim=1, keepdim=True).expand_as(facts)
                facts = torch.cat([facts, pooled], dim=-1)  # (n_tasks, k, 2 F)
            else:
                facts = factors.mean(dim=1)  # (n_tasks, k)
        logits = self.group(facts)
        if self.task_embedding == "labels":
            logits = logits[..., 0]
        logits = logits + self.group_bias
        # The largest is 1: the scale of the factors is not theirs to choose.
        below = logits - logits.amax(dim=-1, keepdim=True) + _PLATEAU
        return below.sigmoid() / torch.sigmoid(
            torch.full_like(below[..., :1], _PLATEAU)
        )

    def transform(self, features: Tensor, code: Tensor) -> Tensor:
        """Return the weighted factors ``m * Xi'z``."""
        return code.unsqueeze(-2) * (features @ self.xi)

    def _follow_statistics(self, factors: Tensor) -> None:
        rows = factors.flatten(0, 1)
        rate = max(_MOMENTUM, 1.0 / (1.0 + float(self.n_seen)))
        self.n_seen += 1
        spread = rows.std(dim=0, unbiased=False) if len(rows) > 1 else self.spread
        self.middle.lerp_(rows.mean(dim=0), rate)
        self.spread.lerp_(spread.clamp_min(1e-6), rate)

    # -- second level ------------------------------------------------------------------

    def extra_loss(
        self, codes: Tensor, episodes: Sequence[EpisodeOutcome]
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Return swapped loss plus invariance penalty plus L_dis, and all terms."""
        terms = {
            "orthogonality": (self.lambda_orth, orthogonality(self.xi)),
            "l1": (self.lambda_group, codes.mean()),
            "entropy": (-self.lambda_group, usage_entropy(codes)),
        }
        if self._causal_now():
            terms |= self._environments(episodes)
        total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return total, {name: float(v.detach()) for name, (_, v) in terms.items()}

    def _causal_now(self) -> bool:
        """Tell whether this step compares environments; it counts the steps."""
        self.n_turns += 1
        if not self.causal_every or not (self.lambda_swap or self.lambda_inv):
            return False
        return (int(self.n_turns) - 1) % self.causal_every == 0

    def _environments(
        self, episodes: Sequence[EpisodeOutcome]
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the weighted terms of the swapped loss and the invariance penalty."""
        n_tasks = sum(len(episode.targets) for episode in episodes)
        losses, penalties = [], []
        for episode in episodes:
            share = len(episode.targets) / n_tasks
            views = [(episode.scores, episode.targets)]
            if episode.swap is not None:
                views.append(self._swapped(episode, episode.swap))
                losses.append(share * episode.loss(*views[1]))
            if self.lambda_inv:
                penalties += [share * scale_penalty(episode, *view) for view in views]
        zero = self.xi.new_zeros(())
        terms = {"invariance": (self.lambda_inv, sum(penalties, zero))}
        if losses:
            terms["swapped"] = (self.lambda_swap, sum(losses, zero))
        return terms

    def _swapped(self, episode: EpisodeOutcome, swap: Swap) -> tuple[Tensor, Tensor]:
        """Return the swapped scores and targets; the averages stay where they are.

        A step follows the statistics of its support rows once, whether or not it
        compares environments.
        """
        self._turned = True
        try:
            return swap(len(episode.targets))
        finally:
            self._turned = False

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of Xi and of f_gr, once they are built."""
        given = {"xi": self.xi_lr, "group": self.group_lr}
        return {name: self._rate(name, rate) for name, rate in given.items()}

    def _rate(self, name: str, rate: float | str) -> float:
        if not isinstance(rate, str):
            return rate
        if rate == "public":
            return PUBLIC_RATES[name]
        largest, product = AUTO_RATES[name]
        return min(largest, product / len(self.xi))


def orthogonality(xi: Tensor) -> Tensor:
    """Return the sum of the squared cosines of pairs of columns, over their number."""
    columns = nn.functional.normalize(xi, dim=0)
    cosines = columns.mT @ columns
    k = len(cosines)
    off = cosines - torch.eye(k, dtype=xi.dtype, device=xi.device)
    return off.square().sum() / (2 * k)


def usage_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of the mean share of the factors over tasks, over log K.

    1 if all factors are used alike over the tasks, 0 if one alone is used.
    """
    k = weights.shape[1]
    if k == 1:
        return weights.sum() * 0.0
    shares = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
    mean = shares.mean(dim=0)
    return -(mean * mean.clamp_min(1e-12).log()).sum() / math.log(k)


def scale_penalty(episode: EpisodeOutcome, scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over tasks of (d loss(s * scores) / ds)^2 at s = 1."""
    n_tasks = len(targets)
    with torch.enable_grad():
        scale = torch.ones(
            (n_tasks,) + (1,) * (scores.ndim - 1),
            dtype=scores.dtype,
            device=scores.device,
            requires_grad=True,
        )
        loss = episode.loss(scale * scores, targets)
        slope = torch.autograd.grad(loss, scale, create_graph=True)[0]
    return (n_tasks * slope).square().mean()
