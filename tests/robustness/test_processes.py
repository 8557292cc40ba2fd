"""Training in two processes of Accelerate: the steps of one process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PROGRAM = """
    import sys
    import numpy as np
    import torch
    from accelerate import PartialState
    from skcausalmeta.backbones import Conv4
    from skcausalmeta.heads import RidgeHead
    from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier
    from skcausalmeta.learners import SparseMetaRegressor
    from skcausalmeta.exceptions import InvalidInputError
    from skcausalmeta.training import EpisodeStream

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 12)
    X = rng.standard_normal((72, 5)) + y[:, None]
    small = dict(
        batches_per_epoch=3, max_epochs=1, tasks_per_batch=5, verbose=0, random_state=0,
        net_params={"accelerate": True},
    )
    exact = {**small, "net_params": {"accelerate": True, "head_tol": 1e-9}}
    rank, drawn = PartialState(cpu=True).process_index, []
    make = EpisodeStream._tasks

    def record(self, episodes):
        drawn.extend(np.r_[one.support, one.query] for one in episodes)
        return make(self, episodes)

    EpisodeStream._tasks = record
    learners = {
        "sparse": SparseMetaClassifier(**exact, validation=0.2),
        "ridge": SparseMetaClassifier(RidgeHead(), **small),
        "conv": SparseMetaClassifier(
            RidgeHead(), **small, input_shape=(8, 8),
            backbone=Conv4(n_blocks=2, n_filters=4),
        ),
        "maml": MAMLClassifier(**small, inner_steps=2),
        "values": SparseMetaRegressor(**exact, normalize_codes=False),
    }
    found = {}
    for name, learner in learners.items():
        rows = np.tile(X, (1, 13))[:, :64] if name == "conv" else X
        learner.fit(rows, y * 1.0 if name == "values" else y)
        for key, value in learner.net_.module_.state_dict().items():
            found[f"{name} {key}"] = value.numpy()
        losses = [row["train_loss"] for row in learner.history_]
        found[f"{name} loss"] = np.array(losses)
        if name == "ridge":
            # Every process first draws a whole batch for the scale of the logits.
            found["episodes"] = np.array(drawn[small["tasks_per_batch"]:])
        drawn.clear()
    refused = []
    bad = [
        SparseMetaClassifier(**{**small, "tasks_per_batch": 1}),
        SparseMetaClassifier(**{**small, "random_state": None}),
        SparseMetaRegressor(**small),
    ]
    for learner in bad:
        try:
            learner.fit(X, y * 1.0 if learner is bad[-1] else y)
        except InvalidInputError as error:
            refused.append(str(error))
    np.savez(f"{sys.argv[1]}{rank}.npz", refused=np.array(refused), **found)
"""


# Heads with an intercept do not depend on the last bias: its gradient is rounding,
# which Adam turns into steps of full length.
WITH_INTERCEPT = ("sparse", "ridge", "values")
WITHOUT_EFFECT = {f"{name} backbone.layers.2.bias" for name in WITH_INTERCEPT}


def launch(folder, number):
    program = folder / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, program, folder / f"of{number}-"]
    if number > 1:
        # What `accelerate launch` starts for GPUs; for CPUs it leaves it to MPI.
        port = 20_000 + os.getpid() % 20_000
        options = f"--nproc_per_node {number} --master_port {port}"
        command[1:1] = ["-m", "torch.distributed.run", *options.split()]
    subprocess.run(
        list(map(str, command)),
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return [dict(np.load(folder / f"of{number}-{k}.npz")) for k in range(number)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return launch(folder, 1)[0], launch(folder, 2)


def test_two_processes_train_as_one(results):
    alone, together = results
    for found in together:
        for name in set(alone) - {"episodes", "refused"} - WITHOUT_EFFECT:
            np.testing.assert_allclose(
                found[name], alone[name], atol=1e-5, rtol=1e-5, err_msg=name
            )


def test_processes_share_the_episodes_without_overlap(results):
    alone, together = results
    drawn = [found["episodes"] for found in together]
    shares = [rows.reshape(3, -1, *rows.shape[1:]) for rows in drawn]
    assert [part.shape[1] for part in shares] == [2, 3]
    whole = np.concatenate(shares, axis=1).reshape(alone["episodes"].shape)
    np.testing.assert_array_equal(whole, alone["episodes"])


def test_what_processes_cannot_share_is_refused(results):
    alone, together = results
    assert len(alone["refused"]) == 0
    for found in together:
        too_few, unlike, codes = found["refused"]
        assert "tasks_per_batch must be at least the number of processes" in too_few
        assert "set random_state to an integer" in unlike
        assert "normalize_codes=True" in codes
