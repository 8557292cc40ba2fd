"""scikit-learn's common tests, every estimator of the package under all of them."""

import inspect
from collections import Counter

import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_estimator,
    estimator_checks_generator,
)

from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
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
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.utils import all_estimators

# The failures of scikit-learn's own Pipeline: fitting replaces the given steps.
PIPELINE_FAILURES = {
    "check_dont_overwrite_parameters",
    "check_estimators_overwrite_params",
}


# A short training, by the names of the parameters that a class may have.
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "inner_steps": 2,
    "verbose": 0,
}


def small(cls, **params):
    """An estimator that trains shortly, if it trains."""
    named = inspect.signature(cls).parameters
    return cls(**{k: v for k, v in SMALL.items() if k in named} | params)


# What a class needs beside `SMALL` to be quick or to be built at all.
PARAMS = {
    "GroupLassoSVC": {"solver": "auto"},
    "GroupLassoSVCCV": {"group_regs": 2, "cv": 2, "solver": "auto"},
    # More steps on many rows than on the few that most checks have.
    "MTCRLClassifier": {"batch_size": 32, "lr": 0.05},
    "MTCRLRegressor": {"batch_size": 32, "lr": 0.02, "max_epochs": 5},
    "MetaCRLClassifier": {"estimator": small(SparseMetaClassifier, head=RidgeHead())},
    "MetaCRLRegressor": {"estimator": small(SparseMetaRegressor, head=RidgeHead(0.1))},
    "MetaPipeline": {
        "verbose": False,
        "steps": [
            ("scale", StandardScaler()),
            ("learner", small(SparseMetaClassifier, head=RidgeHead(), random_state=2)),
        ],
    },
}
# An estimator of scikit-learn for everything that tags can switch off: its checks, in
# whichever version is there, are those that a class of the same kind must have.
PEERS = {"classifier": KNeighborsClassifier(), "regressor": KNeighborsRegressor()}
# Checks that the peers have beside, by parts of their names, with the reason.
NOT_FOR = {
    "multilabel": "a row has one label",
    "multioutput": "a row has one target",
}
NOT_FOR_CLASS = {"MetaPipeline": {"requires_y_none": "a step may need no y"}}
# Weights are the frequency with which random episodes draw a row: a row twice on
# average, which two random trainings do not agree on to the last digit.
DRAWN_BY_WEIGHT = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}
# Weights in the losses of batches in a random order: a row twice makes other batches.
IN_OTHER_BATCHES = DRAWN_BY_WEIGHT
# Failures with a reason.
FAILURES = {
    "MetaPipeline": PIPELINE_FAILURES,
    "MAMLClassifier": DRAWN_BY_WEIGHT,
    "MAMLRegressor": DRAWN_BY_WEIGHT,
    "MTCRLClassifier": IN_OTHER_BATCHES,
    "MTCRLRegressor": IN_OTHER_BATCHES,
    "MetaCRLClassifier": DRAWN_BY_WEIGHT,
    "MetaCRLRegressor": DRAWN_BY_WEIGHT,
    "SparseMetaClassifier": DRAWN_BY_WEIGHT,
    "SparseMetaRegressor": DRAWN_BY_WEIGHT,
}

# Other ways through the code of a class.
VARIANTS = {
    "svc-intercept": GroupLassoSVC(fit_intercept=True),
    "svc-newton": GroupLassoSVC(solver="newton"),
    "svc-cvxpy": GroupLassoSVC(solver="cvxpy"),
    "svc-fista": GroupLassoSVC(solver="fista", tol=1e-10),
    "logistic-fista": GroupLassoLogistic(solver="fista"),
    "ridge-origin": RidgeHead(fit_intercept=False),
    "prototypes-cosine": PrototypeHead(metric="cosine"),
    "relaxed-ridge": RelaxedHead(head=RidgeHead()),
    "lasso-ridge": LassoHead(0.1, 0.1),
    "lasso-fista": LassoHead(solver="fista", fit_intercept=False),
    "ridge-regression-origin": RidgeRegressionHead(fit_intercept=False),
    "regressor-ridge": small(SparseMetaRegressor, head=RidgeHead(0.1), split="none"),
    "maml-kfo": small(MAMLClassifier, update="kfo"),
    "maml-head": small(MAMLClassifier, adapt_layers="head"),
    "maml-regressor-kfo": small(MAMLRegressor, update="kfo", adapt_layers="head"),
    "metacrl-anil": MetaCRLClassifier(small(MAMLClassifier, adapt_layers="head")),
}


def names_of_checks(estimator):
    """Names of the checks of scikit-learn for an estimator, with their numbers."""
    checks = estimator_checks_generator(estimator)
    return Counter(check.func.__name__ for _, check in checks)


def missing_checks(estimator):
    """Checks of a peer that an estimator has not, and no reason for it."""
    peer = PEERS[estimator.__sklearn_tags__().estimator_type]
    parts = NOT_FOR | NOT_FOR_CLASS.get(type(estimator).__name__, {})
    missing = names_of_checks(peer) - names_of_checks(estimator)
    return {name for name in missing if not any(part in name for part in parts)}


def check(estimator):
    """Run all checks of scikit-learn: each runs, and fails for a reason only."""
    name = type(estimator).__name__
    assert missing_checks(estimator) == set()
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["exception"]}
    failures = FAILURES.get(name, set())
    assert failed.keys() == failures, failed
    n_checks = names_of_checks(estimator).total()
    assert Counter(r["status"] for r in results) == Counter(
        {"passed": n_checks - len(failures), "failed": len(failures)}
    )


def test_checks_that_tags_switch_off_are_missed():
    class Flat(RidgeHead):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.input_tags.two_d_array = False
            return tags

    class Unsure(RidgeHead):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.non_deterministic = True
            return tags

    assert "check_fit2d_1sample" in missing_checks(Flat())
    assert "check_methods_subset_invariance" in missing_checks(Unsure())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "cls", [pytest.param(cls, id=name) for name, cls in all_estimators()]
)
def test_every_estimator_passes_the_common_tests(cls):
    check(small(cls, **PARAMS.get(cls.__name__, {})))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_pass_the_common_tests(estimator):
    check(estimator)
