"""The network of the gradient-based learners, for one task or many at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ...exceptions import InvalidInputError
from ...training import HookedFeatures
from ._update_rule import Named, UpdateRule

# Part of the network that moves within a task, as prefixes of parameter names.
LAYERS = {"all": ("backbone.", "output."), "head": ("output.",), "body": ("backbone.",)}


class AdaptedModule(nn.Module):
    """A backbone, linear layers, an output layer and the rule that adapts them.

    The linear layers keep the width of the features and have no activation between
    them, so the function class is that of the output layer alone: they change the
    path of gradient descent, not what can be learned. They start as random
    rotations, which keep the scale of the features.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, n_features).
    n_features : int
        Number of its features, as `hooked` gives them.
    n_outputs : int
        Number of scores: classes, or 1 in regression.
    rule : UpdateRule
        Not yet built; its learned parts become parameters of this module.
    n_steps : int
        Steps of the inner loop.
    lr : float
        Learning rate of the inner loop.
    linear_layers : int, default=0
        Number of linear layers before the output layer.
    adapt_layers : {"all", "head", "body"}, default="all"
        What is adapted: everything, what follows the backbone, or the backbone.
    hooked : HookedFeatures, default=None
        Stands between the backbone and what follows it, not adapted. None: nothing
        does.

    Attributes
    ----------
    adapted : tuple of str
        Names of the parameters that are adapted.
    features_are_fixed : bool
        Whether none of them belongs to the backbone.

    Raises
    ------
    InvalidInputError
        If nothing is left to adapt.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.learners import SGDUpdate
    >>> from skcausalmeta.learners._maml._module import AdaptedModule
    >>> rule = SGDUpdate()
    >>> AdaptedModule(nn.Linear(3, 4), 4, 2, rule, 5, 0.1, adapt_layers="head").adapted
    ('output.0.weight', 'output.0.bias')
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_features: int,
        n_outputs: int,
        rule: UpdateRule,
        n_steps: int,
        lr: float,
        *,
        linear_layers: int = 0,
        adapt_layers: str = "all",
        hooked: HookedFeatures | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hooked = HookedFeatures() if hooked is None else hooked
        layers = [_rotation(n_features) for _ in range(linear_layers)]
        self.output = nn.Sequential(*layers, nn.Linear(n_features, n_outputs))
        self.adapted = tuple(
            name
            for name, parameter in self.named_parameters()
            if name.startswith(LAYERS[adapt_layers]) and parameter.requires_grad
        )
        if not self.adapted:
            raise InvalidInputError(
                "adapt_layers='body' needs a backbone with parameters that are "
                "trained. Got none; use adapt_layers='head' or 'all', or a backbone "
                "whose parameters require gradients."
            )
        self.features_are_fixed = all(n.startswith("output.") for n in self.adapted)
        self.rule = rule
        rule.build(self.start(), n_steps, lr)

    def start(self) -> dict[str, Tensor]:
        """Return the parameters that are adapted, by name."""
        named = dict(self.named_parameters())
        return {name: named[name] for name in self.adapted}

    def forward(
        self, inputs: Tensor, part: str = "features", code: Tensor | None = None
    ) -> Tensor:
        """Return features of rows, or scores of rows or of features.

        Parameters
        ----------
        inputs : Tensor of shape (n, *sample_shape) or (n, n_features)
            Rows, or features for part "output".
        part : {"features", "output", "all"}, default="features"
            What to run: the backbone, what follows it, or both.
        code : Tensor of shape (n_code,), default=None
            Code of the task.

        Returns
        -------
        Tensor of shape (n, n_features) or (n, n_outputs)
        """
        if part != "output":
            with _lone_values(self.backbone, inputs):
                inputs = self.backbone(inputs)
        if part == "features":
            return inputs
        if code is not None:
            inputs = self.hooked.transform(inputs, code)
        return self.output(inputs)


class BatchedModule:
    """Copies of the adapted parameters, one a task, and what runs on them.

    A single task runs on the plain tensors. Several get a leading task axis, and
    all run at once (`torch.func.vmap`); gradients of a sum over tasks are then
    those of every task, so that the inner loop is the same for both.

    It offers ``start``, ``direction`` and ``lr`` as an `UpdateRule` does, with the
    rule of the module applied task by task.

    Parameters
    ----------
    module : AdaptedModule
        Network and rule.
    n_tasks : int
        Number of tasks.
    codes : Tensor of shape (n_tasks, n_code), default=None
        Codes of the tasks, of the hook of the module.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.learners import SGDUpdate
    >>> from skcausalmeta.learners._maml._module import AdaptedModule, BatchedModule
    >>> module = AdaptedModule(nn.Linear(3, 4), 4, 2, SGDUpdate(), 5, 0.1)
    >>> many = BatchedModule(module, 7)
    >>> many.scores(many.parameters(), torch.zeros(7, 10, 3)).shape
    torch.Size([7, 10, 2])
    """

    def __init__(
        self, module: AdaptedModule, n_tasks: int, codes: Tensor | None = None
    ) -> None:
        self._module, self._n_tasks, self.codes = module, n_tasks, codes
        self._part = "output" if module.features_are_fixed else "all"
        self.lr = module.rule.lr

    def _spread(self, named: Named) -> Named:
        n = self._n_tasks
        return {name: t.expand(n, *t.shape) for name, t in named.items()}

    def parameters(self) -> Named:
        """Return the parameters where every task starts."""
        start = self._module.start()
        return start if self._n_tasks == 1 else self._spread(start)

    def scores(self, parameters: Named, inputs: Tensor) -> Tensor:
        """Return the scores (n_tasks, n, n_outputs) of inputs.

        Parameters
        ----------
        parameters : dict of str to Tensor
            Adapted parameters.
        inputs : Tensor of shape (n_tasks, n, ...)
            Rows, or their features if only what follows the backbone is adapted.
        """
        return self._run(parameters, inputs, self._part)

    def features(self, parameters: Named, rows: Tensor) -> Tensor:
        """Return the features of the backbone (n_tasks, n, n_features).

        Parameters
        ----------
        parameters : dict of str to Tensor
            Adapted parameters.
        rows : Tensor of shape (n_tasks, n, ...)
            Rows, or their features if only what follows the backbone is adapted.
        """
        fixed = self._module.features_are_fixed
        return rows if fixed else self._run(parameters, rows, "features")

    def outputs(self, parameters: Named, features: Tensor) -> Tensor:
        """Return the scores (n_tasks, n, n_outputs) of features.

        Parameters
        ----------
        parameters : dict of str to Tensor
            Adapted parameters.
        features : Tensor of shape (n_tasks, n, n_features)
            As the backbone gives them.
        """
        return self._run(parameters, features, "output")

    def _run(self, parameters: Named, inputs: Tensor, part: str) -> Tensor:
        codes = self.codes
        if self._n_tasks == 1:
            rows = (inputs[0], part, None if codes is None else codes[0])
            return functional_call(self._module, parameters, rows)[None]

        def one(parameters: Named, inputs: Tensor, code: Tensor | None) -> Tensor:
            return functional_call(self._module, parameters, (inputs, part, code))

        axes = (0, 0, None if codes is None else 0)
        run = vmap(one, in_dims=axes, randomness="different")
        return run(parameters, inputs, codes)

    def start(self) -> Named:
        """Return what the rule adapts within a task."""
        return self._spread(self._module.rule.start())

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """Return what to subtract from the parameters."""
        rule = self._module.rule

        def one(gradients: Named, fast: Named) -> Named:
            return rule.direction(gradients, fast, step)

        return vmap(one, randomness="different")(gradients, fast)


def can_run_together(module: torch.nn.Module, batch_norm: str) -> bool:
    """Tell whether the tasks of a module can run at once.

    Running averages of a batch norm with weights, or of an instance norm, belong to
    one task at a time.
    """

    def averages(layer: nn.Module) -> bool:
        if isinstance(layer, _BatchNorm):
            return batch_norm == "running" and layer.affine
        return isinstance(layer, _InstanceNorm) and layer.running_mean is not None

    return not any(averages(layer) for layer in module.modules())


def has_convolutions(module: torch.nn.Module) -> bool:
    """Tell whether a module convolves anywhere."""
    kind = torch.nn.modules.conv._ConvNd
    return any(isinstance(layer, kind) for layer in module.modules())


@contextmanager
def _lone_values(module: nn.Module, rows: Tensor) -> Iterator[None]:
    """Normalise a single training value per channel by the running averages.

    The support of a small task, or of one class, may be one row, of which there is no
    variance. Several rows, and several pixels of one, are normalised as ever.
    """
    layers = [
        layer
        for layer in (module.modules() if len(rows) == 1 else ())
        if isinstance(layer, _BatchNorm)
        and layer.training
        # Layers that batch_norm="episode" has replaced say themselves what they need.
        and layer.running_mean is not None
        and "forward" not in vars(layer)
    ]
    for layer in layers:
        vars(layer)["forward"] = MethodType(_by_averages_if_lone, layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _by_averages_if_lone(layer: _BatchNorm, rows: Tensor) -> Tensor:
    if rows.numel() > rows.shape[1]:
        found: Tensor = type(layer).forward(layer, rows)
        return found
    averages = layer.running_mean, layer.running_var
    return functional.batch_norm(
        rows, *averages, layer.weight, layer.bias, training=False, eps=layer.eps
    )


def _rotation(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
