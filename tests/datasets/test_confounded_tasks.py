"""make_confounded_tasks against the laws that its docstring states."""

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import helmert
from sklearn.linear_model import LinearRegression, LogisticRegression

from skcausalmeta.datasets import make_confounded_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import PrototypeHead
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import support_f1

SMALL = {"n_test_tasks": 4, "random_state": 0}


def scores_of(bunch, weights):
    """Scores of training rows under the weights of their task, without the shift."""
    shift = bunch.causal_sets[bunch.tasks] * 1.0
    latents = bunch.latents - shift
    return np.einsum("nk,nsk->ns", latents, weights[bunch.tasks])


def both_scores(bunch):
    own = scores_of(bunch, bunch.weights)
    return own, scores_of(bunch, bunch.weights[bunch.confounders])


# -- sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("sets", ["blocks", "random"])
def test_sets_of_a_group_are_disjoint_and_confound_the_previous_task(sets):
    bunch = make_confounded_tasks(12, 4, 9, sets=sets, **SMALL)
    for part in (bunch, bunch.test):
        n = len(part.groups)
        np.testing.assert_array_equal(part.groups, np.arange(n) // 4)
        assert part.causal_sets.sum(axis=1).tolist() == [2] * n
        for group in range(n // 4):
            members = part.causal_sets[part.groups == group]
            assert members.sum(axis=0).max() == 1
            np.testing.assert_array_equal(
                part.confounder_sets[part.groups == group], np.roll(members, -1, axis=0)
            )
        np.testing.assert_array_equal(
            part.confounder_sets, part.causal_sets[part.confounders]
        )


def test_blocks_stay_the_same_and_random_sets_do_not():
    blocks = make_confounded_tasks(80, 4, 9, **SMALL).causal_sets
    expected = np.repeat(np.eye(4, dtype=bool), 2, axis=1)
    found = np.unique(blocks, axis=0)[::-1]
    np.testing.assert_array_equal(found, np.pad(expected, ((0, 0), (0, 1))))
    random = make_confounded_tasks(400, 4, 5, tasks_per_group=2, sets="random", **SMALL)
    subsets, counts = np.unique(random.causal_sets, axis=0, return_counts=True)
    assert len(subsets) == 10
    assert stats.chisquare(counts).pvalue > 1e-3


def test_weights_are_orthonormal_on_the_causal_set():
    bunch = make_confounded_tasks(
        8, 4, 12, set_size=3, n_classes=3, tasks_per_group=4, **SMALL
    )
    products = bunch.weights @ bunch.weights.swapaxes(1, 2)
    np.testing.assert_allclose(products, np.tile(np.eye(2), (8, 1, 1)), atol=1e-12)
    used = (bunch.weights != 0).any(axis=1)
    np.testing.assert_array_equal(used, bunch.causal_sets)


# -- rows ------------------------------------------------------------------------------


def test_rows_come_task_by_task_and_by_environment():
    bunch = make_confounded_tasks(
        4, 6, n_features=11, rho_train=(0.9, 0.5, 0.0), rho_test=(0.0, -1.0), **SMALL
    )
    np.testing.assert_array_equal(bunch.tasks, np.repeat(np.arange(4), 18))
    np.testing.assert_array_equal(bunch.envs, np.tile(np.repeat([0, 1, 2], 6), 4))
    np.testing.assert_array_equal(bunch.data, bunch.mixing(bunch.latents))
    test = bunch.test
    assert test.X_support.shape == (4, 30, 11)
    assert test.X_query.shape == (4, 40, 11)
    np.testing.assert_array_equal(test.envs_support, np.repeat([0, 1, 2], 10))
    np.testing.assert_array_equal(test.rho_query, np.repeat([0.0, -1.0], 20))
    np.testing.assert_allclose(test.X_query[2], bunch.mixing(test.latents_query[2]))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_every_factor_is_standard_normal_but_for_the_shift(n_classes):
    bunch = make_confounded_tasks(
        200, 10, 12, set_size=4, tasks_per_group=2, n_classes=n_classes, **SMALL
    )
    latents = bunch.latents - bunch.causal_sets[bunch.tasks]
    for column in latents.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    labels = bunch.target.reshape(-1, 10)
    counts = [np.bincount(row, minlength=n_classes) for row in labels]
    assert np.ptp(counts, axis=1).max() <= 1


@pytest.mark.parametrize("n_classes", [2, 4])
def test_cause_and_confounder_show_the_label_as_often_as_stated(n_classes):
    strengths = (1.0, 0.6, 0.0, -0.6)
    bunch = make_confounded_tasks(
        400,
        20,
        12,
        set_size=3,
        n_classes=n_classes,
        rho_train=strengths,
        label_noise=0.2,
        **SMALL,
    )
    corners = -helmert(n_classes)  # (n_classes - 1, n_classes)
    cause, other = ((s @ corners).argmax(axis=1) for s in both_scores(bunch))
    for env, rho in enumerate(strengths):
        rows = bunch.envs == env
        y = bunch.target[rows]
        assert (cause[rows] == y).mean() == pytest.approx(0.8, abs=0.02)
        tied = (y + (rho < 0)) % n_classes
        expected = abs(rho) + (1 - abs(rho)) / n_classes
        assert (other[rows] == tied).mean() == pytest.approx(expected, abs=0.02)
        if n_classes == 2:
            agree = (other[rows] == y).mean()
            assert agree == pytest.approx((1 + rho) / 2, abs=0.02)


def test_two_classes_are_the_sign_of_the_score():
    bunch = make_confounded_tasks(8, 10, label_noise=0.0, **SMALL)
    own = scores_of(bunch, bunch.weights)[:, 0]
    np.testing.assert_array_equal(bunch.target, own > 0)


def test_regression_weights_are_those_worked_out_by_hand():
    # cov(u, y) = 1, cov(d, y) = rho s, cov(u, d) = rho / s with s^2 = 1 + 0.75.
    rho, s = 0.8, np.sqrt(1.75)
    bunch = make_confounded_tasks(
        400,
        50,
        kind="regression",
        rho_train=rho,
        label_noise=np.sqrt(0.75),
        **SMALL,
    )
    own, other = both_scores(bunch)
    np.testing.assert_allclose(np.std(bunch.target), s, atol=0.03)
    found = LinearRegression().fit(np.hstack([own, other]), bunch.target).coef_
    expected = np.linalg.solve([[1, rho / s], [rho / s, 1]], [1, rho * s])
    np.testing.assert_allclose(found, expected, atol=0.03)
    rest = own[:, 0] - bunch.target
    assert stats.kstest(rest / np.sqrt(0.75), "norm").pvalue > 1e-3


@pytest.mark.parametrize("mixing", ["identity", "linear", "mlp", np.tanh])
def test_mixings_show_the_latents(mixing):
    bunch = make_confounded_tasks(4, 5, mixing=mixing, **SMALL)
    again = make_confounded_tasks(4, 5, mixing=bunch.mixing, n_test_tasks=4)
    np.testing.assert_array_equal(again.data, bunch.mixing(again.latents))
    if mixing == "identity":
        np.testing.assert_array_equal(bunch.data, bunch.latents)


# -- what it is for --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_all_factors_lose_where_the_confounder_turns_and_the_causes_do_not(kind):
    test = make_confounded_tasks(
        4, kind=kind, rho_test=(-0.9, 0.9), n_test_tasks=100, random_state=0
    ).test
    model = LogisticRegression() if kind == "classification" else LinearRegression()
    everything = np.ones(8, dtype=bool)

    def score(columns_of, rho):
        rows = test.rho_query == rho
        scores = []
        for t, y in enumerate(test.y_support):
            columns = columns_of(t)
            model.fit(test.latents_support[t][:, columns], y)
            query = test.latents_query[t][rows][:, columns]
            scores.append(model.score(query, test.y_query[t][rows]))
        return np.mean(scores)

    causes, both = test.causal_sets, everything
    assert score(lambda t: causes[t], -0.9) > (
        0.85 if kind == "classification" else 0.6
    )
    assert score(lambda t: causes[t], -0.9) > score(lambda t: both, -0.9) + 0.1
    assert score(lambda t: both, 0.9) > score(lambda t: both, -0.9) + 0.05


@pytest.mark.parametrize(("signature", "low", "high"), [(1.0, 0.97, 1), (0, 0.1, 0.4)])
def test_support_means_show_the_causal_set_by_the_signature(signature, low, high):
    test = make_confounded_tasks(
        4, signature=signature, n_test_tasks=100, random_state=0
    ).test
    means = test.latents_support.mean(axis=1)
    largest = means >= np.sort(means, axis=1)[:, [-2]]
    assert low <= support_f1(test.causal_sets, largest) <= high


def test_learners_take_the_rows_and_the_episodes():
    bunch = make_confounded_tasks(8, 8, **SMALL)
    learner = SparseMetaClassifier(
        head=PrototypeHead(),
        n_shot=4,
        n_query=4,
        max_epochs=1,
        batches_per_epoch=2,
        fit_head=False,
        verbose=0,
        random_state=0,
    ).fit(bunch.data, bunch.target, tasks=bunch.tasks)
    test = bunch.test
    found = learner.predict_episodes(test.X_support, test.y_support, test.X_query)
    assert found.shape == test.y_query.shape


# -- seeds and errors ------------------------------------------------------------------


def test_everything_repeats_with_the_seed_and_streams_are_apart():
    first, again, other = (
        make_confounded_tasks(4, random_state=seed) for seed in (3, 3, 4)
    )
    for name in ("data", "target", "causal_sets"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()
    more = make_confounded_tasks(8, random_state=3)
    np.testing.assert_array_equal(first.test.X_query, more.test.X_query)


def test_the_global_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_confounded_tasks(4)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_tasks": 6}, "multiple of the 4 tasks of a group. Got n_tasks=6; take 8"),
        ({"n_test_tasks": 3}, "Got n_test_tasks=3; take 4"),
        ({"n_factors": 7}, "n_factors=7 for 4 sets of 2"),
        ({"n_features": 7}, "n_features=7 for n_factors=8"),
        ({"n_classes": 4}, "set_size=2 for n_classes=4"),
        ({"n_support": 1}, "at least n_classes=2.*Got n_support=1"),
        ({"rho_train": (0.9, 1.1)}, r"rho_train must hold.*\[-1, 1\]. Got"),
        ({"rho_test": ()}, "rho_test must hold at least one strength"),
        ({"label_noise": 1.0}, "probability below 1 in classification. Got 1.0"),
        ({"mixing": lambda z: z[:-1]}, "one row per row"),
    ],
)
def test_what_does_not_fit_is_refused(params, message):
    with pytest.raises(InvalidInputError, match=message):
        make_confounded_tasks(**params)


@pytest.mark.parametrize(
    "params", [{"sets": "some"}, {"kind": "rank"}, {"label_noise": -1}, {"mixing": "x"}]
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        make_confounded_tasks(**params)
