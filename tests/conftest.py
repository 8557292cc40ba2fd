"""Settings that must hold before scikit-learn and torch start to work."""

import os

# SciPy reads it once: without it scikit-learn leaves its array API checks out.
os.environ["SCIPY_ARRAY_API"] = "1"

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Test processes run side by side; more threads each would compete."""
    torch.set_num_threads(1)
