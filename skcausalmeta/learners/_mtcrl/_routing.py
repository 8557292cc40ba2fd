"""Modules, the graph that routes them to tasks, and one head per task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...exceptions import InvalidInputError
from ._experts import ConvExpert, ConvExperts, MLPExpert, MLPExperts, named_expert
from ._gradients import make_surgery
from ._module_inputs import module_masks
from ._targets import TaskTargets

ROUTINGS = ("mtcrl", "mmoe", "shared", "single")


class Routed(NamedTuple):
    """Results of a pass; rows are samples, or pixels for dense targets."""

    modules: Tensor  # (n_modules, n_rows, h)
    routed: Tensor  # (n_tasks, n_rows, h)
    outputs: Tensor  # (n_tasks, n_rows, n_outputs)
    routing: Tensor | None  # (n_tasks, n_modules), None where it depends on the row


class RoutedExperts(nn.Module):
    """Task predictors on the routed sum of modules.

    ``y_t = f_t( sum_k A_tk phi_k(x) )`` with the routing A of shape (T, K):

    - "mtcrl": ``A = sigmoid(Theta / temperature)``, one learned matrix; training may
      lower the temperature, 1 at first, towards gates that are open or shut;
    - "mmoe": ``A(x)``, a softmax over modules that depends on the row;
    - "shared": all ones, so that the modules are one wide shared net;
    - "single": the identity, one module per task and nothing shared.

    Parameters
    ----------
    experts : MLPExperts or ConvExperts
        The modules.
    n_tasks : int
        Number T of tasks.
    n_outputs : int, default=1
        Outputs of a head; the largest number that a task needs.
    routing : {"mtcrl", "mmoe", "shared", "single"}, default="mtcrl"
        How modules reach tasks.
    gate_features : int, default=None
        Length of the standardised rows that "mmoe" gates read.
    head_hidden : int, default=0
        Width of a hidden layer in every head; 0: linear heads.
    gradients : {"sum", "pcgrad", "gradvac"}, default="sum"
        How training puts together the gradients of the tasks in the modules.

    Attributes
    ----------
    surgery : PCGrad, GradVac or None
        What does so; None for their sum.

    Raises
    ------
    InvalidInputError
        If the routing is unknown, "single" has another number of modules than
        tasks, or "mmoe" comes without `gate_features`.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._experts import MLPExperts
    >>> from skcausalmeta.learners._mtcrl._routing import RoutedExperts
    >>> net = RoutedExperts(MLPExperts(10, n_modules=4), n_tasks=3)
    >>> net(torch.zeros(5, 10)).outputs.shape, net.routing_matrix().shape
    (torch.Size([3, 5, 1]), torch.Size([3, 4]))
    """

    fixed: Tensor
    temperature: Tensor

    def __init__(
        self,
        experts: MLPExperts | ConvExperts,
        n_tasks: int,
        n_outputs: int = 1,
        routing: str = "mtcrl",
        gate_features: int | None = None,
        head_hidden: int = 0,
        gradients: str = "sum",
    ) -> None:
        super().__init__()
        self.experts, self.routing = experts, routing
        n_modules, h = experts.n_modules, experts.out_features
        if routing not in ROUTINGS:
            raise InvalidInputError(
                f"The 'routing' parameter must be one of {ROUTINGS}. Got {routing!r}."
            )
        if routing == "single" and n_modules != n_tasks:
            raise InvalidInputError(
                "The routing 'single' needs one module per task. Got "
                f"{n_modules} modules for {n_tasks} tasks; build {n_tasks}."
            )
        if routing == "mmoe":
            if gate_features is None:
                raise InvalidInputError(
                    "The routing 'mmoe' needs gate_features, the length of a row. Got "
                    "None."
                )
            self.gates = nn.Parameter(torch.zeros(gate_features, n_tasks * n_modules))
        elif routing == "mtcrl":
            self.theta = nn.Parameter(0.1 * torch.randn(n_tasks, n_modules))
            self.register_buffer("temperature", torch.ones(()))
        else:
            same = torch.ones(n_tasks, n_modules) if routing == "shared" else None
            self.register_buffer("fixed", torch.eye(n_tasks) if same is None else same)
        self.n_tasks = n_tasks
        self.surgery = make_surgery(gradients, n_tasks)
        self.log_variances = nn.Parameter(torch.zeros(n_tasks))
        widths = [h, head_hidden, n_outputs] if head_hidden else [h, n_outputs]
        self.head_weights = nn.ParameterList()
        self.head_biases = nn.ParameterList()
        for n_in, n_out in pairwise(widths):
            weight = torch.randn(n_tasks, n_in, n_out) / math.sqrt(n_in)
            self.head_weights.append(nn.Parameter(weight))
            self.head_biases.append(nn.Parameter(torch.zeros(n_tasks, 1, n_out)))

    def routing_matrix(self) -> Tensor:
        """Return the routing A (n_tasks, n_modules), where it is one matrix."""
        if self.routing != "mtcrl":
            return self.fixed
        return torch.sigmoid(self.theta / self.temperature)

    def gate(self, rows: Tensor) -> Tensor:
        """Return the routing of every row, (n, n_tasks, n_modules)."""
        if self.routing != "mmoe":
            return self.routing_matrix().expand(len(rows), -1, -1)
        logits = self.experts.standardize(rows) @ self.gates
        return logits.view(len(rows), self.n_tasks, -1).softmax(dim=-1)

    def forward(self, rows: Tensor) -> Routed:
        """Return modules, routed sums and outputs."""
        modules = self.experts(rows)
        routing = None
        if self.routing == "mmoe":
            gates = self.gate(rows)  # (n, n_tasks, n_modules)
            n_pixels = modules.shape[1] // len(rows)
            gates = gates.repeat_interleave(n_pixels, dim=0) if n_pixels > 1 else gates
            routed = torch.bmm(gates, modules.transpose(0, 1)).transpose(0, 1)
        else:
            routing = self.routing_matrix()
            mixed = routing @ modules.flatten(1)
            routed = mixed.view(self.n_tasks, *modules.shape[1:])
        return Routed(modules, routed, self.heads(routed), routing)

    def heads(self, routed: Tensor) -> Tensor:
        """Return the outputs of the task predictors, (n_tasks, n_rows, n_outputs)."""
        values = routed
        for layer, weight in enumerate(self.head_weights):
            values = functional.relu(values) if layer else values
            values = torch.baddbmm(self.head_biases[layer], values, weight)
        return values

    def head_slopes(self, slopes: Tensor, routed: Tensor) -> Tensor:
        """Return gradients in the routed sums from those in outputs; differentiable.

        Parameters
        ----------
        slopes : Tensor of shape (n_tasks, n_rows, n_outputs)
            Gradients in the outputs of `heads`.
        routed : Tensor of shape (n_tasks, n_rows, h)
            What `heads` was given.

        Returns
        -------
        Tensor of shape (n_tasks, n_rows, h)
        """
        slopes = slopes @ self.head_weights[-1].mT
        if len(self.head_weights) == 1:
            return slopes
        with torch.no_grad():  # where a unit is on has no derivative
            first, bias = self.head_weights[0], self.head_biases[0]
            on = torch.baddbmm(bias, routed, first) > 0
        return (slopes * on) @ self.head_weights[0].mT


def build_routed(
    learner: Any,
    shape: Sequence[int],
    targets: TaskTargets,
    groups: NDArray[Any] | None = None,
) -> RoutedExperts:
    """Build the modules, the routing and the heads that a learner asks for.

    Parameters
    ----------
    learner : estimator
        Its parameters `expert`, `modules`, `n_modules` and `module_inputs` decide.
    shape : sequence of int
        Shape of a sample.
    targets : TaskTargets
        Targets of all tasks.
    groups : ndarray of shape (n_values,), default=None
        Groups of the values of a row that were found, instead of `module_inputs`.

    Raises
    ------
    InvalidInputError
        If the modules do not fit the samples or the targets.
    """
    n_tasks, dense = len(targets.kinds), targets.layout == "pixels"
    masks = module_masks(learner.module_inputs if groups is None else groups, shape)
    n_modules = learner.n_modules if masks is None else len(masks)
    if learner.modules == "single":
        # A task of its own sees everything and shares nothing.
        n_modules, masks = n_tasks, None
    if dense and targets.pixels != tuple(shape[-2:]):
        raise InvalidInputError(
            "Targets per pixel must have the height and width of the images. Got "
            f"{targets.pixels} for images of shape {tuple(shape)}."
        )
    expert = learner.expert
    if isinstance(expert, str):
        automatic = ConvExpert() if dense else MLPExpert()
        expert = automatic if expert == "auto" else named_expert(expert)
    experts = expert.build(shape, n_modules, masks, dense=dense)
    return RoutedExperts(
        experts,
        n_tasks,
        targets.n_outputs,
        learner.modules,
        experts.gate_features,
        expert.head_hidden,
        learner.gradients,
    )
