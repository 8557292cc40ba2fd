"""One learner that many threads share, and many tasks within a bound of memory."""

import copy
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError, OutOfMemoryError
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
    _checks,
    _task_batches,
)

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(6), 12)
X = RNG.standard_normal((72, 5)) + Y[:, None]
SMALL = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SMALL, "batches_per_epoch": 2, "tasks_per_batch": 2}
LEARNERS = {
    "sparse": SparseMetaClassifier(**EPISODIC),
    "sparse-episode": SparseMetaClassifier(**EPISODIC, batch_norm="episode"),
    "sparse-values": SparseMetaRegressor(**EPISODIC),
    "maml": MAMLClassifier(**EPISODIC, inner_steps=2),
    "maml-episode": MAMLClassifier(**EPISODIC, inner_steps=2, batch_norm="episode"),
    "maml-values": MAMLRegressor(**EPISODIC, inner_steps=2),
    "metacrl": MetaCRLClassifier(MAMLClassifier(**EPISODIC, inner_steps=1)),
    "mtcrl": MTCRLClassifier(**SMALL),
}
N_TASKS = 16


def make_tasks(values, n_tasks=N_TASKS, seed=1):
    rng = np.random.default_rng(seed)
    ways = np.array([rng.choice(4, 2, replace=False) for _ in range(n_tasks)])
    labels = np.tile(ways, 3)
    support = rng.standard_normal((n_tasks, 6, 5)) + labels[..., None]
    query = rng.standard_normal((n_tasks, 4, 5)) + ways[:, [0, 1, 0, 1], None]
    return support, labels * 1.0 if values else labels, query


@pytest.fixture(scope="module", params=LEARNERS)
def case(request):
    values = request.param.endswith("values")
    learner = copy.deepcopy(LEARNERS[request.param]).fit(X, Y * 1.0 if values else Y)
    return learner, make_tasks(values)


def answer(learner, support, targets, query):
    one = copy.copy(learner).adapt(support, targets)
    return one.predict(query), one.transform(query)


def test_eight_threads_answer_as_one(case):
    learner, tasks = case
    before = vars(learner).copy()
    alone = [answer(learner, *task) for task in zip(*tasks, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, [learner] * N_TASKS, *tasks))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert vars(learner) == before


def test_chunks_within_a_bound_answer_as_all_at_once(case):
    learner, (support, targets, query) = case
    whole = learner.predict_episodes(support, targets, query)
    small = least(learner, support, targets, query)
    for bound in (small, 2 * small, 2**40):
        found = learner.predict_episodes(support, targets, query, max_memory=bound)
        assert found.shape == whole.shape
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


def least(learner, *tasks):
    """The bound that the message names."""
    with pytest.raises(InvalidInputError, match="at least what one task takes") as one:
        learner.predict_episodes(*tasks, max_memory=1)
    return int(str(one.value).split(" bytes")[0].split()[-1])


@pytest.mark.parametrize("bound", [0.5, "1GB", True, -1])
def test_the_bound_is_a_number_of_bytes(bound):
    learner = MAMLClassifier(**EPISODIC, inner_steps=1).fit(X, Y)
    with pytest.raises(InvalidInputError, match="max_memory must be"):
        learner.predict_episodes(*make_tasks(False), max_memory=bound)


def replace_in_learners(patch, **values):
    """Replace what modules of the learners define or import under these names."""
    for place, module in sorted(sys.modules.items()):
        for name in values:
            if place.startswith("skcausalmeta.learners.") and hasattr(module, name):
                patch.setattr(module, name, values[name])


def test_without_a_bound_tasks_are_still_taken_in_turns(case, monkeypatch):
    learner, tasks = case
    whole, sizes = learner.predict_episodes(*tasks), []
    solve_in_turns = _task_batches.in_task_chunks

    def watch(solve, n_tasks, size):
        sizes.append(size)
        return solve_in_turns(solve, n_tasks, size)

    replace_in_learners(monkeypatch, TASKS_AT_ONCE=5, in_task_chunks=watch)
    found = learner.predict_episodes(*tasks)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)
    assert sizes == [5]


def test_a_pipeline_passes_the_bound_on():
    pipe = make_meta_pipeline(StandardScaler(), SparseMetaClassifier(**EPISODIC))
    tasks = make_tasks(False)
    whole = pipe.fit(X, Y).predict_episodes(*tasks)
    found = pipe.predict_episodes(*tasks, max_memory=2**24)
    np.testing.assert_array_equal(found, whole)
    with pytest.raises(InvalidInputError, match="at least what one task takes"):
        pipe.predict_episodes(*tasks, max_memory=0)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_chunks_are_halved_where_memory_runs_out(case, monkeypatch, error):
    learner, (support, targets, query) = case
    whole = learner.predict_episodes(support, targets, query)
    check, sizes = _checks.check_rows, []

    def scarce(owner, X):
        sizes.append(len(X))
        if len(X) > 6 * 5:
            raise error("out of memory")
        return check(owner, X)

    replace_in_learners(monkeypatch, check_rows=scarce)
    found = learner.predict_episodes(support, targets, query)
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)
    assert sizes[:3] == [16 * 6, 8 * 6, 4 * 6]


def test_a_task_that_does_not_fit_is_named(case, monkeypatch):
    learner, tasks = case
    with monkeypatch.context() as patch:

        def full(owner, X):
            raise torch.OutOfMemoryError("CUDA out of memory")

        replace_in_learners(patch, check_rows=full)
        with pytest.raises(OutOfMemoryError, match="task 0, which does not fit"):
            learner.predict_episodes(*tasks)
    assert len(learner.predict_episodes(*tasks)) == N_TASKS


@pytest.mark.slow
def test_thousands_of_tasks_stay_within_their_bound(tmp_path):
    """200 MB of support rows on disk; the bound is 32 MiB beside the answer."""
    program = f"""
        import resource
        import numpy as np
        import torch
        from skcausalmeta.backbones import MLP
        from skcausalmeta.learners import SparseMetaClassifier

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((60, 2500)), np.arange(60) % 6
        learner = SparseMetaClassifier(
            max_epochs=1, batches_per_epoch=1, verbose=0, random_state=0,
            backbone=MLP(hidden=(8,), out_features=8),
        ).fit(X, y)
        shape = (2_000, 10, 2500)
        with open({str(tmp_path / "rows")!r}, "wb") as file:
            file.truncate(4 * 2_000 * 10 * 2500)
        support = np.memmap(file.name, dtype=np.float32, mode="r", shape=shape)
        labels = np.tile(np.arange(10) % 2, (2_000, 1))
        few = [part[:50] for part in (support, labels, support[:, :2])]
        learner.predict_episodes(*few, max_memory=2**25)
        before = peak()
        found = learner.predict_episodes(
            support, labels, support[:, :2], max_memory=2**25
        )
        print(peak() - before, found.shape[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
    )
    grown, n_tasks = map(int, done.stdout.split())
    assert n_tasks == 2_000
    assert grown < 2**25
