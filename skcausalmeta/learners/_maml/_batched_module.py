"""A module as a function of its adapted parameters, for one task or many."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from ._module import AdaptedModule
from ._update_rule import Named


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
        What the hook of the module keeps of the tasks.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.learners import SGDUpdate
    >>> from skcausalmeta.learners._maml._module import AdaptedModule
    >>> from skcausalmeta.learners._maml._batched_module import BatchedModule
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
        if self._n_tasks == 1:
            return named
        n = self._n_tasks
        return {name: t.expand(n, *t.shape) for name, t in named.items()}

    def parameters(self) -> Named:
        """Where every task starts."""
        return self._spread(self._module.start())

    def scores(self, parameters: Named, inputs: Tensor) -> Tensor:
        """Scores (n_tasks, n, n_outputs).

        Parameters
        ----------
        parameters : dict of str to Tensor
            Adapted parameters.
        inputs : Tensor of shape (n_tasks, n, ...)
            Rows, or their features if only what follows the backbone is adapted.
        """
        return self._run(parameters, inputs, self._part)

    def features(self, parameters: Named, rows: Tensor) -> Tensor:
        """Features of the backbone (n_tasks, n, n_features).

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
        """Scores (n_tasks, n, n_outputs) of features.

        Parameters
        ----------
        parameters : dict of str to Tensor
            Adapted parameters.
        features : Tensor of shape (n_tasks, n, n_features)
            As the backbone gives them.
        """
        return self._run(parameters, features, "output")

    def _run(self, parameters: Named, inputs: Tensor, part: str) -> Tensor:
        def one(parameters: Named, inputs: Tensor, code: Tensor | None) -> Tensor:
            return functional_call(self._module, parameters, (inputs, part, code))

        codes = self.codes
        if self._n_tasks == 1:
            return one(parameters, inputs[0], None if codes is None else codes[0])[None]
        axes = (0, 0, None if codes is None else 0)
        run = vmap(one, in_dims=axes, randomness="different")
        return run(parameters, inputs, codes)

    def start(self) -> Named:
        """What the rule adapts within a task."""
        return self._spread(self._module.rule.start())

    def direction(self, gradients: Named, fast: Named, step: int) -> Named:
        """What to subtract from the parameters."""
        rule = self._module.rule
        if self._n_tasks == 1:
            return rule.direction(gradients, fast, step)

        def one(gradients: Named, fast: Named) -> Named:
            return rule.direction(gradients, fast, step)

        return vmap(one, randomness="different")(gradients, fast)


def can_run_together(module: torch.nn.Module, batch_norm: str) -> bool:
    """Tell whether the tasks of a module can run at once.

    Running averages of a batch norm with weights belong to one task at a time.
    """
    return batch_norm == "episode" or not any(
        isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and layer.affine
        for layer in module.modules()
    )


def has_convolutions(module: torch.nn.Module) -> bool:
    """Tell whether a module convolves anywhere."""
    kind = torch.nn.modules.conv._ConvNd
    return any(isinstance(layer, kind) for layer in module.modules())
