"""Settings that must hold before scikit-learn and torch start to work."""

import gc
import os

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


@pytest.fixture(scope="module")
def short_common():
    """Train common predictors for a moment, where it does not matter how good they are.

    For a whole module: ``pytestmark = pytest.mark.usefixtures("short_common")``.
    """
    from skcausalmeta.learners._synergies import _around_common, _epochs, _sparsity
    from skcausalmeta.training import _pooled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pooled, "_FEWEST_STEPS", 4)
        patch.setattr(_pooled, "_MOST_STEPS", 16)
        patch.setattr(_pooled, "_WEIGHT_DECAYS", (0.1,))
        patch.setattr(_around_common, "_N_VALID", 4)
        patch.setattr(_around_common, "_BEGIN_EPOCHS", 1)
        patch.setattr(_epochs, "_PATIENCE", 1)
        patch.setattr(_sparsity, "GRID", (0.0, 0.3, 1.0))
        patch.setattr(_sparsity, "_N_BATCHES", 2)
        patch.setattr(_sparsity, "_TASKS", 3)
        yield
