"""Group-Lasso classifiers of every task by the compiled kernel, on the CPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from ._compiled import kernel
from ._newton import solve_newton
from ._problem import Problem, Solution
from ._softmax_newton import solve_softmax_newton

# As in kernel.h.
_SOLVED, _STUCK, _OUT_OF_STEPS, _REFUSED, _NO_MEMORY = range(5)
_MOST_STEPS = 200
# A gap within this factor of rounding is as small as it gets.
_ROUNDING = 100.0
# A thread costs about as much as this work, in the units of `_n_threads`.
_WORK_OF_A_THREAD = 50_000


class _Warned:
    """Whether the lack of the kernel has been told in this process."""

    once = False


def has_compiled_solver() -> bool:
    """Whether the compiled solver was built with the package.

    Returns
    -------
    bool
        False where no C compiler was there at installation. Everything works
        without it, several times slower.

    Examples
    --------
    >>> from skcausalmeta.solvers import has_compiled_solver
    >>> has_compiled_solver() in (True, False)
    True
    """
    return kernel is not None


def compiled_applies(problem: Problem) -> bool:
    """Whether `solve_compiled` solves such a problem by the kernel itself.

    Parameters
    ----------
    problem : Problem
        Any batch of problems.

    Returns
    -------
    bool
        True for loss `CrammerSinger` or `Logistic`, penalty `GroupLasso`, float32
        or float64 tensors of at least one row, feature and two classes on the
        CPU, if the kernel is there.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import Squared
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, compiled_applies
    >>> penalty = GroupLasso(torch.ones(1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> compiled_applies(Problem(eye, eye, torch.ones(1, 3), Squared(), penalty))
    False
    """
    features, targets = problem.features, problem.targets
    return (
        kernel is not None
        and features.device.type == "cpu"
        and features.dtype in (torch.float32, torch.float64)
        and features.numel() > 0
        and targets.shape[-1] > 1
        and (getattr(problem.loss, "polyhedral", False) or _is_logistic(problem))
        and hasattr(problem.penalty, "thresholds")
    )


@torch.no_grad()
def solve_compiled(
    problem: Problem,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    start: Tensor | None = None,
) -> Solution:
    """Maximise D(B) by a compiled kernel, task by task, on the CPU.

    For loss `CrammerSinger`:

    1. Features near their threshold are gathered, and a few FISTA steps in
       single precision find a first guess of the face of the simplices.
    2. One Newton step after another: the quadratic model of D on the entries
       that can gain is maximised over the simplices by a primal-dual active set
       [1]_, and an exact line search, at the cost of one number a feature and
       trial, follows. With a pure ridge and no more rows than features all this
       happens in the Gram matrix.
    3. The certificate is computed on all features; those that are switched on
       join, and step 2 goes on.

    For loss `Logistic`, step 2 is Newton's method on the scores, as in
    `solve_softmax_newton`, in the smaller of its two systems; there are no
    gradient steps.

    Systems are formed in single precision unless ``tol < 1e-8``; points and
    certificates are always those of double precision. A task that the kernel
    does not solve, above the level of rounding, is left to `solve_newton` or
    `solve_softmax_newton`, from where the kernel arrived.

    Tasks are shared by as many threads as torch uses, fewer where the work is
    small. Every task is solved by one thread, so that results do not depend on
    their number. Threads end with the call: processes may be forked before and
    after it, and other threads may call at the same time.

    Where the kernel was not built, the tensors are not on the CPU, or their
    precision is another, these take its place. The first time that the kernel
    is missing a `RuntimeWarning` says so, once a process.

    Parameters
    ----------
    problem : Problem
        The batch of problems, with loss `CrammerSinger` or `Logistic`, penalty
        `GroupLasso`.
    tol : float, default=1e-6
        Relative duality gap to reach.
    max_iter : int, default=10_000
        Largest number of Newton steps. The kernel takes 200 at most.
    start : Tensor of shape (n_tasks, n_samples, n_classes), default=None
        Feasible dual point to start from, without a FISTA phase. None:
        ``problem.start()``.

    Returns
    -------
    Solution
        Best point found, with its certificate on all features; ``n_iter``
        counts Newton steps.

    Raises
    ------
    TypeError
        If the loss or the penalty does not offer what the solver needs.
    MemoryError
        If there is no memory for the system of a task.

    References
    ----------
    .. [1] M. Hintermueller, K. Ito, K. Kunisch (2003). The primal-dual active set
       strategy as a semismooth Newton method. SIAM J. Optim. 13, 865-888.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, solve_compiled
    >>> penalty = GroupLasso(torch.full((1,), 0.1), torch.ones(1))
    >>> eye = torch.eye(3)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 3), CrammerSinger(), penalty)
    >>> bool(solve_compiled(problem, tol=1e-4).relative_gap <= 1e-4)
    True
    """
    if not compiled_applies(problem):
        _tell_once()
        solve = solver_by_tensors(problem)
        return solve(problem, tol=tol, max_iter=max_iter, start=start)
    data = _Data.of(problem)
    solution, outcome, rounding = _solve(data, tol, min(max_iter, _MOST_STEPS), start)
    gap, relative_gap = solution.gap.numpy(), solution.relative_gap.numpy()
    unsolved = ~(relative_gap <= tol) & ~(gap <= _ROUNDING * rounding)
    if max_iter <= _MOST_STEPS:
        unsolved &= outcome != _OUT_OF_STEPS
    if unsolved.any():
        rest = torch.from_numpy(unsolved)
        solution = _with_rest(problem, solution, rest, tol, max_iter)
    return solution


@torch.no_grad()
def compiled_gradients(
    problem: Problem, dual: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """Gradients of a loss of W by the compiled kernel, given the one in W.

    Parameters
    ----------
    problem : Problem
        Problems for which `compiled_applies`.
    dual : Tensor of shape (n_tasks, n_samples, n_classes)
        Their solution B.
    gradient : Tensor of shape (n_tasks, n_features, n_classes)
        Gradient in W.

    Returns
    -------
    tuple of Tensor or None
        Gradients in features, lambda1, lambda2, weights and the offset of the
        scores. None if a system was not solved.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.losses import CrammerSinger
    >>> from skcausalmeta.penalties import GroupLasso
    >>> from skcausalmeta.solvers import Problem, compiled_applies, compiled_gradients
    >>> penalty = GroupLasso(torch.zeros(1), torch.ones(1))
    >>> eye = torch.eye(2)[None]
    >>> problem = Problem(eye, eye, torch.ones(1, 2), CrammerSinger(), penalty)
    >>> dual = torch.full((1, 2, 2), 0.5)
    >>> if compiled_applies(problem):
    ...     d_features = compiled_gradients(problem, dual, eye)[0]
    ... else:
    ...     d_features = 0.5 - torch.eye(2)[None]
    >>> d_features
    tensor([[[-0.5000,  0.5000],
             [ 0.5000, -0.5000]]])
    """
    return _differentiate(_Data.of(problem), dual, gradient)


def solver_by_tensors(problem: Problem) -> Callable[..., Solution]:
    """Newton's method of the loss of a problem, on tensors."""
    return solve_softmax_newton if _is_logistic(problem) else solve_newton


def _is_logistic(problem: Problem) -> bool:
    return getattr(problem.loss, "entropic", False)


@dataclass(frozen=True)
class _Data:
    """The arrays of a batch as the kernel wants them."""

    logistic: bool
    features: NDArray[Any]
    targets: NDArray[Any]
    linear: NDArray[Any]
    weights: NDArray[Any]
    thresholds: NDArray[np.float64]
    lambda2: NDArray[np.float64]
    groups: NDArray[np.int32] | None
    group_weights: NDArray[np.float64] | None

    @classmethod
    def of(cls, problem: Problem) -> _Data:
        """Views of the tensors of a problem where they are contiguous, else copies."""
        penalty, n_tasks = problem.penalty, problem.n_tasks
        logistic = _is_logistic(problem)
        features = array_of(problem.features)
        dtype = features.dtype
        targets = array_of(problem.targets, dtype)
        linear = np.zeros_like(targets) if logistic else 1.0 - targets
        if problem.offset is not None:
            linear += array_of(problem.offset, dtype)
        groups, group_weights = penalty.groups, penalty.group_weights
        n_groups = features.shape[-1]
        if groups is not None:
            groups = array_of(groups, np.int32)
            n_groups = int(groups.max()) + 1
        by_group = n_tasks, n_groups
        if group_weights is not None:
            group_weights = array_of(group_weights, np.float64, by_group)
        return cls(
            logistic,
            features,
            targets,
            linear,
            array_of(problem.weights, dtype),
            array_of(penalty.thresholds(), np.float64, by_group),
            array_of(penalty.lambda2, np.float64, (n_tasks,)),
            groups,
            group_weights,
        )

    def inputs(self) -> tuple[Any, ...]:
        """The arguments that both directions begin with."""
        return (
            self.logistic,
            self.features,
            self.targets,
            self.linear,
            self.weights,
            self.thresholds,
            self.lambda2,
            self.groups,
        )


def array_of(
    tensor: Tensor, dtype: DTypeLike | None = None, shape: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """A view where the tensor is contiguous and of the dtype, else a copy."""
    array = tensor.detach().numpy()
    if shape is not None and array.shape != shape:
        whole = np.empty(shape, dtype)
        whole[...] = array
        return whole
    return np.ascontiguousarray(array, dtype)


def _solve(
    data: _Data, tol: float, max_steps: int, start: Tensor | None
) -> tuple[Solution, NDArray[np.int32], NDArray[np.float64]]:
    """Solution, outcome and size of rounding errors of every task."""
    n_tasks, _, n_features = data.features.shape
    n_classes = data.targets.shape[-1]
    dtype = data.features.dtype
    coef = np.empty((n_tasks, n_features, n_classes), dtype)
    dual = np.empty(data.targets.shape, dtype)
    gaps = np.full((n_tasks, 3), np.inf)
    counts = np.full((n_tasks, 5), -1, np.int32)
    first = None if start is None else array_of(start, dtype)

    def work(counter: NDArray[np.int64]) -> None:
        kernel.solve_tasks(
            *data.inputs(),
            first,
            tol,
            max_steps,
            coef,
            dual,
            gaps,
            counts,
            counter,
        )

    share_out(work, _n_threads(data))
    check_outcomes(counts[:, 0])
    solution = Solution(
        torch.from_numpy(coef),
        torch.from_numpy(dual),
        torch.from_numpy(gaps[:, 0].astype(dtype)),
        torch.from_numpy(gaps[:, 1].astype(dtype)),
        torch.from_numpy(counts[:, 1].astype(np.int64)),
    )
    return solution, counts[:, 0], gaps[:, 2]


def _differentiate(
    data: _Data, dual: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    dtype = data.features.dtype
    d_features, d_linear = np.empty_like(data.features), np.empty_like(data.targets)
    d_weights, d_strengths = np.empty_like(data.weights), np.empty((len(dual), 2))
    outcome = np.full(len(dual), -1, np.int32)
    arrays = array_of(gradient, dtype), array_of(dual, dtype)

    def work(counter: NDArray[np.int64]) -> None:
        kernel.differentiate_tasks(
            *data.inputs(),
            data.group_weights,
            *arrays,
            d_features,
            d_linear,
            d_weights,
            d_strengths,
            outcome,
            counter,
        )

    share_out(work, _n_threads(data))
    check_outcomes(outcome)
    if (outcome != _SOLVED).any():
        return None
    d_lambda1, d_lambda2 = d_strengths.T.astype(dtype)
    return (
        torch.from_numpy(d_features),
        torch.from_numpy(d_lambda1),
        torch.from_numpy(d_lambda2),
        torch.from_numpy(d_weights),
        torch.from_numpy(d_linear),
    )


def share_out(work: Callable[[NDArray[np.int64]], None], n_threads: int) -> None:
    """Let several threads take tasks from one counter until there are none."""
    counter = np.zeros(1, np.int64)
    if n_threads == 1:
        work(counter)
        return
    helpers = [
        threading.Thread(target=work, args=(counter,)) for _ in range(n_threads - 1)
    ]
    for helper in helpers:
        helper.start()
    try:
        work(counter)
    finally:
        for helper in helpers:
            helper.join()


def _n_threads(data: _Data) -> int:
    """As many as torch uses, fewer where the work is small or tasks are few."""
    n_tasks, n_samples, n_features = data.features.shape
    entries = n_samples * data.targets.shape[-1]
    work = n_tasks * entries * (n_features + entries)
    return max(1, min(torch.get_num_threads(), n_tasks, work // _WORK_OF_A_THREAD))


def check_outcomes(outcome: NDArray[np.int32]) -> None:
    if (outcome == _SOLVED).all():
        return
    if (outcome == _NO_MEMORY).any():
        raise MemoryError(
            "There is no memory for the system of a task. Solve fewer tasks at a "
            'time, or choose solver="fista", which forms no system.'
        )
    if (outcome < 0).any():
        raise RuntimeError(
            "A thread of the compiled solver did not run. Set fewer threads by "
            "torch.set_num_threads."
        )


def _with_rest(
    problem: Problem, solution: Solution, unsolved: Tensor, tol: float, max_iter: int
) -> Solution:
    """The solution, with what the tensor solver adds for the tasks `unsolved`."""
    tasks = unsolved.nonzero().squeeze(-1)
    part = problem.select(tasks)
    known = torch.isfinite(solution.gap[tasks])
    start = solution.dual[tasks] if bool(known.all()) else None
    solve = solver_by_tensors(problem)
    rest = solve(part, tol=tol, max_iter=max_iter, start=start)
    better = ~(rest.relative_gap >= solution.relative_gap[tasks])
    tasks, rest_tasks = tasks[better], better.nonzero().squeeze(-1)
    fields = ("coef", "dual", "gap", "relative_gap")
    merged = {
        name: getattr(solution, name).index_copy(
            0, tasks, getattr(rest, name)[rest_tasks]
        )
        for name in fields
    }
    n_iter = solution.n_iter.clone()
    n_iter[tasks] += rest.n_iter[rest_tasks]
    return replace(solution, n_iter=n_iter, **merged)


def _tell_once() -> None:
    if kernel is None and not _Warned.once:
        _Warned.once = True
        warnings.warn(
            "The compiled solver was not built when skcausalmeta was installed: "
            "tensors, several times slower, take its place. Install a C compiler "
            "and reinstall the package.",
            RuntimeWarning,
            stacklevel=4,  # the caller of solve_compiled, behind no_grad
        )
