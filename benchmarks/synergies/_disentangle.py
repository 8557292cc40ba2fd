"""One cell of the disentanglement benchmark: data, contenders, scores."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import LRScheduler
from torch import nn

from skcausalmeta.datasets import make_sparse_tasks
from skcausalmeta.heads import LassoHead, RidgeHead
from skcausalmeta.learners import SparseMetaRegressor
from skcausalmeta.metrics import dci_scores, mean_corr_coef, r_score

N_FACTORS = 6
Array = np.ndarray

# How long each mixing is trained, on how many tasks, and with which backbone.
RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"n_tasks": 1000, "n_batches": 600, "lr": 0.03, "hidden": ()},
    "mlp": {"n_tasks": 1000, "n_batches": 1500, "lr": 3e-3, "hidden": (256, 256)},
    # Chosen with seed 50: a stronger Lasso keeps the encoder from ever seeing well.
    "shapes3d": {
        "n_tasks": 800,
        "n_batches": 2000,
        "lr": 3e-3,
        "lasso_reg": 0.1,
        "hidden": (256,),
    },
}
COMMON: dict[str, Any] = {
    "n_per_task": 50,
    "lasso_reg": 0.3,
    "ridge_reg": 1e-7,
    "tasks_per_batch": 8,
    "n_test": 2000,
    "size": 32,
}
BATCHES_PER_EPOCH = 50


class Encoder(nn.Module):
    """Convolutions of the published run and linear layers, for images of bytes.

    Parameters
    ----------
    input_shape : tuple of int
        (channels, height, width).
    hidden : tuple of int
        Widths between the convolutions and the codes.
    out_features : int
        Number of codes.
    """

    def __init__(
        self, input_shape: tuple[int, ...], hidden: tuple[int, ...], out_features: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = input_shape[0]
        for n_filters, kernel in ((32, 4), (32, 4), (64, 2), (64, 2)):
            layers += [nn.Conv2d(width, n_filters, kernel, stride=2), nn.ReLU()]
            width = n_filters
        layers.append(nn.Flatten())
        for size in hidden:
            layers += [nn.LazyLinear(size), nn.ReLU()]
        layers.append(nn.LazyLinear(out_features))
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            self.layers(torch.zeros(1, *input_shape))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Codes (n, out_features) of images scaled to the range 0 to 1."""
        return self.layers(2 * images - 1)


def make_data(settings: dict[str, Any]) -> dict[str, Any]:
    """Training tasks with correlated factors; test rows with uniform factors."""
    bunch = make_sparse_tasks(
        settings["n_tasks"],
        settings["n_per_task"],
        correlation=settings["rho"],
        support=settings["support"],
        block_size=settings["block_size"],
        mixing=settings["mixing"],
        size=settings["size"],
        random_state=settings["seed"],
    )
    factors = bunch.mixing.draw_latents(settings["n_test"], random_state=0)
    rows, test = bunch.data, bunch.mixing(factors)
    if rows.ndim == 2:
        # Directions of little variance are as easy to learn as the others then.
        n_directions = N_FACTORS if settings["mixing"] == "linear" else None
        whitening = PCA(n_directions, whiten=True).fit(rows)
        rows, test = whitening.transform(rows), whitening.transform(test)
    return {
        "X": rows,
        "y": bunch.target,
        "tasks": bunch.tasks,
        "test": test,
        "factors": factors,
    }


def make_learner(kind: str, settings: dict[str, Any]) -> SparseMetaRegressor:
    """The learner of a cell, with a sparse or a dense inner problem."""
    ridge = RidgeHead(settings["ridge_reg"])
    params = {"hidden": settings["hidden"], "out_features": N_FACTORS}
    if settings["mixing"] != "shapes3d":
        params["standardize"] = False
    n_epochs = -(-settings["n_batches"] // BATCHES_PER_EPOCH)
    images = settings["mixing"] == "shapes3d"
    return SparseMetaRegressor(
        LassoHead(settings["lasso_reg"]) if kind == "lasso" else ridge,
        backbone=Encoder if images else "mlp",
        backbone_params=params,
        split="none",
        lr=settings["lr"],
        tasks_per_batch=settings["tasks_per_batch"],
        # Measured: more images at once fall out of the cache of a CPU.
        micro_batch=2 if images else settings["tasks_per_batch"],
        batches_per_epoch=min(BATCHES_PER_EPOCH, settings["n_batches"]),
        max_epochs=n_epochs,
        head_tol=1e-4,
        fit_head=False,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=n_epochs)],
        verbose=0,
        random_state=settings["seed"],
    )


def score(factors: Array, codes: Array) -> dict[str, float]:
    """MCC, R and DCI of codes on rows with uniform factors."""
    dci = dci_scores(factors, codes)
    return {
        "mcc": mean_corr_coef(factors, codes),
        "r": r_score(factors, codes),
        "disentanglement": dci.disentanglement,
        "completeness": dci.completeness,
    }


def fit_ica(codes: Array, seed: int) -> FastICA:
    """FastICA of codes; whether it converged is read from its iterations."""
    ica = FastICA(N_FACTORS, whiten="unit-variance", max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ica.fit(codes)


def measure_cell(settings: dict[str, Any]) -> dict[str, Any]:
    """Scores and seconds of inner Lasso, inner ridge, and inner ridge + FastICA."""
    start = time.perf_counter()
    data = make_data(settings)
    out: dict[str, Any] = {"data": {"seconds": time.perf_counter() - start}}
    for kind in ("lasso", "ridge"):
        learner = make_learner(kind, settings)
        start = time.perf_counter()
        learner.fit(data["X"], data["y"], tasks=data["tasks"])
        seconds = time.perf_counter() - start
        codes = learner.transform(data["test"])
        out[kind] = {**score(data["factors"], codes), "seconds": seconds}
        if kind == "ridge":
            start = time.perf_counter()
            # Fitted on the training rows: the uniform ones are for evaluation.
            ica = fit_ica(learner.transform(data["X"][:20_000]), settings["seed"])
            seconds += time.perf_counter() - start
            scores = score(data["factors"], ica.transform(codes))
            converged = ica.n_iter_ < ica.max_iter
            out["ridge + ICA"] = {**scores, "seconds": seconds, "converged": converged}
    return out
