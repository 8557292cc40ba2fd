"""How far a task may deviate from what all tasks share, learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Logarithms of prior variances to begin with, of a block of features in total.
_BLOCK, _SCORES = -1.0, -2.0
# Relevances within these logarithms, so that no feature dominates by chance.
_LEAST, _MOST = -6.0, 3.0
# Amounts of labels are counted in powers of e from here.
_MIDDLE = 1.0
_FEWEST = 0.5
# Trust in the intercept of balanced supports, and of others, as logits.
_TRUST = ((-2.0, 0.0), (0.0, 0.0))
_FOLLOW = 0.05


class Strengths(nn.Module):
    """Prior variances of the deviation of a task, as a function of its labels.

    A task with k labels has the scores ::

        z(x)   = m + g(k) (c(x) - m) + phi_k(x)'D + r(k) b
        phi_k  = [ sqrt(v_j(k)) (f_j(x) - mean f_j) / s_j,  sqrt(v_c(k)) (c(x) - m) ]
        v_j(k) = exp(a_B + b_B log k) * rho_j^2,      j a feature of block B
        g(k)   = exp(a + b log k),                    r(k) = sigmoid(a + b log k)

    with c the common predictor, m its mean, s the spread of features, D and b the
    coefficients and the intercept
    of a head whose ridge is 1: v is the prior variance of a deviation in a feature, in
    units of the loss. The intercept of a support that was made to hold as many rows of
    every class tells how it was made, not how often classes are, so r is learned for
    balanced and for other supports.

    Parameters
    ----------
    blocks : sequence of int
        Sizes of the blocks of features.
    n_classes : int
        Number of classes; 0 for real targets.
    learned : bool, default=True
        False: v, g and r are 1, whatever k.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.training import Strengths
    >>> strengths = Strengths((3,), 2)
    >>> features, scores = torch.zeros(1, 4, 3), torch.zeros(1, 4, 2)
    >>> amount = strengths.amount(torch.tensor([[0, 0, 1, 1]]))
    >>> print(f"{float(amount):.1f}")
    2.0
    >>> strengths.inputs(features, scores, amount).shape
    torch.Size([1, 4, 4])
    """

    center: Tensor
    spread: Tensor
    score_center: Tensor
    block: Tensor

    def __init__(
        self, blocks: Sequence[int], n_classes: int, learned: bool = True
    ) -> None:
        super().__init__()
        self.blocks, self.n_classes, self.learned = tuple(blocks), n_classes, learned
        size, n_scores = sum(self.blocks), max(n_classes, 1)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.register_buffer("score_center", torch.zeros(n_scores))
        own = 1 if n_classes in (0, 2) else n_classes
        widths = [*self.blocks, own]
        if learned:
            begin = [_BLOCK - math.log(width) for width in self.blocks]
            self.level = nn.Parameter(torch.tensor([*begin, _SCORES]))
            self.growth = nn.Parameter(torch.zeros(len(widths)))
            self.relevance = nn.Parameter(torch.zeros(size))
            self.gain = nn.Parameter(torch.zeros(2))
            self.trust = nn.Parameter(torch.tensor(_TRUST))
        block = torch.repeat_interleave(
            torch.arange(len(widths)), torch.tensor(widths, dtype=torch.int64)
        )
        self.register_buffer("block", block, persistent=False)

    # -- what the labels of a task are worth -------------------------------------------

    def amount(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Labels of tasks: rows a class in the harmonic mean, or rows of real targets.

        Parameters
        ----------
        targets : Tensor of shape (n_tasks, n_support)
            Class numbers, or real targets.
        weights : Tensor of shape (n_tasks, n_support), default=None
            1 for rows that are there, 0 for those that pad a task. None: all are.

        Returns
        -------
        Tensor of shape (n_tasks,)
            Counts c of the present classes (and a class without rows beside a single
            one) give ``1 / mean(1 / (c + 1)) - 1``, at least 0.5.
        """
        return self.labels(targets, weights)[0]

    def balanced(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Whether all present classes of tasks, two at least, have as many rows."""
        return self.labels(targets, weights)[1]

    def labels(
        self, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `amount` and `balanced` return, of rows that are counted once."""
        if not self.n_classes:
            none = torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
            rows = torch.ones_like(targets, dtype=torch.float64)
            return (rows if weights is None else weights.double()).sum(-1), none
        counts, taking_part = self._counts(targets, weights)
        inverse = torch.where(taking_part, 1.0 / (counts + 1.0), 0.0).sum(-1)
        amount = (taking_part.sum(-1) / inverse - 1.0).clamp_min(_FEWEST)
        most = counts.amax(-1)
        least = torch.where(taking_part, counts, most[:, None]).amin(-1)
        return amount, most == least

    def _counts(self, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows of classes (n_tasks, n_classes), and which of them take part."""
        ones = torch.ones_like(targets, dtype=torch.float64)
        if weights is not None:
            ones = weights.double()
        counts = ones.new_zeros(len(targets), self.n_classes)
        counts.scatter_add_(1, targets.long(), ones)
        taking_part = counts > 0
        alone = taking_part.sum(-1) < 2
        absent = (~taking_part).to(torch.uint8).argmax(-1)
        rows = torch.arange(len(targets), device=targets.device)
        taking_part[rows, absent] |= alone
        return counts, taking_part

    # -- what a head is given ----------------------------------------------------------

    def inputs(self, features: Tensor, scores: Tensor, amount: Tensor) -> Tensor:
        """Features phi of rows (n_tasks, n_rows, size + n_own).

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_rows, n_features)
            Features of the backbone.
        scores : Tensor of shape (n_tasks, n_rows, n_scores)
            Common scores.
        amount : Tensor of shape (n_tasks,)
            What `amount` returns.
        """
        own = scores - self.score_center
        if self.n_classes == 2:
            own = own[..., 1:] - own[..., :1]
        moved = (features - self.center) / self.spread
        both = torch.cat([moved, own.to(features)], dim=-1)
        return both if not self.learned else both * self.scale(amount)[:, None]

    def scale(self, amount: Tensor) -> Tensor:
        """Square roots of the prior variances, (n_tasks, size + n_own)."""
        if not self.learned:
            return amount.new_ones(len(amount), len(self.block))
        logs = self._line(self.level, self.growth, amount)[:, self.block] / 2
        relevance = self.relevance.clamp(_LEAST, _MOST).double()
        padding = relevance.new_zeros(len(self.block) - len(relevance))
        return (logs + torch.cat([relevance, padding])).exp()

    def offset(self, scores: Tensor, amount: Tensor) -> Tensor:
        """Common scores with their gain, (n_tasks, n_rows, n_scores)."""
        if not self.learned:
            return scores
        gain = self._line(self.gain[:1], self.gain[1:], amount).exp()[..., None]
        center = self.score_center.to(scores)
        return center + gain * (scores - center)

    def trust_of(self, amount: Tensor, balanced: Tensor) -> Tensor:
        """Share r of the intercept that counts for new rows, (n_tasks,)."""
        if not self.learned:
            return torch.ones_like(amount)
        rows = self.trust.double()[torch.where(balanced, 0, 1)]
        return (rows[:, 0] + rows[:, 1] * (amount.log() - _MIDDLE)).sigmoid()

    @staticmethod
    def _line(level: Tensor, growth: Tensor, amount: Tensor) -> Tensor:
        """Logarithms (n_tasks, n) linear in that of the amount."""
        return level.double() + growth.double() * (amount.log() - _MIDDLE)[:, None]

    # -- where features lie ------------------------------------------------------------

    def follow(self, features: Tensor) -> None:
        """Move the center towards the mean of some features (n, size)."""
        mean = features.detach().mean(0)
        self.center.lerp_(mean.to(self.center), _FOLLOW)

    def settle(self, features: Tensor, weights: Tensor | None = None) -> None:
        """Take center and spread from features (n, size), of these weights; None: 1."""
        if weights is None:
            self.center.copy_(features.mean(0))
            spread = features.std(0, correction=0)
        else:
            shares = (weights / weights.sum()).to(features)
            mean = shares @ features
            self.center.copy_(mean)
            spread = (shares @ (features - mean).square()).sqrt()
        self.spread.copy_(torch.where(spread > 0, spread, 1.0))
