"""Scores of predictions, and of models over jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from ._data import Array, Table
from ._jobs import Job

Scores = dict[int, list[float]]

IN_USE = "features in use"


def auc(y: Array, scores: Array) -> float:
    """Area under the ROC curve, NaN where there is one class."""
    n_positive = int((y == 1).sum())
    n_negative = len(y) - n_positive
    if not n_positive or not n_negative:
        return np.nan
    above = rankdata(scores)[y == 1].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def score(kind: str, y: Array, scores: Array) -> float:
    """The figure of a table: AUC, accuracy or root mean squared error."""
    if len(y) == 0:
        return np.nan
    if kind == "binary":
        return auc(y, scores)
    if kind == "classes":
        return float(np.mean(scores.argmax(axis=1) == y))
    return float(np.sqrt(np.mean(np.square(scores - y))))


def balanced_accuracy(y: Array, scores: Array) -> float:
    """Mean of the shares found of either class, log odds above 0 being class 1."""
    if len(np.unique(y)) < 2:
        return np.nan
    return float(np.mean([np.mean((scores > 0)[y == c] == c) for c in (0, 1)]))


def excess_share(y: Array, scores: Array) -> float:
    """Mean predicted probability of class 1 less its share."""
    return float(np.mean(expit(scores)) - np.mean(y)) if len(y) else np.nan


def better(kind: str, value: float) -> float:
    """A score of which more is better."""
    return -value if kind == "regression" else value


def run_jobs(
    model: Any, table: Table, jobs: Sequence[Job], shots: Sequence[int], more: bool
) -> tuple[dict[str, Scores], dict[int, float]]:
    """Scores by figure and number of labels, job by job, and CPU seconds a job.

    A model without ``zero_labels`` is not asked for 0 labels, and one whose
    ``uses_labels`` is false is asked once for all numbers of labels. Of models with a
    ``share_used`` "features in use" is a figure too. A job without query rows, in a
    task all of whose molecules are known, has no score.
    """
    measures = {table.metric: lambda y, s: score(table.kind, y, s)}
    if more and table.kind == "binary":
        measures["balanced accuracy"] = balanced_accuracy
        measures["excess share"] = excess_share
    asked = [k for k in shots if k > 0 or model.zero_labels]
    found: dict[str, Scores] = {name: {k: [] for k in asked} for name in measures}
    if hasattr(model, "share_used"):
        found[IN_USE] = {k: [] for k in asked if k}
    seconds = dict.fromkeys(asked, 0.0)
    n_answered = 0
    for job in jobs:
        if not len(job.query):
            for own in found.values():
                for values in own.values():
                    values.append(np.nan)
            continue
        n_answered += 1
        query, truth, scores = table.rows(job.query), table.y[job.query], None
        for k in asked:
            rows = job.support[k] if k else job.query[:0]
            if scores is None or model.uses_labels:
                begin = time.process_time()
                scores = model.predict_job(table.rows(rows), table.y[rows], query)
                seconds[k] += time.process_time() - begin
            for name, measure in measures.items():
                found[name][k].append(round(measure(truth, scores), 4))
            if k and IN_USE in found:
                found[IN_USE][k].append(round(model.share_used, 4))
    return found, {k: value / max(1, n_answered) for k, value in seconds.items()}


def mean_scores(model: Any, table: Table, jobs: Sequence[Job]) -> dict[int, float]:
    """Mean over jobs by number of labels, more being better."""
    found, _ = run_jobs(model, table, jobs, table.shots, more=False)
    return {
        k: better(table.kind, float(np.nanmean(values)))
        for k, values in found[table.metric].items()
    }
