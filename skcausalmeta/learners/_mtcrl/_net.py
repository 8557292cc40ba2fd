"""Training loop of multi-task nets with environments, on skorch."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from torch import Tensor, nn

from ...exceptions import InvalidInputError
from ...training import PortableNet, check_finite_loss
from .._training import check_keywords
from ._gradients import add_flat, task_gradients
from ._objective import (
    balance,
    decorrelation,
    in_variable,
    input_gradients,
    invariance,
    output_gradients,
    risk_weights,
    routing_gradients,
    shares,
    sparsity,
    task_losses,
    task_slopes,
)
from ._routing import Routed, RoutedExperts
from ._streams import RowBatch, RowStream

TERMS = ("tasks", "decorrelation", "sparsity", "balance", "irm")
_MOST_CORRELATED_ROWS = 256
# Keywords of the net, as net_params gives them, beside those of skorch.
_KEYWORDS: dict[str, list[Any]] = {
    "warmup": [tuple, list],
    "routing_lr": [Interval(Real, 0, None, closed="neither"), None],
    "temperature": [Interval(Real, 0, 1, closed="right")],
}


class MultiTaskNet(PortableNet):
    """skorch net that minimises the MT-CRL objective.

    ``sum_t w_t L_t + l_dec L_dec + l_sps L_sps + l_bal L_bal + l_irm L_girm``, the
    last four only for the routing "mtcrl"; with ``irm_scale`` "outputs" or
    "inputs" the last one for every routing.

    Parameters
    ----------
    module : RoutedExperts
        Modules, routing and heads.
    kinds : list of (str, int)
        "binary", "multiclass" or "regression" of every task, and its classes.
    task_weights : Tensor of shape (n_tasks,)
        Weights w_t.
    weights : dict
        Weights of "decorrelation", "sparsity", "balance" and "irm".
    irm_form : {"norm", "variance", "unbiased"}, default="norm"
        Form of the graph invariance.
    irm_scale : {"relative", "absolute", "logits", "outputs", "inputs"}, \
default="relative"
        Gradient in log A, in A, in Theta, or in factors on the outputs or the inputs
        of a task.
    warmup : tuple of float, default=(0.2, 0.6)
        Shares of training at which the weights of sparsity and invariance begin to
        rise from 0 and reach their values: the modules have to mean something first.
    temperature : float, default=1.0
        Temperature of the routing at the end, in (0, 1]: it falls, geometrically,
        while the weights above rise. Below 1 the gates become open or shut.
    uncertainty : bool, default=False
        Divide every L_t by a learned variance.
    criterion : type, default=torch.nn.Identity
        Not used; the loss depends on the kinds of the tasks.
    **kwargs : dict
        Keywords of `skorch.NeuralNet`.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._experts import MLPExperts
    >>> from skcausalmeta.learners._mtcrl._net import MultiTaskNet
    >>> from skcausalmeta.learners._mtcrl._routing import RoutedExperts
    >>> module = RoutedExperts(MLPExperts(3, n_modules=2), n_tasks=1)
    >>> net = MultiTaskNet(module, kinds=[("binary", 2)], task_weights=torch.ones(1),
    ...                    weights={}, lr=0.1).initialize()
    >>> net.initialized_
    True
    """

    def __init__(
        self,
        module: RoutedExperts,
        *,
        kinds: list[tuple[str, int]],
        task_weights: Tensor,
        weights: dict[str, float],
        irm_form: str = "norm",
        irm_scale: str = "relative",
        warmup: tuple[float, float] = (0.2, 0.6),
        temperature: float = 1.0,
        uncertainty: bool = False,
        criterion: type[nn.Module] = nn.Identity,
        **kwargs: Any,
    ) -> None:
        self.kinds = kinds
        self.task_weights = task_weights
        self.weights = weights
        self.irm_form = irm_form
        self.irm_scale = irm_scale
        self.warmup = warmup
        self.temperature = temperature
        self.uncertainty = uncertainty
        super().__init__(module, criterion=criterion, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        scores = [
            (name, PassthroughScoring(name, on_train=True))
            for name in ("train_loss", *TERMS)
        ]
        valid = ("valid_loss", PassthroughScoring("valid_loss"))
        table = ("print_log", PrintLog())  # silent where `verbose` is 0
        return [("epoch_timer", EpochTimer()), *scores, valid, table]

    # -- skorch steps ---------------------------------------------------------------

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Return the streams of training and validation, which come ready."""
        self.labelled_ = X[0].labelled.clamp_min(1e-12)
        self.n_envs_, self.n_steps_ = X[0].n_envs, self.max_epochs * len(X[0])
        self.step_ = len(self.history) * len(X[0])  # of a training that goes on
        return X

    def get_iterator(self, dataset: RowStream, training: bool = False) -> Any:
        """Return a stream as it is: it is its own iterator."""
        return dataset

    def check_data(self, X: Any, y: Any = None) -> None:
        """Check nothing: streams come ready."""

    def train_step_single(self, batch: RowBatch, **fit_params: Any) -> dict[str, Any]:
        """Leave the gradient of the objective on a batch at the parameters."""
        self._set_training(True)
        self.step_ += 1
        if self.module_.routing == "mtcrl":
            self.module_.temperature.fill_(self.temperature ** self._rise())
        batch.rows.requires_grad_(self.irm_scale == "inputs")
        passed = self.module_(batch.rows)
        terms = self.terms(passed, batch)
        loss = self._weighted(terms)
        check_finite_loss(
            loss, self.history, "lower lr, or scale the rows and the targets"
        )
        self._leave_gradients(loss, passed, batch)
        for name in TERMS:
            value = float(terms[name].detach()) if name in terms else 0.0
            self.history.record_batch(name, value)
        return {"loss": loss.detach(), "y_pred": None}

    def _leave_gradients(self, loss: Tensor, passed: Routed, batch: RowBatch) -> None:
        """Leave the gradient at the parameters, changed in the modules by surgery."""
        surgery = self.module_.surgery
        loss.backward(retain_graph=surgery is not None)
        if surgery is None:
            return
        shared = list(self.module_.experts.parameters())
        targets, known = batch.known_targets()
        losses = task_losses(passed.outputs, targets, self.kinds)
        by_task = task_gradients(self._task_losses(losses, known), shared)
        # What the penalties left there stays.
        add_flat(shared, surgery(by_task).sum(dim=0) - by_task.sum(dim=0))

    def validation_step(self, batch: RowBatch, **fit_params: Any) -> dict[str, Any]:
        """Return the sum of the task losses on held-out rows."""
        self._set_training(False)
        with torch.no_grad():
            targets, known = batch.known_targets()
            losses = task_losses(self.module_(batch.rows).outputs, targets, self.kinds)
        return {"loss": self._task_loss(losses, known), "y_pred": None}

    # -- objective ------------------------------------------------------------------

    def terms(self, passed: Routed, batch: RowBatch) -> dict[str, Tensor]:
        """Return the terms of the objective, without their weights."""
        targets, known = batch.known_targets()
        losses = task_losses(passed.outputs, targets, self.kinds)
        terms = {"tasks": self._task_loss(losses, known)}
        routing = passed.routing
        if routing is not None and self.module_.routing == "mtcrl":
            terms.update(self._graph_terms(passed, batch, routing))
        if self.weights.get("irm") and self._rise() and self._penalised():
            weights = self._risk_weights(batch, known)
            if self.irm_scale == "inputs":
                gradients = self._input_gradients(losses, batch, weights)
            else:
                gradients = self._gradients(passed, targets, weights)
            terms["irm"] = self._invariance(gradients, weights)
        return terms

    def _graph_terms(
        self, passed: Routed, batch: RowBatch, routing: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of modules and routing that need no targets."""
        terms, divided = {}, shares(routing)
        if self.weights.get("decorrelation"):
            terms["decorrelation"] = decorrelation(_thinned(passed.modules, batch))
        if self.weights.get("sparsity"):
            terms["sparsity"] = sparsity(divided)
        if self.weights.get("balance"):
            terms["balance"] = balance(divided)
        return terms

    def _penalised(self) -> bool:
        """Tell whether the routing has what the invariance differentiates in."""
        return (
            self.irm_scale in ("outputs", "inputs") or self.module_.routing == "mtcrl"
        )

    def _gradients(self, passed: Routed, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the gradients of risks (n_environments, n_tasks, n) to penalise."""
        slopes = task_slopes(passed.outputs, targets, self.kinds)
        if self.irm_scale == "outputs" or passed.routing is None:
            return output_gradients(slopes, passed.outputs, weights)
        slopes = self.module_.head_slopes(slopes, passed.routed)
        found = routing_gradients(slopes, passed.modules, weights)
        return in_variable(found, passed.routing, self.irm_scale)

    def _input_gradients(
        self, losses: Tensor, batch: RowBatch, weights: Tensor
    ) -> Tensor:
        """Return the gradients of risks in factors on the inputs of the tasks."""
        centred = self.module_.experts.centred(batch.rows)
        products = input_gradients(losses, batch.rows, centred)
        return torch.einsum("etn,tnp->etp", weights, products)

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        rise = self._rise()
        weights = {"tasks": 1.0, **self.weights}
        for name in ("sparsity", "irm"):
            weights[name] = rise * weights.get(name, 0.0)
        values = torch.stack(list(terms.values()))
        return values @ values.new_tensor([weights[name] for name in terms])

    def _rise(self) -> float:
        """Return the share of its weight that sparsity, or invariance, has reached."""
        begin, end = self.warmup
        done = self.step_ / self.n_steps_
        if done >= end:
            return 1.0
        return (done - begin) / (end - begin) if done > begin else 0.0

    def _task_loss(self, losses: Tensor, known: Tensor) -> Tensor:
        """Return ``sum_t w_t L_t``."""
        return self._task_losses(losses, known).sum()

    def _task_losses(self, losses: Tensor, known: Tensor) -> Tensor:
        """Return every ``w_t L_t``; a rare label counts as often as its rows come."""
        means = (losses * known).mean(dim=1) / self.labelled_
        if self.uncertainty:
            spread = self.module_.log_variances
            means = means * torch.exp(-spread) + spread
        return self.task_weights * means

    def _risk_weights(self, batch: RowBatch, known: Tensor) -> Tensor:
        """Return the weights of rows in the risks of environments, or their halves."""
        numbers = torch.arange(self.n_envs_, device=batch.envs.device)
        members = numbers[:, None] == batch.envs
        if self.irm_form == "unbiased":
            # Batches come in random order, so odd and even places are random halves.
            first = torch.arange(len(batch), device=batch.envs.device) % 2 == 0
            members = torch.cat([members & first, members & ~first])
        if batch.n_pixels > 1:
            members = members.repeat_interleave(batch.n_pixels, dim=1)
        return risk_weights(members, known)

    def _invariance(self, gradients: Tensor, weights: Tensor) -> Tensor:
        if self.irm_form == "unbiased":
            half, other = gradients.split(self.n_envs_)
            return invariance(half, "unbiased", other=other)
        present = weights.sum(dim=2) > 0 if self.irm_form == "variance" else None
        return invariance(gradients, self.irm_form, present=present)


def _thinned(modules: Tensor, batch: RowBatch) -> Tensor:
    """Return at most some hundred rows: correlations need no more."""
    step = -(-modules.shape[1] // _MOST_CORRELATED_ROWS)
    # Any common factor would pick the same places of all images, such as one edge.
    while math.gcd(step, batch.n_pixels) > 1:
        step += 1
    return modules[:, ::step] if step > 1 else modules


def routing_keywords(
    keywords: dict[str, Any], lr: float, *, learned: bool
) -> dict[str, Any]:
    """Check the keywords of the net, and give Theta its learning rate.

    Parameters
    ----------
    keywords : dict
        Keywords of `MultiTaskNet`, and "routing_lr", the learning rate of Theta.
    lr : float
        Learning rate of the other parameters. Without "routing_lr", Theta gets three
        times as much.
    learned : bool
        Whether there is a Theta.

    Returns
    -------
    dict
        Keywords of `MultiTaskNet`.

    Raises
    ------
    ValueError
        If "warmup" or "routing_lr" is out of range.
    """
    check_keywords("MultiTaskNet", keywords, _KEYWORDS)
    _check_warmup(keywords.get("warmup", (0.0, 1.0)))
    found = {name: value for name, value in keywords.items() if name != "routing_lr"}
    if not learned:
        return found
    rate = keywords.get("routing_lr")
    group = ("theta", {"lr": 3 * lr if rate is None else rate, "weight_decay": 0.0})
    return {"optimizer__param_groups": [group], **found}


def _check_warmup(given: Any) -> None:
    if len(given) != 2 or not 0 <= given[0] <= given[1] <= 1:
        raise InvalidInputError(
            "warmup must be a pair (begin, end) with 0 <= begin <= end <= 1. "
            f"Got {given!r}."
        )
