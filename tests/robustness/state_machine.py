"""Calls in any order, refused and interrupted ones among them, change nothing else.

A machine of hypothesis fits, adapts, asks, sets parameters, clones, copies, pickles,
saves and loads one learner, hands it what it must refuse, and raises exceptions at
random moments inside its calls. After every step: all that was learned is bitwise what
it was, unless a fit has succeeded; a refused or interrupted call has changed nothing;
equal questions have equal answers, whatever lies between; what was saved is what is
loaded; the caller's arrays are untouched.

``test_state_machine.py`` takes a few steps; ``python -m benchmarks state_machine``
takes 20,000, shared by four learners, with one JSON line per block of steps in
``benchmarks/results/state_machine.jsonl``.
"""

from __future__ import annotations

import copy
import os
import pickle
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType, MethodType
from typing import Any, ClassVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.base import clone

from benchmarks._harness import Harness, make_parser
from skcausalmeta.backbones import MLP
from skcausalmeta.exceptions import InterruptedFitWarning, NotFittedError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.persistence import load, save

MEASURES = (
    "skcausalmeta/learners",
    "skcausalmeta/training",
    "skcausalmeta/persistence",
)

STEPS, STEPS_PER_BLOCK, STEPS_PER_EXAMPLE = 20_000, 500, 50
SMALL = {
    "backbone": MLP(hidden=(4,), out_features=3),
    "max_epochs": 1,
    "batches_per_epoch": 1,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
LEARNERS = {
    "sparse": SparseMetaClassifier(
        RidgeHead(), common=None, shared_labels=False, batch_norm="episode", **SMALL
    ),
    "maml": MAMLClassifier(inner_steps=1, **SMALL),
    "metacrl": MetaCRLClassifier(MAMLClassifier(inner_steps=1, **SMALL)),
    "mtcrl": MTCRLClassifier(max_epochs=1, random_state=0),
}
# Where an interruption may come: in the package, and where torch exchanges parts.
OF_THE_PACKAGE = f"{os.sep}skcausalmeta{os.sep}"
SWAPS = ("stateless.py", "_named_member_accessor.py", "functional_call.py")


class Stopped(BaseException):
    """Raised inside a call, by nothing that anybody expects."""


# -- what a learner knows --------------------------------------------------------------


def facts(value: Any, path: str = "", above: tuple[int, ...] = ()) -> dict[str, Any]:
    """Everything in a value bit by bit, by the place where it stands."""
    if id(value) in above:
        return {path: "itself"}
    found: dict[str, Any] = {path: type(value).__name__}
    parts: dict[str, Any] = {}
    if isinstance(value, torch.Tensor):
        return facts(value.detach().cpu().numpy(), path)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {path: (value.dtype.str, value.shape, value.tobytes())}
    if isinstance(
        value, torch.optim.Optimizer
    ):  # beside notes of what it has warned of
        return facts(value.state_dict(), path)
    if isinstance(value, torch.Generator):
        return facts(value.get_state(), path)
    if isinstance(value, np.random.RandomState):
        return facts(value.get_state(legacy=False), path)
    if isinstance(value, type) or callable(getattr(value, "__code__", None)):
        return {path: f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, Mapping):
        parts = {f"[{k!r}]" if type(k) in (str, int) else f"[{n}]": v
                 for n, (k, v) in enumerate(value.items())}  # fmt: skip
    elif isinstance(value, (set, frozenset)):
        parts = {"{}": sorted(map(repr, value))}
    elif isinstance(value, (list, tuple, np.ndarray)):
        parts = {f"[{n}]": v for n, v in enumerate(value)}
    elif isinstance(value, MethodType):
        parts = {".self": value.__self__, ".name": value.__func__.__qualname__}
    elif isinstance(value, partial):
        parts = {"()": value.func, "(args)": value.args, "(keywords)": value.keywords}
    elif not hasattr(value, "__dict__"):
        return {path: repr(value)}
    parts |= {f".{k}": v for k, v in sorted(getattr(value, "__dict__", {}).items())}
    for name, part in parts.items():
        found |= facts(part, path + name, (*above, id(value)))
    return found


def learned(learner: Any) -> dict[str, Any]:
    """What `fit` and `adapt` have left, without parameters."""
    given = learner.get_params(deep=False)
    return facts({k: v for k, v in vars(learner).items() if k not in given})


def same(one: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    """Raise where facts differ, with the first of their places."""
    if one == other:
        return
    places = sorted(one.keys() | other.keys())
    differ = [p for p in places if one.get(p, "nothing") != other.get(p, "nothing")]
    raise AssertionError(f"{what}: {len(differ)} places differ, first {differ[:3]}")


# -- interruptions ---------------------------------------------------------------------


def interrupted(call: Callable[[], Any], at: int, error: BaseException) -> int:
    """Raise an error at one moment of a call; return the moments there were."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        if OF_THE_PACKAGE not in name and not name.endswith(SWAPS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == at:
                sys.settrace(None)
                raise error
        return trace

    follows = torch.is_grad_enabled()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
        torch.set_grad_enabled(follows)  # which is torch's own to give back
    return count


# -- the tables of the caller ----------------------------------------------------------


def make_tables() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, labels and tasks of some tables of the same columns."""
    tables = {}
    for number, name in enumerate(["first", "second", "third"]):
        rng = np.random.default_rng(number)
        X = rng.standard_normal((32, 3))
        y = np.tile([0, 1], 16)
        X[np.arange(32), y] += 3
        tables[name] = X, y, np.repeat(np.arange(4), 8)
    return tables


def odd(table: tuple[np.ndarray, ...], how: str) -> tuple[np.ndarray, ...]:
    """A table that must be refused."""
    X, y, tasks = (part.copy() for part in table)
    if how == "NaN":
        X[1, 1] = np.nan
    elif how == "infinite":
        X[0, 0] = -np.inf
    elif how == "columns":
        X = X[..., None] * np.ones(3)
    elif how == "labels":
        y = y[:-1]
    elif how == "text":
        X = X.astype(str).astype(object)
        X[0, 0] = "many"
    else:
        X, y, tasks = X[:0], y[:0], tasks[:0]
    return X, y, tasks


ODD = st.sampled_from(["NaN", "infinite", "columns", "labels", "text", "empty"])
NAMES = st.sampled_from(["first", "second", "third"])
QUESTIONS = st.sampled_from(
    ["predict", "predict_proba", "transform", "score", "episodes"]
)


# -- the machine -----------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """One learner, from before its first fit."""

    name: ClassVar[str]
    counts: ClassVar[Counter[str]] = Counter()
    # Moments that a call has, by learner and call.
    moments: ClassVar[dict[tuple[str, str], int]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.counts["steps"] -= 1
        self.tables = make_tables()
        self.given = facts(self.tables)
        self.learner = clone(LEARNERS[self.name])
        self.now = facts(self.learner)
        # Answers by what the learner knew, the question and the table.
        self.answers: list[tuple[dict[str, Any], dict[tuple[str, str], Any]]] = []
        self.fitted: dict[tuple[Any, ...], Any] = {}

    # -- what always holds

    @invariant()
    def arrays_are_untouched(self) -> None:
        self.counts["steps"] += 1  # and once before the first
        same(self.given, facts(self.tables), "arrays of the caller")

    @invariant()
    def nothing_else_has_changed(self) -> None:
        same(self.now, facts(self.learner), "the learner")

    def is_fitted(self) -> bool:
        return bool(set(vars(self.learner)) - set(self.learner.get_params(deep=False)))

    def support(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        X, y, _ = self.tables[name]
        return X[:10], y[:10]

    def ask(self, question: str, name: str, learner: Any = None) -> Any:
        learner = self.learner if learner is None else learner
        X, y, tasks = self.tables[name]
        if question == "episodes":
            return learner.predict_episodes(X[None, :8], y[None, :8], X[None, 8:])
        if question == "score":
            known = isinstance(learner, MTCRLClassifier) and self.speaks_of_all(learner)
            return learner.score(X, y, **({"tasks": tasks} if known else {}))
        return getattr(learner, question)(X)

    def speaks_of_all(self, learner: Any) -> bool:
        """Whether it has not adapted, and so answers for every task of `fit`."""
        return getattr(learner, "task_", None) is None

    def known_answers(self) -> dict[tuple[str, str], Any]:
        """Answers so far of a learner that knows what this one knows."""
        knows = learned(self.learner)
        for known, answers in self.answers:
            if known == knows:
                return answers
        self.answers.append((knows, {}))
        return self.answers[-1][1]

    def refused(
        self,
        what: str,
        call: Callable[[], Any],
        errors: tuple[type[Exception], ...] = (ValueError, NotFittedError),
    ) -> None:
        """Make a call that must end in an error of these kinds."""
        self.counts["refused"] += 1
        try:
            call()
        except errors as error:
            told = str(error)
        else:
            raise AssertionError(f"{what} was taken")
        assert told, f"{what} was refused without a word"

    # -- calls that succeed

    @initialize(name=st.none() | NAMES)
    def begin(self, name: str | None) -> None:
        if name is not None:
            self.fit(name)

    @rule(name=NAMES)
    def fit(self, name: str) -> None:
        self.counts["fits"] += 1
        X, y, tasks = self.tables[name]
        self.learner.fit(X, y, tasks=tasks)
        self.now = facts(self.learner)
        given = facts(self.learner.get_params(deep=False))
        found = self.ask("transform", "first"), self.ask("predict_proba", "second")
        before = self.fitted.setdefault((name, *sorted(map(str, given.items()))), found)
        same(facts(before), facts(found), "a fit and the same again")

    @precondition(is_fitted)
    @rule(name=NAMES)
    def adapt(self, name: str) -> None:
        self.counts["adapts"] += 1
        before = learned(self.learner)
        assert self.learner.adapt(*self.support(name)) is self.learner
        after = learned(self.learner)
        task = ("['task_']", "['estimator_'].task_")
        kept = [
            {k: v for k, v in known.items() if not k.startswith(task)}
            for known in (before, after)
        ]
        same(*kept, "what fit learned, after adapt")
        self.now = facts(self.learner)

    @precondition(is_fitted)
    @rule(question=QUESTIONS, name=NAMES)
    def answer(self, question: str, name: str) -> None:
        found = self.ask(question, name)
        before = self.known_answers().setdefault((question, name), found)
        same(facts(before), facts(found), f"{question} and the same again")

    @precondition(is_fitted)
    @rule(name=NAMES)
    def adapt_a_copy(self, name: str) -> None:
        other = copy.copy(self.learner).adapt(*self.support(name))
        found = self.ask("predict", name, other)
        again = copy.deepcopy(self.learner).adapt(*self.support(name))
        np.testing.assert_array_equal(found, self.ask("predict", name, again))

    @rule(
        given=st.sampled_from(
            [
                {"random_state": 0},
                {"random_state": 1},
                {"max_epochs": 2},
                {"lr": 0.01},
                {"max_epochs": 1, "verbose": 0},
            ]
        )
    )
    def set_params(self, given: dict[str, Any]) -> None:
        before, known = learned(self.learner), self.learner.get_params(deep=False)
        if "estimator" in known:
            given = {f"estimator__{name}": value for name, value in given.items()}
        self.learner.set_params(**given)
        found = self.learner.get_params()
        assert all(found[name] == value for name, value in given.items())
        same(before, learned(self.learner), "what was learned, after set_params")
        self.now = facts(self.learner)

    @rule()
    def clone(self) -> None:
        other = clone(self.learner)
        one, two = (facts(each.get_params()) for each in (self.learner, other))
        same(one, two, "parameters of a clone")
        assert set(vars(other)) == set(other.get_params(deep=False))

    @rule(way=st.sampled_from(["pickle", "deepcopy", "save"]))
    def replace(self, way: str) -> None:
        self.counts["copies"] += 1
        if way == "pickle":
            self.learner = pickle.loads(pickle.dumps(self.learner))
        elif way == "deepcopy":
            self.learner = copy.deepcopy(self.learner)
        else:
            with tempfile.TemporaryDirectory() as folder:
                save(self.learner, Path(folder) / "learner")
                self.learner = load(Path(folder) / "learner")

    # -- calls that must fail

    @rule(name=NAMES, how=ODD.filter(lambda how: how != "columns"))
    def fit_refused(self, name: str, how: str) -> None:
        X, y, tasks = odd(self.tables[name], how)
        self.refused(
            f"fit of {how}", lambda: self.learner.fit(X, y, tasks=tasks), (ValueError,)
        )

    @rule(name=NAMES, how=ODD)
    def adapt_refused(self, name: str, how: str) -> None:
        X, y, _ = odd(self.tables[name], how)
        self.refused(f"adapt of {how}", lambda: self.learner.adapt(X, y))

    @rule(name=NAMES, question=QUESTIONS, how=ODD)
    def question_refused(self, name: str, question: str, how: str) -> None:
        if how == "labels" and question != "score":
            return
        table = self.tables[name]
        self.tables[name] = odd(table, how)
        try:
            self.refused(f"{question} of {how}", lambda: self.ask(question, name))
        finally:
            self.tables[name] = table

    @rule(
        wrong=st.sampled_from(
            ["nope", "backbone__nope", "head__nope", "estimator__nope", "__", "lr__x"]
        )
    )
    def set_params_refused(self, wrong: str) -> None:
        own = self.learner.get_params(deep=False)
        right = {"estimator__lr": 0.5} if "estimator" in own else {"lr": 0.5}
        given = [*right.items(), (wrong, 1)]
        for order in (given, given[::-1]):
            call = partial(self.learner.set_params, **dict(order))
            self.refused(wrong, call, (ValueError,))

    # -- interruptions

    @rule(
        call=st.sampled_from(["fit", "adapt", "predict", "transform", "episodes"]),
        name=NAMES,
        share=st.floats(0, 1, exclude_max=True),
        kind=st.sampled_from([KeyboardInterrupt, Stopped, RuntimeError]),
    )
    def interrupt(
        self, call: str, name: str, share: float, kind: type[BaseException]
    ) -> None:
        if call != "fit" and not self.is_fitted():
            return
        moments = self.moments.get((self.name, call))
        if moments is None:
            other = copy.deepcopy(self.learner)
            run = partial(self.run, call, name, other)
            moments = interrupted(run, 0, Stopped())
            self.moments[self.name, call] = moments
        self.counts["interruptions"] += 1
        at, error = 1 + int(share * moments), kind("at a moment of the machine's")
        run = partial(self.run, call, name, self.learner)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                came = interrupted(run, at, error) >= at
            except kind:
                ended, came = True, True
            else:
                ended = False
        after = facts(self.learner)
        if came and not ended:
            # Of these a training keeps what it has, and what fails may be tried anew.
            taken = call == "fit" and kind is not Stopped
            assert taken or kind is RuntimeError, f"{kind.__name__} was swallowed"
            told = any(one.category is InterruptedFitWarning for one in said)
            assert told or kind is RuntimeError, "an interruption was not told"
        elif after != self.now:
            self.is_done(call, name)
        self.now = after

    def run(self, call: str, name: str, learner: Any) -> Any:
        X, y, tasks = self.tables[name]
        if call == "fit":
            return learner.fit(X, y, tasks=tasks)
        if call == "adapt":
            return learner.adapt(*self.support(name))
        return self.ask(call, name, learner)

    def is_done(self, call: str, name: str) -> None:
        """Raise unless the learner is as after the whole of a call."""
        assert call in ("fit", "adapt"), f"{call} has changed the learner"
        expected = copy.deepcopy(self.learner)
        self.run(call, name, expected)
        one, two = (
            self.ask("predict_proba", "first", each)
            for each in (self.learner, expected)
        )
        same(facts(one), facts(two), f"answers after an interrupted {call}")


def take_steps(
    name: str, number: int, n_steps: int, n_each: int = STEPS_PER_EXAMPLE
) -> dict[str, Any]:
    """Take some steps with one learner, in examples of so many each."""

    class Learner(Machine):
        pass

    Learner.name, Learner.counts = name, Counter()
    wanted = settings(
        max_examples=1 + -(-n_steps // n_each),  # the first is the simplest there is
        stateful_step_count=n_each,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    faults: list[str] = []
    n_runs = 0
    while Learner.counts["steps"] < n_steps and not faults:
        run = seed(1000 * number + n_runs)(Learner)
        n_runs += 1
        try:
            run_state_machine_as_test(run, settings=wanted)
        except (Exception, Stopped) as error:
            faults.append(f"{type(error).__name__}: {error}"[:2000])
    return {**Learner.counts, "faults": faults}


def main() -> int:
    """Run the blocks that are missing; exit code 1 if a step was at fault."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of all learners; default: %(default)s"
    )
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=[*LEARNERS])
    arguments = parser.parse_args()
    harness = Harness("state_machine", arguments)
    size = 20 if arguments.smoke else STEPS_PER_BLOCK
    n_steps = size * len(LEARNERS) if arguments.smoke else arguments.steps
    n_blocks = -(-n_steps // (size * len(LEARNERS)))
    warnings.simplefilter("ignore")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.learners}
    for block in range(n_blocks):
        for name, found in results.items():
            given = {"learner": name, "block": block, "steps": size}
            found.append(harness.run(given, partial(take_steps, name, block, size)))
    return report(harness, results)


def report(harness: Harness, results: dict[str, list[dict[str, Any]]]) -> int:
    """One row a learner, then every fault; whether there was one."""
    kinds = ("steps", "fits", "adapts", "copies", "refused", "interruptions")
    rows = []
    for name, found in results.items():
        counts = [sum(one.get(kind, 0) for one in found) for kind in kinds]
        rows.append([name, *counts, sum(len(one["faults"]) for one in found)])
    harness.table("Calls in any order", ["learner", *kinds, "faults"], rows)
    faults = [fault for found in results.values() for one in found
              for fault in one["faults"]]  # fmt: skip
    print(*faults, sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
