"""Test episodes answered from features that were computed once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.few_shot._contenders import Split
from skcausalmeta.episodes import EpisodeSampler

N_TEST_QUERY = 15
AT_ONCE = 50
N_DIGITS = 4  # of the scores in a line of results


class Size(NamedTuple):
    """Shape and number of test episodes; the same episodes for all who ask."""

    n_way: int
    n_shot: int
    n_episodes: int

    @property
    def name(self) -> str:
        """As in the literature."""
        return f"{self.n_way}w{self.n_shot}s"

    def arguments(self, labels: np.ndarray) -> dict[str, int]:
        """Of `EpisodeSampler`: as many query rows as the classes have, up to 15."""
        rows = np.unique(labels, return_counts=True)[1].min()
        n_query = int(min(N_TEST_QUERY, rows - self.n_shot))
        return {"n_way": self.n_way, "n_shot": self.n_shot, "n_query": n_query}


class Answers(NamedTuple):
    """Accuracy of every episode, and the features it used."""

    scores: np.ndarray  # (n_episodes,)
    used: np.ndarray  # (n_episodes, n_features)

    def facts(self) -> dict[str, float]:
        """Mean accuracy and share of features in use."""
        return {
            "accuracy": float(self.scores.mean()),
            "used": float(self.used.mean()),
        }

    def to_dict(self) -> dict[str, Any]:
        """What a line of results keeps."""
        return {
            "scores": np.round(self.scores, N_DIGITS).tolist(),
            "sparsity": float(1 - self.used.mean()),
        }


def answer(head: Any, split: Split, size: Size) -> Answers:
    """Solve a head on the support features of all episodes, and score the queries.

    Features are centred by the support rows, as `SparseMetaClassifier` does.
    """
    features, labels = split
    sampler = EpisodeSampler(labels, **size.arguments(labels), random_state=0)
    episodes = sampler.draw(size.n_episodes)
    scores, used = [], []
    for begin in range(0, len(episodes), AT_ONCE):
        some = episodes[begin : begin + AT_ONCE]
        support, query = (
            np.stack([features[getattr(one, part)] for one in some]).astype(float)
            for part in ("support", "query")
        )
        middle = support.mean(axis=1, keepdims=True)
        solution = head.solve_episodes(
            torch.from_numpy(support - middle),
            torch.as_tensor(np.stack([one.support_targets for one in some])),
            size.n_way,
        )
        logits = (query - middle) @ solution.coef.numpy()
        found = (logits + solution.intercept.numpy()[:, None]).argmax(-1)
        wanted = np.stack([one.query_targets for one in some])
        scores.append((found == wanted).mean(axis=1))
        used.append((solution.coef != 0).any(-1).numpy())
    return Answers(np.concatenate(scores), np.concatenate(used))
