"""Settings that must hold before scikit-learn and torch start to work."""

import gc
import os
import sys

# SciPy reads it once: without it scikit-learn leaves its array API checks out.
os.environ["SCIPY_ARRAY_API"] = "1"

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave what is imported and collected, which stays, out of later collections."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Test processes run side by side; more threads each would compete."""
    # Not above: the process that only hands tests out has no use for torch.
    import torch

    torch.set_num_threads(1)


# Searches of a common predictor, at the size that most tests need: by module and name.
_SHORT = {
    "skcausalmeta.training._pooled": {
        "_FEWEST_STEPS": 4,
        "_MOST_STEPS": 16,
        "_WEIGHT_DECAYS": (0.1,),
    },
    "skcausalmeta.learners._synergies._around_common": {
        "_N_VALID": 4,
        "_BEGIN_EPOCHS": 1,
    },
    "skcausalmeta.learners._synergies._common": {"_RIDGES": (1.0, 100.0)},
    "skcausalmeta.learners._synergies._epochs": {"_PATIENCE": 1},
    "skcausalmeta.learners._synergies._sparsity": {
        "GRID": (0.0, 0.3, 1.0),
        "_N_BATCHES": 2,
        "_TASKS": 3,
    },
}
_WHOLE = {}


@pytest.fixture(autouse=True, scope="module")
def short_common(request):
    """Train common predictors for a moment: how good they are matters to few tests.

    A module of those few says ``pytestmark = pytest.mark.whole_common``, a single test
    ``@pytest.mark.usefixtures("whole_common")``.
    """
    if request.node.get_closest_marker("whole_common"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        # What no test has imported needs no change, and no import.
        for module in _SHORT.keys() & sys.modules.keys():
            for name, value in _SHORT[module].items():
                whole = getattr(sys.modules[module], name)
                _WHOLE.setdefault((module, name), whole)
                patch.setattr(sys.modules[module], name, value)
        yield


@pytest.fixture
def whole_common(short_common):
    """Train common predictors as users do."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in _WHOLE.items():
            patch.setattr(sys.modules[module], name, value)
        yield
