"""Checks of the contract of an update rule."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import gradcheck
from torch.func import functional_call, vmap

from ._update_rule import Named, UpdateRule

# A kernel, a vector, a matrix and a number, by names with and without dots.
_SHAPES = {
    "body.0.weight": (3, 2, 2, 2),
    "body.0.bias": (3,),
    "output.weight": (2, 3),
    "scale": (),
}
_N_STEPS, _LR, _N_TASKS = 2, 0.1, 3
_LATER = _N_STEPS + 3


def check_update_rule(rule: UpdateRule) -> None:
    """Check that an update rule keeps the contract of `UpdateRule`.

    The rules of the contract are the sentences that a failure tells after the name
    of the class; it takes a fraction of a second.

    Parameters
    ----------
    rule : UpdateRule
        The rule to check, not changed; it need not be built.

    Raises
    ------
    AssertionError
        At the first rule that is broken: the rule, and what was found.

    See Also
    --------
    UpdateRule : The contract.

    Examples
    --------
    >>> from skcausalmeta.learners import SGDUpdate, check_update_rule
    >>> check_update_rule(SGDUpdate(learn_lr=True))
    >>> class Forgetful(SGDUpdate):
    ...     def direction(self, gradients, fast, step):
    ...         return {name: self.lr * g for name, g in list(gradients.items())[1:]}
    >>> try:
    ...     check_update_rule(Forgetful())
    ... except AssertionError as error:
    ...     print(error)
    Forgetful breaks the contract of an update rule. direction must give every name,
    and no other, a finite tensor of its shape. Got the names ['body.0.bias',
    'output.weight', 'scale'].
    """
    for check in _RULES:
        try:
            for fault in check(_Trial(rule)):
                raise _RuleBroken(fault)
        except Exception as error:
            got = error if isinstance(error, _RuleBroken) else f"{error!r}"
            raise AssertionError(
                f"{type(rule).__name__} breaks the contract of an update rule. "
                f"{check.__doc__} Got {got}."
            ) from (None if isinstance(error, _RuleBroken) else error)


class _RuleBroken(Exception):
    """An update rule broke its contract; the message says how."""


class _Trial:
    """An update rule with tensors and gradients to try it on, in float64."""

    def __init__(self, rule: UpdateRule) -> None:
        self._rule = rule
        self._generator = torch.Generator().manual_seed(0)
        self.named = self.draw(_SHAPES)
        self.gradients = self.draw(_SHAPES)

    def draw(self, shapes: dict[str, tuple[int, ...]]) -> Named:
        """Draw tensors of some shapes, new ones each time."""
        return {name: self._normal(shape) for name, shape in shapes.items()}

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator, dtype=torch.float64)

    def built(self, named: Named | None = None, seed: int = 0) -> UpdateRule:
        """Return a copy of the rule, built for the tensors, before training."""
        rule = copy.deepcopy(self._rule)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rule.build(self.named if named is None else named, _N_STEPS, _LR)
        return rule.double()

    def trained(self) -> UpdateRule:
        """Return a built copy whose learned parts have moved, as in training."""
        rule = self.built()
        self.move(rule)
        return rule

    def move(self, rule: UpdateRule) -> None:
        """Move the learned parts of a rule."""
        with torch.no_grad():
            for parameter in rule.parameters():
                parameter.add_(self._normal(tuple(parameter.shape)), alpha=0.1)

    def direction(self, rule: UpdateRule, step: int = 0) -> Named:
        """Return the direction of a rule for the gradients of the trial."""
        return rule.direction(_copies(self.gradients), rule.start(), step)


class _Direction(nn.Module):
    """The direction of a rule as the forward pass of a module."""

    def __init__(self, rule: UpdateRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, gradients: Named, step: int) -> Named:
        return self.rule.direction(gradients, self.rule.start(), step)


def _copies(named: Named) -> Named:
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def _leaves(named: Named) -> Named:
    return {name: t.requires_grad_() for name, t in _copies(named).items()}


def _same(one: Named, two: Named) -> bool:
    alike = (torch.equal(one[n], two[n]) for n in one if n in two)
    return one.keys() == two.keys() and all(alike)


def _close(one: Named, two: Named) -> bool:
    alike = (torch.allclose(one[n], two[n], atol=1e-9) for n in one if n in two)
    return one.keys() == two.keys() and all(alike)


def _faults(found: Named, gradients: Named) -> Iterator[str]:
    """Yield what is wrong with a direction."""
    if found.keys() != gradients.keys():
        yield f"the names {list(found)}"
    for name, gradient in gradients.items():
        moved = found[name]
        if (moved.shape, moved.dtype) != (gradient.shape, gradient.dtype):
            yield (
                f"shape {tuple(moved.shape)} and {moved.dtype} for the gradient of "
                f"{name!r}, which has {tuple(gradient.shape)} and {gradient.dtype}"
            )
        if not torch.isfinite(moved).all():
            yield f"infinite or undefined values for {name!r}"


def _builds_parts_of_its_own(trial: _Trial) -> Iterator[str]:
    """build must create finite learned parts that share no memory with the tensors."""
    rule = trial.built()
    addresses = {t.untyped_storage().data_ptr(): n for n, t in trial.named.items()}
    for name, parameter in rule.named_parameters():
        if not torch.isfinite(parameter).all():
            yield f"infinite or undefined values in {name!r}"
        owner = addresses.get(parameter.untyped_storage().data_ptr())
        if owner is not None:
            yield f"{name!r} in the memory of {owner!r}"


def _builds_by_the_random_state(trial: _Trial) -> Iterator[str]:
    """build must follow torch's random state alone."""
    if not _same(trial.built().state_dict(), trial.built().state_dict()):
        yield "other learned parts from the same random state"


def _moves_every_tensor(trial: _Trial) -> Iterator[str]:
    """direction must give every name, and no other, a finite tensor of its shape."""
    for rule in (trial.built(), trial.trained()):
        for step in range(_N_STEPS):
            yield from _faults(trial.direction(rule, step), trial.gradients)


def _takes_later_steps(trial: _Trial) -> Iterator[str]:
    """direction must take later steps than the rule was built for."""
    yield from _faults(trial.direction(trial.trained(), _LATER), trial.gradients)


def _writes_to_nothing(trial: _Trial) -> Iterator[str]:
    """What a rule is given must stay as it was, and so must what it has learned."""
    named = _copies(trial.named)
    rule = trial.trained()
    if not _same(named, trial.named):
        yield "other tensors after build"
    state = _copies(rule.state_dict())
    gradients, fast = _copies(trial.gradients), _copies(rule.start())
    before = _copies(fast)
    rule.direction(gradients, fast, 0)
    if not _same(gradients, trial.gradients):
        yield "other gradients after direction"
    if not _same(fast, before):
        yield "other parts of start after direction"
    if not _same(rule.state_dict(), state):
        yield "other learned parts after direction"


def _repeats_itself(trial: _Trial) -> Iterator[str]:
    """direction must depend on its arguments and on what was learned alone."""
    rule = trial.trained()
    steps = [0, _N_STEPS - 1, _LATER]
    first = [trial.direction(rule, step) for step in steps]
    for step, expected in zip(reversed(steps), reversed(first), strict=True):
        if not _same(trial.direction(rule, step), expected):
            yield f"another direction when step {step} was asked for again"


def _has_gradients(trial: _Trial) -> Iterator[str]:
    """direction must be differentiable in the gradients and in what is learned."""
    rule = trial.trained()
    learned: Named = {f"rule.{name}": p for name, p in rule.named_parameters()}
    module, names = _Direction(rule), list(trial.gradients)
    inputs = [*_leaves(trial.gradients).values(), *_leaves(learned).values()]

    def direction(*values: Tensor) -> tuple[Tensor, ...]:
        gradients = dict(zip(names, values[: len(names)], strict=True))
        parts = dict(zip(learned, values[len(names) :], strict=True))
        found = functional_call(module, parts, (gradients, _N_STEPS - 1))
        return tuple(found[name] for name in names)

    gradcheck(direction, inputs, fast_mode=True, check_undefined_grad=False)
    yield from ()


def _uses_what_it_learns(trial: _Trial) -> Iterator[str]:
    """Every learned part must matter to some step of training."""
    rule = trial.trained()
    found = [
        (moved * weight).sum()
        for step in range(_N_STEPS)
        for moved, weight in zip(
            trial.direction(rule, step).values(),
            trial.draw(_SHAPES).values(),
            strict=True,
        )
    ]
    parts = dict(rule.named_parameters())
    if not parts:
        return
    derivatives = torch.autograd.grad(
        torch.stack(found).sum(), list(parts.values()), allow_unused=True
    )
    for name, derivative in zip(parts, derivatives, strict=True):
        if derivative is None or not derivative.any():
            yield f"{name!r}, which no direction depends on"


def _uses_what_it_starts(trial: _Trial) -> Iterator[str]:
    """What start gives is adapted at the rate lr, and direction must follow it."""
    rule = trial.trained()
    fast, names = rule.start(), list(trial.gradients)
    if fast and rule.lr != _LR:
        yield f"lr={rule.lr} after build with lr={_LR}"
    leaves = _leaves(fast)
    for name in leaves:

        def direction(value: Tensor, name: str = name) -> tuple[Tensor, ...]:
            found = rule.direction(trial.gradients, {**leaves, name: value}, 1)
            return tuple(found[n] for n in names)

        moved = (
            leaves[name].detach() + trial.draw({name: tuple(fast[name].shape)})[name]
        )
        pairs = zip(direction(leaves[name]), direction(moved), strict=True)
        if all(torch.equal(one, two) for one, two in pairs):
            yield f"the same direction with another {name!r}"
        gradcheck(direction, [leaves[name]], fast_mode=True, check_undefined_grad=False)


def _copies_apart(trial: _Trial) -> Iterator[str]:
    """A deep copy must give the same directions, and be trained by itself."""
    rule = trial.trained()
    twin = copy.deepcopy(rule)
    expected = trial.direction(rule)
    if not _same(trial.direction(twin), expected):
        yield "another direction of the copy"
    trial.move(twin)
    if not _same(trial.direction(rule), expected):
        yield "another direction after the copy was trained"


def _comes_back(trial: _Trial) -> Iterator[str]:
    """state_dict must hold all that was learned."""
    rule = trial.trained()
    twin = trial.built(trial.draw(_SHAPES), seed=1)
    twin.load_state_dict(rule.state_dict())
    for step in (0, _LATER):
        if not _close(trial.direction(twin, step), trial.direction(rule, step)):
            yield f"another direction of step {step} from the same state"


def _runs_on_many_tasks(trial: _Trial) -> Iterator[str]:
    """direction must run on many tasks at once (torch.func.vmap), as on each alone."""
    rule = trial.trained()
    start = rule.start()
    parts = {name: tuple(tensor.shape) for name, tensor in start.items()}
    gradients = [trial.draw(_SHAPES) for _ in range(_N_TASKS)]
    moves = [trial.draw(parts) for _ in range(_N_TASKS)]
    fasts = [{n: start[n].detach() + move[n] for n in start} for move in moves]

    def direction(gradients: Named, fast: Named) -> Named:
        return rule.direction(gradients, fast, 1)

    together = vmap(direction, randomness="different")(_stack(gradients), _stack(fasts))
    for k in range(_N_TASKS):
        alone = rule.direction(gradients[k], fasts[k], 1)
        if not _close({name: t[k] for name, t in together.items()}, alone):
            yield f"another direction of task {k} than alone"


def _stack(tasks: list[Named]) -> Named:
    return {name: torch.stack([task[name] for task in tasks]) for name in tasks[0]}


_RULES = (
    _builds_parts_of_its_own,
    _builds_by_the_random_state,
    _moves_every_tensor,
    _takes_later_steps,
    _writes_to_nothing,
    _repeats_itself,
    _has_gradients,
    _uses_what_it_learns,
    _uses_what_it_starts,
    _copies_apart,
    _comes_back,
    _runs_on_many_tasks,
)
