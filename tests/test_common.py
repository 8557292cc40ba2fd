"""scikit-learn's common tests, every estimator of the package under all of them."""

from collections import Counter

import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skcausalmeta.compose import MetaPipeline
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    GroupLassoSVCCV,
    LassoHead,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
    RidgeRegressionHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MetaCRLRegressor,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.utils import all_estimators

# The failures of scikit-learn's own Pipeline: fitting replaces the given steps.
PIPELINE_FAILURES = {
    "check_dont_overwrite_parameters",
    "check_estimators_overwrite_params",
}


SMALL = {"max_epochs": 1, "batches_per_epoch": 5, "tasks_per_batch": 2, "verbose": 0}


def small_learner(**params):
    return SparseMetaClassifier(**SMALL, **params)


# Estimator, number of checks that scikit-learn 1.9 has for it, failures with a reason.
CASES = {
    "svc": (GroupLassoSVC(), 63, set()),
    "svc-intercept": (GroupLassoSVC(fit_intercept=True), 63, set()),
    "svc-newton": (GroupLassoSVC(solver="newton"), 63, set()),
    "svc-auto": (GroupLassoSVC(solver="auto"), 63, set()),
    "svc-fista": (GroupLassoSVC(solver="fista", tol=1e-10), 63, set()),
    "svc-cv": (GroupLassoSVCCV(3, cv=2), 63, set()),
    "logistic": (GroupLassoLogistic(), 63, set()),
    "logistic-fista": (GroupLassoLogistic(solver="fista"), 63, set()),
    "ridge": (RidgeHead(), 63, set()),
    "ridge-origin": (RidgeHead(fit_intercept=False), 63, set()),
    "prototypes": (PrototypeHead(), 62, set()),
    "prototypes-cosine": (PrototypeHead(metric="cosine"), 62, set()),
    "relaxed": (RelaxedHead(), 62, set()),
    "relaxed-ridge": (RelaxedHead(head=RidgeHead()), 62, set()),
    "lasso": (LassoHead(), 60, set()),
    "lasso-ridge": (LassoHead(0.1, 0.1), 60, set()),
    "lasso-fista": (LassoHead(solver="fista", fit_intercept=False), 60, set()),
    "ridge-regression": (RidgeRegressionHead(), 60, set()),
    "ridge-regression-origin": (RidgeRegressionHead(fit_intercept=False), 60, set()),
    "learner": (small_learner(), 61, set()),
    "regressor": (SparseMetaRegressor(**SMALL), 58, set()),
    "regressor-ridge": (
        SparseMetaRegressor(RidgeHead(0.1), split="none", **SMALL),
        58,
        set(),
    ),
    "maml": (MAMLClassifier(**SMALL), 61, set()),
    "maml-kfo": (MAMLClassifier("kfo", **SMALL), 61, set()),
    "maml-head": (MAMLClassifier(adapt_layers="head", **SMALL), 61, set()),
    "maml-regressor": (MAMLRegressor(**SMALL), 58, set()),
    "maml-regressor-kfo": (
        MAMLRegressor("kfo", adapt_layers="head", **SMALL),
        58,
        set(),
    ),
    "metacrl": (MetaCRLClassifier(small_learner()), 61, set()),
    "metacrl-anil": (
        MetaCRLClassifier(MAMLClassifier(adapt_layers="head", **SMALL)),
        61,
        set(),
    ),
    "metacrl-regressor": (
        MetaCRLRegressor(SparseMetaRegressor(**SMALL)),
        58,
        set(),
    ),
    "mtcrl": (MTCRLClassifier(max_epochs=15), 62, set()),
    "mtcrl-regressor": (MTCRLRegressor(max_epochs=40), 59, set()),
    "pipeline": (
        MetaPipeline(
            [("scale", StandardScaler()), ("learner", small_learner(random_state=2))]
        ),
        60,
        PIPELINE_FAILURES,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "n_checks", "failures"), CASES.values(), ids=CASES.keys()
)
def test_estimator_passes_the_common_tests(estimator, n_checks, failures):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["exception"]}
    assert failed.keys() == failures, failed
    assert Counter(r["status"] for r in results) == Counter(
        {"passed": n_checks - len(failures), "failed": len(failures)}
    )


def test_every_estimator_has_a_case():
    covered = {type(estimator) for estimator, *_ in CASES.values()}
    assert {cls for _, cls in all_estimators()} == covered
