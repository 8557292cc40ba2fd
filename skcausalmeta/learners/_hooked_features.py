"""Features of tasks as the hook of a learner gives them, on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_ROWS_PER_BLOCK = 4


def task_codes(
    net: Any, features: NDArray[Any], targets: NDArray[Any], n_way: int
) -> NDArray[Any] | None:
    """Codes (n_tasks, n_code) of support features (n_tasks, n, d)."""
    hook = net.module_.hook
    if hook is None:
        return None
    with torch.no_grad():
        code = hook.task_code(
            _as_hooked(net, features), _as_wanted(net, targets, n_way), n_way
        )
    return code.double().cpu().numpy()


def hooked(net: Any, features: NDArray[Any], codes: NDArray[Any] | None) -> Any:
    """Features (..., n, d) of tasks after the hook, float64."""
    hook = net.module_.hook
    if hook is None or codes is None:
        return features
    missing = -features.shape[-2] % _ROWS_PER_BLOCK
    n_rows = features.shape[-2]
    if missing:
        # The last digits do not depend on which rows come together.
        copies = np.repeat(features[..., :1, :], missing, axis=-2)
        features = np.concatenate([features, copies], axis=-2)
    with torch.no_grad():
        found = hook.transform(_as_hooked(net, features), _as_hooked(net, codes))
    return found.double().cpu().numpy()[..., :n_rows, :]


def hooked_episodes(
    net: Any,
    support: NDArray[Any],
    targets: NDArray[Any],
    query: NDArray[Any],
    ways: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Support and query features of many tasks after the hook.

    Parameters
    ----------
    support, query : ndarray of shape (n_tasks, n, d)
        Features of the backbone.
    targets : ndarray of shape (n_tasks, n_support)
        Class numbers or real targets.
    ways : ndarray of shape (n_tasks,)
        Classes of every task, 0 in regression.
    """
    if net.module_.hook is None:
        return support, query
    parts: dict[int, tuple[Any, Any]] = {}
    for way in np.unique(ways):
        for k in np.flatnonzero(ways == way):
            one = slice(k, k + 1)
            code = task_codes(net, support[one], targets[one], int(way))
            parts[int(k)] = (
                hooked(net, support[one], code)[0],
                hooked(net, query[one], code)[0],
            )
    found = [parts[k] for k in range(len(support))]
    return np.stack([one for one, _ in found]), np.stack([two for _, two in found])


def _as_hooked(net: Any, values: NDArray[Any]) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=net.device)


def _as_wanted(net: Any, targets: NDArray[Any], n_way: int) -> torch.Tensor:
    kind = torch.int64 if n_way else torch.float32
    return torch.as_tensor(targets, dtype=kind, device=net.device)
