"""Every head that discovery finds keeps the contract, and a broken one is caught."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_selection import SelectFromModel
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.estimator_checks import (
    check_estimator,
    estimator_checks_generator,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    Head,
    HeadSolution,
    LassoHead,
    PrototypeHead,
    RegressionHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
    _check_head,
    check_head,
    takes_offset,
)
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.utils import all_estimators

HEADS = [cls for _, cls in all_estimators() if issubclass(cls, Head | RegressionHead)]


# A program of cvxpy takes seconds: other choices than that of the solver are tried
# with a quick one, which gets its problem from the same lines.
QUICK = {"GroupLassoSVC": {"solver": "auto"}}


def variants(cls):
    """The head as it comes, and with one choice after the other made otherwise."""
    yield cls()
    quick = QUICK.get(cls.__name__, {})
    for name, rules in cls._parameter_constraints.items():
        for rule in rules:
            options = sorted(rule.options) if isinstance(rule, StrOptions) else []
            options = [False, True] if rule == "boolean" else options
            for option in options:
                if option != getattr(cls(), name):
                    yield cls(**quick | {name: option})


VARIANTS = [head for cls in HEADS for head in variants(cls)]


def test_discovery_finds_the_heads():
    names = {cls.__name__ for cls in HEADS}
    assert {"GroupLassoSVC", "RidgeHead", "RelaxedHead", "LassoHead"} <= names
    assert len(VARIANTS) > 2 * len(HEADS)
    assert {str(head) for head in VARIANTS} >= SLOW


# Gradient steps to the tolerances of the contract take seconds.
SLOW = {"GroupLassoSVC(solver='fista')"}


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, marks=pytest.mark.slow) if str(head) in SLOW else head
        for head in VARIANTS
    ],
    ids=str,
)
def test_head_keeps_the_contract(head):
    before = head.get_params()
    check_head(head)
    assert head.get_params() == before
    assert not hasattr(head, "dual_gap_")


@pytest.mark.parametrize("head", HEADS, ids=lambda cls: cls.__name__)
def test_heads_have_three_base_classes_of_their_own_at_most(head):
    own = [c for c in head.__mro__[1:] if c.__module__.startswith("skcausalmeta.")]
    assert len(own) <= 3


def test_groups_ask_for_their_number_of_features():
    check_head(GroupLassoLogistic(groups=[0, 0, 1, 1]), n_features=4)


@pytest.mark.slow
def test_an_adaptive_lasso_keeps_the_contract():
    check_head(GroupLassoLogistic(0.3, n_reweight=1, solver="newton"))


def test_what_a_head_holds_fixed_it_says():
    inexact = {str(head) for head in VARIANTS if head.inexact_gradient}
    assert inexact == {
        "GroupLassoLogistic(reg_gradient=False)",
        "GroupLassoSVC(reg_gradient=False, solver='auto')",
        "LassoHead()",
        "LassoHead(reg_scale='ridge-absolute')",
        "LassoHead(fit_intercept=False)",
        "LassoHead(refit=True)",
        "LassoHead(solver='fista')",
        "RidgeHead(reg_gradient=False)",
        "RidgeRegressionHead(reg_gradient=False)",
    }
    assert "adaptive" in GroupLassoSVC(n_reweight=1).inexact_gradient


# Heads as a user writes them.


class MeansHead(Head):
    """Nearest class mean, the means shrunk towards their average."""

    def __init__(self, shrinkage=0.1):
        self.shrinkage = shrinkage

    def _layer(self, features, targets, weights, tol):
        shares = targets * weights[..., None]
        shares = shares / shares.sum(dim=1, keepdim=True).clamp_min(1e-12)
        means = shares.mT @ features  # (n_tasks, n_classes, n_features)
        means = means + self.shrinkage * (means.mean(dim=1, keepdim=True) - means)
        return 2 * means.mT, -means.square().sum(-1)


class LeastSquaresHead(RegressionHead):
    """Linear regression of least norm."""

    def _layer(self, features, targets, weights, tol):
        shares = weights[..., None] / weights.sum(-1)[:, None, None]
        middle = (shares * features).sum(1, keepdim=True)
        outputs = (shares * targets).sum(1, keepdim=True)
        root = shares.sqrt()
        inverse = torch.linalg.pinv(root * (features - middle))
        coef = inverse @ (root * (targets - outputs))
        return coef, (outputs - middle @ coef)[:, 0]


class DuckHead(ClassifierMixin, BaseEstimator):
    """A head without the base class, and without row weights in `fit`."""

    def fit(self, X, y):
        X, y = validate_data(self, X, y, dtype=float)
        self.classes_, codes = np.unique(y, return_inverse=True)
        batch = torch.tensor(X)[None], torch.tensor(codes)[None], len(self.classes_)
        self.solution_ = self.solve_episodes(*batch)
        return self

    def decision_function(self, X):
        check_is_fitted(self)
        rows = torch.tensor(validate_data(self, X, dtype=float, reset=False))
        scores = rows @ self.solution_.coef[0] + self.solution_.intercept[0]
        scores = scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores
        return scores.numpy()

    def predict(self, X):
        scores = self.decision_function(X)
        codes = scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[np.asarray(codes, dtype=int)]

    def solve_episodes(
        self, features, targets, n_classes, *, sample_weight=None, tol=None
    ):
        head = MeansHead()
        return head.solve_episodes(
            features, targets, n_classes, sample_weight=sample_weight, tol=tol
        )

    def episode_logits(
        self, support, targets, query, n_classes, *, sample_weight=None, tol=None
    ):
        head = MeansHead()
        return head.episode_logits(
            support, targets, query, n_classes, sample_weight=sample_weight, tol=tol
        )


SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "verbose": 0, "random_state": 0}


@pytest.fixture(scope="module", name="bunch")
def make_bunch():
    return make_sparse_classes(12, 20, n_informative=3, random_state=0)


@pytest.mark.parametrize("head", [MeansHead(), MeansHead(0.5), LeastSquaresHead()])
def test_a_small_head_keeps_the_contract(head):
    check_head(head)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", [MeansHead(), LeastSquaresHead()])
def test_a_small_head_is_an_estimator(head):
    results = check_estimator(head, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["exception"]}
    assert not failed
    assert len(results) == len(list(estimator_checks_generator(head))) > 50


@pytest.mark.parametrize("head", [MeansHead(), RelaxedHead(head=MeansHead())])
def test_a_small_head_works_in_a_learner(bunch, head):
    learner = SparseMetaClassifier(head, **SMALL).fit(bunch.data, bunch.target)
    learner.adapt(bunch.data[:40], bunch.target[:40])
    assert learner.dual_gap_ >= 0
    assert 0 <= learner.sparsity_ < 1
    assert learner.score(bunch.data[:40], bunch.target[:40]) > 0.5


@pytest.mark.parametrize("common", ["auto", None])
def test_a_small_regression_works_in_a_learner(bunch, common):
    y = bunch.data[:, 0] - bunch.data[:, 1]
    learner = SparseMetaRegressor(LeastSquaresHead(), common=common, **SMALL)
    learner.fit(bunch.data, y, tasks=bunch.target)
    assert learner.around_common_ == (common == "auto")
    learner.adapt(bunch.data[:20], y[:20])
    assert learner.dual_gap_ == 0.0
    if common is None:  # a feature that is 0 in all rows of a task has no deviation
        assert learner.sparsity_ == 0.0


@pytest.mark.parametrize(
    "head", [MeansHead(), DuckHead(), RelaxedHead(head=MeansHead())]
)
def test_a_head_without_offset_solves_tasks_by_themselves(bunch, head):
    """Labels are shared by the tasks; a common predictor is for heads with offsets."""
    tasks, labels = np.arange(len(bunch.data)) % 3, bunch.target % 2
    learner = SparseMetaClassifier(head, **SMALL)
    assert not takes_offset(head)
    assert not learner.fit(bunch.data, labels, tasks=tasks).around_common_
    learner.adapt(bunch.data[:40], labels[:40])
    assert set(learner.predict(bunch.data)) <= {0, 1}
    with pytest.raises(InvalidInputError, match=f"a {type(head).__name__}, whose fit"):
        learner.set_params(common="linear").fit(bunch.data, labels, tasks=tasks)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_head_without_the_base_class_works_in_a_learner(bunch, wrapped):
    head = RelaxedHead(head=DuckHead()) if wrapped else DuckHead()
    learner = SparseMetaClassifier(head, **SMALL).fit(bunch.data, bunch.target)
    learner.adapt(bunch.data[:40], bunch.target[:40])
    assert learner.score(bunch.data[:40], bunch.target[:40]) > 0.5


def test_relaxed_heads_pass_row_weights_on_only_if_given(bunch):
    head = RelaxedHead(head=DuckHead()).fit(bunch.data[:60], bunch.target[:60])
    assert head.score(bunch.data[:60], bunch.target[:60]) > 0.5
    with pytest.raises(TypeError, match="sample_weight"):
        head.fit(bunch.data[:60], bunch.target[:60], sample_weight=np.ones(60))


@pytest.mark.parametrize("second", [None, RidgeHead(), MeansHead()])
def test_features_are_selected_by_a_relaxed_head(bunch, second):
    rows, labels = bunch.data[:60], bunch.target[:60]
    head = RelaxedHead(GroupLassoSVC(0.5, solver="newton"), second)
    selector = SelectFromModel(head, threshold=1e-9).fit(rows, labels)
    chosen = selector.estimator_.support_features_
    assert 0 < len(chosen) < rows.shape[1]
    assert np.flatnonzero(selector.get_support()).tolist() == chosen.tolist()


def test_a_second_head_without_weights_has_none_to_offer(bunch):
    head = RelaxedHead(head=DuckHead()).fit(bunch.data[:60], bunch.target[:60])
    assert not hasattr(head, "coef_")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_weights_of_prototypes_rank_the_classes(bunch, metric):
    rows, labels = bunch.data[:60], bunch.target[:60]
    head = PrototypeHead(metric, temperature=0.7).fit(rows, labels)
    queries = bunch.data
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    linear = queries @ head.coef_.T + head.intercept_
    assert (head.classes_[linear.argmax(1)] == head.predict(bunch.data)).all()
    # what all classes of a row share is no matter
    shift = linear - head.decision_function(queries)
    np.testing.assert_allclose(shift, shift[:, :1] + 0 * shift, atol=1e-9)


# Heads that break one rule each.


class WrongShape(RidgeHead):
    def _solve(self, features, targets, weights, tol):
        solution = super()._solve(features, targets, weights, tol)
        return solution._replace(coef=solution.coef.mT)


class WrongPrecision(RidgeHead):
    def _solve(self, features, targets, weights, tol):
        parts = super()._solve(features, targets, weights, tol)
        return HeadSolution(*(part.double() for part in parts))


class NotFinite(RidgeHead):
    def _logits(self, solved, query):
        return super()._logits(solved, query) / 0.0


class SharedOutputs(RidgeRegressionHead):
    def _layer(self, features, targets, weights, tol):
        coef, intercept = super()._layer(features, targets, weights, tol)
        return coef.mean(-1, keepdim=True) + 0 * coef, intercept


class NotTheWeights(RidgeRegressionHead):
    def _solve(self, features, targets, weights, tol):
        solution = super()._solve(features, targets, weights, tol)
        return solution._replace(intercept=solution.intercept + 1)


class NegativeGap(RidgeHead):
    def _solve(self, features, targets, weights, tol):
        solution = super()._solve(features, targets, weights, tol)
        return solution._replace(gap=solution.gap - 1)


class IgnoresTol(GroupLassoSVC):
    def _solver(self, tol=None, *, layer=False):
        solve = super()._solver(tol, layer=layer)
        return partial(solve, tol=0.1, max_iter=1) if layer else solve


class KeepsTheGraph(RidgeHead):
    def solve_episodes(self, features, targets, n_classes, **given):
        solution = super().solve_episodes(features, targets, n_classes, **given)
        return solution._replace(coef=solution.coef + 0 * features.sum())


class MixesTasks(RidgeHead):
    def _layer(self, features, targets, weights, tol):
        coef, intercept = super()._layer(features, targets, weights, tol)
        return coef + coef.mean(0), intercept


class NotCloned(RidgeHead):
    def __init__(self, ridge_reg=1.0, *, reg_scale="relative", fit_intercept=True):
        super().__init__(ridge_reg, reg_scale=reg_scale, fit_intercept=fit_intercept)

    def __getstate__(self):
        raise TypeError("cannot pickle this head")


class NoFacts(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        del self.sparsity_
        return self


class WrongSparsity(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.sparsity_ = 0.5
        return self


class NegativeFact(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.dual_gap_ = -1.0
        return self


class DescendingSupport(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.support_features_ = self.support_features_[::-1]
        return self


class DoubleAnswers(RidgeHead):
    def _logits(self, solved, query):
        return super()._logits(solved, query).double()


class ShortAnswers(RidgeHead):
    def decision_function(self, X):
        return super().decision_function(X)[:-1]


class WrongSupport(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.support_features_, self.sparsity_ = np.arange(5), 1 - 5 / 6
        return self


class OtherFit(RidgeHead):
    def _fit(self, task):
        facts = super()._fit(task)
        return {**facts, "coef_": 1.1 * facts["coef_"]}


class OtherPair(RidgeHead):
    def decision_function(self, X):
        scores = super().decision_function(X)
        return -scores if scores.ndim == 1 else scores


class OtherClasses(RidgeHead):
    def predict(self, X):
        return self.classes_[self._scores(X).argmin(axis=1)]


class FirstRow(RidgeHead):
    def _layer(self, features, targets, weights, tol):
        coef, intercept = super()._layer(features, targets, weights, tol)
        return coef + features[:, :1].mT, intercept

    def _fit(self, task):
        facts = super()._fit(task)
        return {**facts, "coef_": facts["coef_"] + task.features[0, 0].numpy()}


class FirstClass(RidgeHead):
    def _layer(self, features, targets, weights, tol):
        coef, intercept = super()._layer(features, targets, weights, tol)
        bonus = torch.eye(len(intercept[0]), dtype=intercept.dtype)[0]
        return coef, intercept + bonus

    def _fit(self, task):
        facts = super()._fit(task)
        bonus = np.eye(len(task.classes))[0]
        return {**facts, "intercept_": facts["intercept_"] + bonus}


class NoWeights(MeansHead):
    def _layer(self, features, targets, weights, tol):
        return super()._layer(features, targets, torch.ones_like(weights), tol)


class NoWeightsInFit(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


class NoGradient(RidgeHead):
    def _layer(self, features, targets, weights, tol):
        return super()._layer(features.detach(), targets, weights, tol)


class Detached(RidgeHead):
    def _layer(self, features, targets, weights, tol):
        parts = super()._layer(features, targets, weights, tol)
        return tuple(part.detach() for part in parts)


class WritesToData(RidgeHead):
    def _logits(self, solved, query):
        logits = super()._logits(solved, query)
        with torch.no_grad():
            query.fill_(0.0)
        return logits


class WritesParameters(RidgeHead):
    def _fit(self, task):
        self.ridge_reg = float(self.ridge_reg) + 1e-9
        return super()._fit(task)


class LayerKeepsCoef(RidgeHead):
    def _solve(self, features, targets, weights, tol):
        solution = super()._solve(features, targets, weights, tol)
        self.last_ = solution
        return solution


class HalfFitted(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        self.dual_gap_ = 1.0
        return super().fit(X, y, sample_weight)


class TakesNaN(RidgeHead):
    def fit(self, X, y, sample_weight=None):
        return super().fit(np.nan_to_num(X), y, sample_weight)


class ChecksNothing(RidgeHead):
    def episode_logits(self, support, targets, query, n_classes, **given):
        support = support.nan_to_num()
        return super().episode_logits(support, targets, query, n_classes, **given)


class RawErrors(RidgeHead):
    def solve_episodes(self, features, targets, n_classes, **given):
        try:
            return super().solve_episodes(features, targets, n_classes, **given)
        except ValueError as error:
            raise RuntimeError("shapes do not agree") from error


class DropsOffsets(RidgeHead):
    def episode_logits(self, *args, support_offset=None, query_offset=None, **given):
        return super().episode_logits(*args, **given)


class NoGradientInOffsets(RidgeHead):
    def _layer(self, features, targets, weights, tol, offset=None):
        offset = None if offset is None else offset.detach()
        return super()._layer(features, targets, weights, tol, offset)


class FitsWithoutOffset(RidgeHead):
    def _fit(self, task):
        return super()._fit(task._replace(offset=None))


class DropsOffsetsOfTargets(RidgeRegressionHead):
    def episode_predictions(self, *args, support_offset=None, **given):
        return super().episode_predictions(*args, **given)


class DividesByCounts(RidgeHead):
    def _layer(self, features, targets, weights, tol):
        coef, intercept = super()._layer(features, targets, weights, tol)
        return coef / (targets.sum(1) > 0)[:, None], intercept


class Majority(MeansHead):
    def _layer(self, features, targets, weights, tol):
        coef, intercept = super()._layer(features, targets, weights, tol)
        shares = (weights[..., None] * targets).sum(1) / weights.sum(-1, keepdim=True)
        return coef, intercept + 100 * shares


class ThroughTheOrigin(RidgeHead):
    fixed_origin = ""

    def __init__(self, ridge_reg=1.0, *, fit_intercept=False):
        super().__init__(ridge_reg, fit_intercept=fit_intercept)


BROKEN = {
    WrongShape: "_has_shapes",
    WrongPrecision: "_has_shapes",
    NotFinite: "_answers_have_shapes",
    SharedOutputs: "_outputs_keep_their_axis",
    NotTheWeights: "_outputs_keep_their_axis",
    NegativeGap: "_has_certificates",
    IgnoresTol: "_has_certificates",
    KeepsTheGraph: "_solves_without_gradients",
    MixesTasks: "_solves_one_by_one",
    NotCloned: "_is_an_estimator",
    NoFacts: "_has_facts",
    WrongSparsity: "_has_facts",
    NegativeFact: "_has_facts",
    DescendingSupport: "_has_facts",
    DoubleAnswers: "_answers_have_shapes",
    ShortAnswers: "_fits_what_it_solves",
    WrongSupport: "_ignores_unused_features",
    OtherFit: "_fits_what_it_solves",
    OtherPair: "_fits_what_it_solves",
    OtherClasses: "_fits_what_it_solves",
    FirstRow: "_ignores_the_order_of_rows",
    FirstClass: "_ignores_the_numbers_of_classes",
    NoWeights: "_leaves_rows_of_weight_0_out",
    NoWeightsInFit: "_leaves_rows_of_weight_0_out",
    NoGradient: "_has_gradients",
    Detached: "_has_gradients",
    DropsOffsets: "_knows_offsets",
    NoGradientInOffsets: "_knows_offsets",
    FitsWithoutOffset: "_knows_offsets",
    DropsOffsetsOfTargets: "_knows_offsets",
    DividesByCounts: "_answers_absent_classes",
    Majority: "_keeps_small_classes",
    ThroughTheOrigin: "_follows_moved_features",
    WritesToData: "_changes_nothing",
    WritesParameters: "_changes_nothing",
    LayerKeepsCoef: "_changes_nothing",
    HalfFitted: "_survives_a_failed_fit",
    TakesNaN: "_survives_a_failed_fit",
    ChecksNothing: "_refuses_what_it_cannot_solve",
    RawErrors: "_refuses_what_it_cannot_solve",
}


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_rule_is_named(cls):
    with pytest.raises(AssertionError) as caught:
        check_head(cls())
    rule = getattr(_check_head, BROKEN[cls]).__doc__
    start = f"{cls.__name__} breaks the contract of a head. {rule} Got "
    assert str(caught.value).startswith(start)
    assert len(str(caught.value)) > len(start) + 5


def test_every_rule_can_fail():
    assert {rule.__name__ for rule in _check_head._RULES} == set(BROKEN.values())


class Declared(Detached):
    inexact_gradient = "it is not computed"


def test_a_declared_gradient_is_not_compared():
    check_head(Declared())


def test_what_is_no_head_is_refused():
    with pytest.raises(AssertionError, match="no attribute 'solve_episodes'"):
        check_head(ClassifierWithoutLayer())


class ClassifierWithoutLayer(ClassifierMixin, BaseEstimator):
    pass


# What the base classes refuse.


@pytest.mark.parametrize("head", [RidgeHead(), PrototypeHead(), LassoHead()])
def test_query_rows_of_other_tasks_are_refused(head):
    rows, targets = torch.randn(2, 6, 3).double(), torch.arange(6).repeat(2, 1) % 2
    regression = isinstance(head, RegressionHead)
    ask = head.episode_predictions if regression else head.episode_logits
    classes = () if regression else (2,)
    targets = targets.double() if regression else targets
    with pytest.raises(ValueError, match=r"Got \(1, 6, 3\) beside \(2, 6, 3\)"):
        ask(rows, targets, rows[:1], *classes)
    weights = torch.full(targets.shape, torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        ask(rows, targets, rows, *classes, sample_weight=weights)


def test_a_parameter_that_changes_between_two_calls_is_checked():
    rows, labels = torch.eye(4)[None].double(), torch.tensor([[0, 0, 1, 1]])
    head = GroupLassoSVC(0.1, solver="newton")
    expected = head.episode_logits(rows, labels, rows, 2)
    assert torch.equal(head.episode_logits(rows, labels, rows, 2), expected)
    for name, value in {"tol": -1.0, "group_reg": "much", "max_iter": 0}.items():
        good = getattr(head, name)
        setattr(head, name, value)
        for _ in range(2):
            with pytest.raises(ValueError, match=f"The {name!r} parameter"):
                head.episode_logits(rows, labels, rows, 2)
        setattr(head, name, good)
        assert torch.equal(head.episode_logits(rows, labels, rows, 2), expected)
