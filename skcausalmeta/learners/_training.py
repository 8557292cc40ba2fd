"""Training of a learner: its net, its streams of episodes, its checkpoint."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import cycle, islice
from os import fspath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import validate_parameter_constraints
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.nn.parameter import is_lazy

from ..backbones import (
    build_augmentation,
    build_backbone,
    is_frozen,
    prepare_backbone,
    refuse_other_numbers,
    takes_images,
    wants_integers,
)
from ..episodes import Episode
from ..exceptions import InvalidInputError
from ..training import (
    FACT_PREFIX,
    HOOK_SEED,
    EpisodeStream,
    HookedFeatures,
    RowReader,
    TaskProgress,
    TrainingCheckpoint,
    TrainingSettings,
    Validation,
    WarmStart,
    check_finite_weights,
    hooked_features,
    optimizer_keywords,
)
from ..utils import SparseRows, isolated_torch_rng
from ._checks import check_scale
from ._episode_plan import EpisodePlan
from ._inputs import fit_inputs, refuse_shared_statistics

# Parameters that may differ between a training and its continuation.
_FREE = frozenset({"device", "net_params", "verbose"})
# Keywords of skorch's net that a learner does not set by itself.
_OF_SKORCH = inspect.signature(NeuralNet).parameters.keys() - {"module", "kwargs"}
_PARTS_OF_SKORCH = frozenset(
    {"callbacks", "criterion", "iterator_train", "iterator_valid", "optimizer"}
)
_MOST_ROWS = 1000
_MOST_NESTED = 20
# Validation tasks around a common predictor that are solved together.
_VALIDATED = 10
_SIMPLE = (type(None), bool, int, float, str, list, tuple, np.ndarray)


@dataclass(frozen=True)
class FitStage:
    """What a fit works on, once it is checked.

    Attributes
    ----------
    rows, targets : ndarray
        Checked rows and targets.
    tasks, envs : ndarray or None
        Ids of the rows.
    reader : RowReader
        From rows to tensors.
    settings : TrainingSettings
        How training runs.
    validation : Validation or None
        What is held out.
    seeds : dict
        Seeds by name.
    checkpoint : TrainingCheckpoint or None
        Where training is kept.
    """

    rows: NDArray[Any]
    targets: NDArray[Any]
    tasks: NDArray[Any] | None
    envs: NDArray[Any] | None
    reader: RowReader
    settings: TrainingSettings
    validation: Validation | None
    seeds: dict[str, int]
    checkpoint: TrainingCheckpoint | None


def reader_for(learner: Any, rows: Any) -> RowReader:
    """Return the reader of rows, with the axes that the backbone of a learner wants."""
    row_shape = tuple(rows.shape[1:])
    make = partial(
        RowReader,
        row_shape,
        learner.input_shape,
        learner.device,
        seen_dtype=rows.dtype,
    )
    reader = make()
    reader.remember(rows)
    given = row_shape if learner.input_shape is None else tuple(learner.input_shape)
    if reader.sample_shape == given or learner.augment is not None:
        return reader
    if takes_images(learner.backbone, given, reader.sample_shape):
        return reader
    plain = make(images=False)
    plain.remember(rows)
    return plain


def build_module(
    learner: Any,
    rows: NDArray[Any],
    reader: RowReader,
    settings: TrainingSettings,
    seeds: dict[str, int],
) -> tuple[nn.Module, HookedFeatures]:
    """Build the backbone of a learner, and what stands between it and a head.

    A backbone that standardises its inputs gets the statistics of the rows; the reader
    learns whether the backbone takes the rows that it has seen as integers.

    Raises
    ------
    InvalidInputError
        If the backbone does not go with the rows or with `batch_norm`, or the rows
        leave single precision.
    """
    is_module = isinstance(learner.backbone, nn.Module)
    with isolated_torch_rng(seeds["weights"]):
        backbone = build_backbone(learner._backbone(reader), reader.sample_shape)
        reader.integers = wants_integers(
            backbone, reader.sample_shape, reader.seen_dtype
        )
        if not reader.integers:
            refuse_other_numbers(backbone, reader.sample_shape)
        if learner.batch_norm == "running":
            refuse_shared_statistics(backbone)
        # The weights of a frozen module go with the inputs that it had before.
        is_ready = is_module and is_frozen(backbone)
        standardises = not is_ready and fit_inputs(backbone, rows, reader)
    if not standardises and learner.backbone != "identity":
        check_scale(rows)
    if settings.precision != "float32" or settings.compile is not False:
        backbone = prepare_backbone(
            backbone, settings.precision, settings.compile, learner.device
        )
    seed = seeds[HOOK_SEED]
    return backbone, hooked_features(learner, backbone, reader.sample_shape, seed)


def check_keywords(
    net: str, keywords: Mapping[str, Any], constraints: dict[str, list[Any]]
) -> None:
    """Refuse keywords that a net does not have, or that are out of range.

    Parameters
    ----------
    net : str
        Name of its class, for messages.
    keywords : mapping
        Those of `net_params`.
    constraints : dict
        Its own keywords, beside those of skorch, with what they may be.

    Raises
    ------
    ValueError
        With the name.
    """
    known_names = _OF_SKORCH | constraints.keys()
    for name in keywords:
        of_part = "__" in name and name.partition("__")[0] in _PARTS_OF_SKORCH
        if name not in known_names and not of_part:
            close = get_close_matches(name, known_names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " Remove it."
            raise InvalidInputError(
                "The 'net_params' parameter must hold parameters of Training, keywords "
                f"of skorch.NeuralNet, and of {net}: {sorted(constraints)}. Got "
                f"{name!r}.{hint}"
            )
    given = {name: value for name, value in keywords.items() if name in constraints}
    known = {name: constraints[name] for name in given}
    validate_parameter_constraints(known, given, caller_name=net)


def length_of(learner: Any, name: str) -> int:
    """Return a length of training; "auto" is what suits the kind of tasks."""
    value = getattr(learner, name)
    return int(learner._lengths[name] if value == "auto" else value)


def net_keywords(
    learner: Any,
    settings: TrainingSettings,
    validation: Validation | None,
    *,
    monitor: str,
    lower_is_better: bool,
) -> dict[str, Any]:
    """Return the keywords of the skorch net of a learner."""
    callbacks = _copied_callbacks(learner.callbacks)
    if validation is not None:
        # Without patience the best weights are still restored.
        patience = validation.patience or length_of(learner, "max_epochs")
        stopping = EarlyStopping(
            monitor=monitor,
            lower_is_better=lower_is_better,
            patience=patience,
            threshold=0.0,
            load_best=True,
            sink=_silent,
        )
        callbacks.append(("best_weights", stopping))
    return {
        **optimizer_keywords(learner.optimizer),
        "lr": learner.lr,
        "max_epochs": length_of(learner, "max_epochs"),
        "callbacks": callbacks,
        "device": learner.device,
        "verbose": 0,
        "train_split": None,
        **settings.keywords,
    }


def episode_keywords(
    learner: Any,
    settings: TrainingSettings,
    validation: Validation | None,
    monitored: tuple[str, bool] | None = None,
) -> dict[str, Any]:
    """Return the keywords of a net that trains on episodes."""
    monitor, lower_is_better = monitored or learner._monitor
    keywords = net_keywords(
        learner,
        settings,
        validation,
        monitor=monitor,
        lower_is_better=lower_is_better,
    )
    if learner.verbose:
        progress = ("progress", TaskProgress(learner.batches_per_epoch))
        keywords["callbacks"] = [*keywords["callbacks"], progress]
    return {"batch_norm": learner.batch_norm, **keywords}


def episode_streams(
    learner: Any,
    stage: FitStage,
    plan: EpisodePlan,
    scores: NDArray[Any] | None = None,
) -> tuple[EpisodeStream, EpisodeStream | None]:
    """Return the streams of training and of validation episodes."""
    X, reader, validation = stage.rows, stage.reader, stage.validation
    augment = None if learner.augment is None else build_augmentation(learner.augment)
    train = EpisodeStream(
        X,
        reader,
        plan.train,
        learner.batches_per_epoch,
        length_of(learner, "tasks_per_batch"),
        augment=augment,
        seed=stage.seeds["augmentation"],
        scores=scores,
    )
    if validation is None or plan.valid is None:
        return train, None
    # The same episodes after every epoch, so that epochs can be compared.
    episodes = cycle(plan.valid(validation.n_episodes))

    def replay(n_episodes: int) -> list[Episode]:
        return list(islice(episodes, n_episodes))

    size = 1 if scores is None else min(_VALIDATED, validation.n_episodes)
    n_batches = -(-validation.n_episodes // size)
    valid = EpisodeStream(X, reader, replay, n_batches, size, scores=scores)
    return train, valid


def checkpoint_of(
    learner: Any,
    settings: TrainingSettings,
    rows: NDArray[Any],
    *others: NDArray[Any] | None,
) -> TrainingCheckpoint | None:
    """Return the checkpoint of a fit on this data, None where none is asked for."""
    if settings.checkpoint_path is None:
        return None
    facts = fit_facts(learner, settings, rows, *others)
    return TrainingCheckpoint(fspath(settings.checkpoint_path), facts)


def train(
    learner: Any,
    net: Any,
    streams: Any,
    settings: TrainingSettings,
    checkpoint: TrainingCheckpoint | None,
) -> None:
    """Train the net of a learner, from its checkpoint or its last fit if asked to.

    Raises
    ------
    InvalidInputError
        If the weights of the fit before have other sizes.
    DivergenceError
        If the last step left weights that are not finite.
    """
    if settings.warm_start and hasattr(learner, "net_"):
        warm_start = WarmStart(learner.net_.module_)
        net.callbacks = [*(net.callbacks or []), ("warm_start", warm_start)]
    if checkpoint is None:
        net.fit(streams)
    else:
        net.callbacks = [*(net.callbacks or []), ("checkpoint", checkpoint)]
        checkpoint.train(net, streams)
    check_finite_weights(net.module_)


def adopt(learner: BaseEstimator, fitted: BaseEstimator) -> None:
    """Take over all that a fitted copy has learned, at once."""
    learner.__dict__ = fitted.__dict__


def history_of(net: Any, terms: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return one record per finished epoch: losses, seconds, facts of the hook."""
    keys = ("epoch", "train_loss", *terms, "valid_loss", "valid_accuracy", "dur")
    history = []
    for row in net.history:
        if "train_loss" in row:
            facts = _facts_of(row["batches"])
            history.append({key: row[key] for key in keys if key in row} | facts)
    return history


def _facts_of(batches: list[dict[str, Any]]) -> dict[str, float]:
    """Return the facts of the hook in the steps of an epoch, on average."""
    names = {key for batch in batches for key in batch if key.startswith(FACT_PREFIX)}
    return {
        name.removeprefix(FACT_PREFIX): float(
            np.mean([batch[name] for batch in batches if name in batch])
        )
        for name in sorted(names)
    }


def _copied_callbacks(given: list[Any] | None) -> list[Any]:
    """Copy callbacks, since skorch changes them and parameters must stay as given.

    The copies are shallow: an object that a callback writes to stays the caller's.
    """
    return [
        (one[0], copy.copy(one[1])) if isinstance(one, tuple) else copy.copy(one)
        for one in given or []
    ]


def _silent(*args: Any) -> None:
    """Print nothing."""


def fit_facts(
    estimator: BaseEstimator,
    settings: TrainingSettings,
    rows: NDArray[Any],
    *others: NDArray[Any] | None,
) -> dict[str, str]:
    """Return digests of the parameters that decide a fit, by name, and of its data.

    About a thousand of the rows are read, and all of everything else.
    """
    step = max(1, len(rows) // _MOST_ROWS)
    some: Any = rows[::step]
    if isinstance(rows, SparseRows):
        part = rows.take(slice(None, None, step))
        some = (part.data, part.indices, part.indptr)
    data = [rows.shape, str(rows.dtype), some, *others]
    params = estimator.get_params(deep=False)
    params |= {
        "precision": settings.precision,
        "compile": settings.compile,
        "warm_start": settings.warm_start,
        **settings.keywords,
    }
    facts = {k: digest(v) for k, v in params.items() if k not in _FREE}
    return {**facts, "data": digest(data)}


def digest(value: Any) -> str:
    """Return a digest of a value, the same in every process."""
    found = hashlib.blake2b(digest_size=16)
    _tell(value, found, 0)
    return found.hexdigest()


def _tell(value: Any, found: Any, depth: int) -> None:
    def told(*parts: Any) -> None:
        found.update(f"{type(value).__name__}(".encode())
        for part in parts:
            if isinstance(part, bytes):
                found.update(part)
            elif depth < _MOST_NESTED:
                _tell(part, found, depth + 1)
        found.update(b")")

    if value is None or isinstance(value, bool | int | float | str | np.generic):
        told(repr(value).encode())
    elif isinstance(value, np.ndarray):
        plain = value.tolist() if value.dtype == object else None
        content = repr(plain).encode() if plain is not None else value.tobytes()
        told(str(value.dtype).encode(), str(value.shape).encode(), content)
    elif isinstance(value, torch.Tensor):
        told(b"" if is_lazy(value) else value.detach().cpu().numpy())
    elif isinstance(value, Mapping):
        names = sorted(value, key=repr)
        told(*(part for name in names for part in (name, value[name])))
    elif isinstance(value, list | tuple | set | frozenset):
        told(
            *(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
        )
    elif isinstance(value, nn.Module):
        own = {k: v for k, v in vars(value).items() if not k.startswith("_")}
        told(own, dict(value.state_dict()), *value.children())
    elif isinstance(value, type) or hasattr(value, "__qualname__"):
        told(f"{value.__module__}.{value.__qualname__}".encode())
    elif isinstance(value, np.random.RandomState):
        told()  # its seeds are in the checkpoint, and drawing them moved it
    elif hasattr(value, "get_params"):
        told(value.get_params(deep=False))
    else:
        own = vars(value) if hasattr(value, "__dict__") else {}
        told({k: v for k, v in own.items() if isinstance(v, _SIMPLE)})
