"""Training of a multi-task learner, and the facts that are stated afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...exceptions import InvalidInputError
from ...training import ReadRows, RowReader, Training, TrainingSettings, Validation
from ...utils import isolated_torch_rng, named_seeds, read_rows, stays_on_disk
from .._checks import check_scale
from .._inputs import flat_rows
from .._training import checkpoint_of, history_of, net_keywords, train
from ._correlated import correlated_groups
from ._experts import ConvExperts, MLPExperts
from ._net import TERMS, MultiTaskNet, routing_keywords
from ._new_task import ModuleFeatures
from ._objective import correlations
from ._passes import features_of, outputs_of
from ._routing import RoutedExperts, build_routed
from ._streams import env_numbers, held_out_rows, row_streams, statistics_rows
from ._targets import TaskTargets

_ROWS_FOR_FACTS = 2000
_PIXELS_FOR_UNITS = 10_000


def train_learner(
    learner: Any,
    rows: NDArray[Any],
    targets: TaskTargets,
    env_ids: NDArray[Any] | None,
    weights: NDArray[Any] | None = None,
) -> None:
    """Train the net of a learner, and set its fitted attributes.

    Parameters
    ----------
    learner : estimator
        Its parameters decide; it gets the attributes.
    rows : ndarray of shape (n, ...)
        Checked rows.
    targets : TaskTargets
        Targets of all tasks.
    env_ids : ndarray of shape (n,) or None
        Environment of every row; None: random folds.
    weights : ndarray of shape (n,), default=None
        Weights of the rows, > 0. None: all weigh the same.
    """
    settings = Training.of(learner.net_params)
    validation = Validation.of(learner.validation)
    seeds = named_seeds(
        learner.random_state, "weights", "order", "held-out", "folds", "training"
    )
    others = (targets.encoded, env_ids, *(() if weights is None else (weights,)))
    checkpoint = checkpoint_of(learner, settings, rows, *others)
    if checkpoint is not None:
        seeds = checkpoint.open(seeds)
    envs = env_numbers(env_ids, len(rows), seeds["folds"])
    held_out = held_out_rows(validation, len(rows), seeds["held-out"])
    reader = RowReader(
        rows.shape[1:], learner.input_shape, learner.device, seen_dtype=rows.dtype
    )
    reader.remember(rows)
    seen = statistics_rows(rows, ~held_out)
    groups = None
    if _finds_groups(learner):
        inputs = flat_rows(read_rows(rows, seen), reader)
        groups = correlated_groups(inputs, envs[seen], learner.n_modules)
    with isolated_torch_rng(seeds["weights"]):
        module = build_routed(learner, reader.sample_shape, targets, groups)
    if isinstance(module.experts, MLPExperts):
        module.experts.fit_inputs(flat_rows(read_rows(rows, seen), reader))
    else:
        check_scale(rows)
    source = ReadRows(rows, reader) if stays_on_disk(rows) else reader(rows)
    if isinstance(module.experts, ConvExperts):
        module.experts.set_statistics(source[torch.from_numpy(seen)])
    net = _make_net(learner, module, targets, settings, validation)
    size, seed = learner.batch_size, seeds["order"]
    streams = row_streams(source, targets.encoded, envs, held_out, size, seed, weights)
    with isolated_torch_rng(seeds["training"]):
        train(learner, net, streams, settings, checkpoint)
    learner.net_, learner.reader_, learner.targets_ = net, reader, targets
    learner.history_ = history_of(net, TERMS)
    learner.n_iter_ = len(learner.history_)
    _state_facts(learner, rows, held_out if held_out.any() else ~held_out)


def _finds_groups(learner: Any) -> bool:
    """Tell whether the groups of inputs are to be found; "single" has none."""
    given = learner.module_inputs
    found = isinstance(given, str) and given == "correlated"
    return found and learner.modules != "single"


def _make_net(
    learner: Any,
    module: RoutedExperts,
    targets: TaskTargets,
    settings: TrainingSettings,
    validation: Validation | None,
) -> MultiTaskNet:
    if settings.precision != "float32" or settings.compile is not False:
        raise InvalidInputError(
            "Multi-task learners train in float32 and are not compiled. Got "
            f"precision={settings.precision!r} and compile={settings.compile!r} in "
            "net_params; leave them out."
        )
    if learner.irm_scale == "inputs" and targets.layout == "pixels":
        raise InvalidInputError(
            "irm_scale='inputs' needs one target per row and task. Got targets per "
            "pixel; take another irm_scale."
        )
    keywords = net_keywords(
        learner, settings, validation, monitor="valid_loss", lower_is_better=True
    )
    keywords = {**keywords, "verbose": learner.verbose, **settings.keywords}
    given = learner.task_weights
    weights = torch.as_tensor(
        targets.loss_weights(given), dtype=torch.float32, device=learner.device
    )
    return MultiTaskNet(
        module,
        kinds=[(kind.name, kind.n_classes) for kind in targets.kinds],
        task_weights=weights,
        weights={
            "decorrelation": learner.lambda_dec,
            "sparsity": learner.lambda_sps,
            "balance": learner.lambda_bal,
            "irm": learner.lambda_irm,
        },
        irm_form=learner.irm_form,
        irm_scale=learner.irm_scale,
        uncertainty=isinstance(given, str) and given == "uncertainty",
        **routing_keywords(keywords, learner.lr, learned=learner.modules == "mtcrl"),
    )


def _state_facts(learner: Any, rows: NDArray[Any], seen: NDArray[np.bool_]) -> None:
    """State scores of the tasks on some rows, units, routing and correlations."""
    module, reader, targets = learner.net_.module_, learner.reader_, learner.targets_
    n_modules = module.experts.n_modules
    learner.tasks_ = targets.ids
    learner.n_features_out_ = module.experts.out_features * n_modules
    learner.module_inputs_ = module.experts.inputs_read()
    outputs = outputs_of(module, reader, rows, np.flatnonzero(seen))
    by_task = zip(targets.kinds, targets.encoded[:, seen], outputs, strict=True)
    learner.task_scores_ = np.array(
        [kind.score_encoded(given, found) for kind, given, found in by_task]
    )
    # Rows from everywhere: they may be sorted by time or environment.
    step = -(-len(rows) * targets.encoded.shape[2] // _PIXELS_FOR_UNITS)
    features = features_of(module, reader, rows[::step], pooled=False)
    features = features.reshape(-1, learner.n_features_out_)
    learner.module_units_ = ModuleFeatures.of(features, n_modules)
    with torch.no_grad():
        spread = np.arange(0, len(rows), -(-len(rows) // _ROWS_FOR_FACTS))
        part = reader(read_rows(rows, spread))
        learner.routing_ = module.gate(part).mean(dim=0).cpu().numpy()
        learner.module_correlation_ = _correlation(module.experts(part))


def _correlation(modules: Tensor) -> NDArray[np.float64]:
    """Return root mean squared correlations of the units of two modules (K, K)."""
    squares = correlations(modules).pow(2).mean(dim=(1, 3))
    return squares.sqrt().double().cpu().numpy()
