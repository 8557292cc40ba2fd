"""The network of the gradient-based learners."""

from __future__ import annotations

from torch import Tensor, nn

from ...exceptions import InvalidInputError
from ...training import EpisodeHook
from ._update_rule import UpdateRule

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
        Number of its features, as the hook gives them if there is one.
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
    hook : EpisodeHook, default=None
        Stands between the backbone and what follows it; built. It is not adapted.

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
        hook: EpisodeHook | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hook = hook
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
        """The parameters that are adapted, by name."""
        named = dict(self.named_parameters())
        return {name: named[name] for name in self.adapted}

    def forward(
        self, inputs: Tensor, part: str = "features", code: Tensor | None = None
    ) -> Tensor:
        """Features of rows, or scores of rows or of features.

        Parameters
        ----------
        inputs : Tensor of shape (n, *sample_shape) or (n, n_features)
            Rows, or features for part "output".
        part : {"features", "output", "all"}, default="features"
            What to run: the backbone, what follows it, or both.
        code : Tensor of shape (n_code,), default=None
            What the hook keeps of the task.

        Returns
        -------
        Tensor of shape (n, n_features) or (n, n_outputs)
        """
        if part != "output":
            inputs = self.backbone(inputs)
        if part == "features":
            return inputs
        if self.hook is not None and code is not None:
            inputs = self.hook.transform(inputs, code)
        return self.output(inputs)


def _rotation(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
