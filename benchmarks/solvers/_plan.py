"""What the arguments of the solver benchmark ask for, and how runs are keyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from benchmarks._harness import Harness
from benchmarks.solvers._checkout import Checkout
from benchmarks.solvers._conic import peer_versions
from benchmarks.solvers._problems import (
    SIZES,
    SMOKE_SIZES,
    Batch,
    Size,
    draw_batch,
    tune_lambda1,
)
from benchmarks.solvers._race import Pace

TOL = 1e-6
PLAIN_FISTA = "plain fista"
SHARES = {"sparse": 0.35, "dense": 1.0}


class Cell(NamedTuple):
    """One run: its key, its measurement and how many laps are timed in it."""

    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]
    n_laps: int


@dataclass(frozen=True)
class Plan:
    """Sizes, batches and pace of a run of the benchmark."""

    harness: Harness
    smoke: bool
    threads: int
    kind: str
    main_only: bool = False
    before: Checkout | None = None

    @property
    def sizes(self) -> tuple[Size, ...]:
        return SMOKE_SIZES if self.smoke else SIZES

    @property
    def batches(self) -> tuple[int, ...]:
        return (self.tasks,) if self.smoke or self.main_only else (1, 8, 64)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of features that are on, by name."""
        return {"sparse": SHARES["sparse"]} if self.main_only else SHARES

    @property
    def published_steps(self) -> tuple[int, int]:
        """Projected gradient steps as published, and until little changes."""
        return (5, 20) if self.smoke else (5, 1000)

    @property
    def tasks(self) -> int:
        """The batch that the targets are stated for."""
        return 2 if self.smoke else 8

    def pace(self, budget: float) -> Pace:
        """Five timed calls in this many seconds a contender; the pilot for smoke."""
        return Pace(1, 0.0) if self.smoke else Pace(5, budget)

    def draw(
        self, size: Size, share: float, n_tasks: int, n_useful: int | None = None
    ) -> Batch:
        """Tasks with the lambda1 that leaves this share of the features on."""
        lambda1 = self.lambda1(size, share, n_useful)
        return draw_batch(size, n_tasks, lambda1, kind=self.kind, n_useful=n_useful)

    def lambda1(self, size: Size, share: float, n_useful: int | None = None) -> float:
        settings = {
            "part": "tuning",
            "kind": self.kind,
            "size": size,
            "share": share,
            "n_useful": n_useful,
        }
        measure = partial(tune_lambda1, size, share, self.kind, n_useful)
        return self.harness.run(settings, measure)["lambda1"]

    def key(
        self, part: str, pace: Pace, contenders: Sequence[str], **settings: Any
    ) -> dict[str, Any]:
        """Settings of a run; other threads, peers or solvers make another run."""
        return {
            "part": part,
            "kind": self.kind,
            "threads": self.threads,
            "pace": pace,
            "contenders": contenders,
            "versions": peer_versions(contenders),
            **settings,
        }
