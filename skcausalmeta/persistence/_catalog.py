"""What a file may name: classes and functions that are known to be harmless."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from ..utils import package_definitions

# Rooms without parts of an estimator, or whose functions use files.
_ROOMS_LEFT_OUT = frozenset({"cli", "datasets", "exceptions", "persistence", "utils"})

# Names by the module that offers them.
_LISTED = {
    "sklearn.compose": "ColumnTransformer",
    "sklearn.decomposition": "FactorAnalysis FastICA IncrementalPCA KernelPCA PCA "
    "TruncatedSVD",
    "sklearn.feature_selection": "SelectKBest SelectPercentile VarianceThreshold "
    "f_classif f_regression mutual_info_classif mutual_info_regression",
    "sklearn.impute": "KNNImputer MissingIndicator SimpleImputer",
    "sklearn.kernel_approximation": "Nystroem RBFSampler",
    "sklearn.linear_model": "ElasticNet Lasso LinearRegression LogisticRegression "
    "Ridge",
    "sklearn.pipeline": "FeatureUnion Pipeline",
    "sklearn.preprocessing": "Binarizer FunctionTransformer KBinsDiscretizer "
    "KernelCenterer LabelBinarizer LabelEncoder MaxAbsScaler MinMaxScaler "
    "MultiLabelBinarizer Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures "
    "PowerTransformer QuantileTransformer RobustScaler StandardScaler",
    "sklearn.random_projection": "GaussianRandomProjection",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    # Not the callbacks that write files.
    "skorch.callbacks": "BatchScoring Callback EarlyStopping EpochScoring EpochTimer "
    "Freezer GradientNormClipping Initializer InputShapeSetter LRScheduler "
    "ParamMapper PassthroughScoring PrintLog Unfreezer WarmRestartLR",
    "skorch.dataset": "Dataset ValidSplit",
    "skorch.history": "History",
    "skorch.setter": "optimizer_setter",
    "skorch.utils": "noop to_tensor",
    "skorch": "NeuralNet NeuralNetClassifier NeuralNetRegressor",
    "torch.utils.data": "DataLoader",
    "torch.nn.modules.linear": "NonDynamicallyQuantizableLinear",  # in attention
    "torch.nn.functional": "elu gelu leaky_relu relu sigmoid silu softplus tanh",
    "torch": "relu sigmoid tanh",
    "numpy": "bool_ float16 float32 float64 int8 int16 int32 int64 nan_to_num object_ "
    "str_ uint8 uint16 uint32 uint64",
    "builtins": "bool bytes float int object print str",
}


def _torch_classes() -> Iterator[tuple[str, Any]]:
    """Layers, losses, optimisers and schedules that torch exports."""
    for module, base, left_out in (
        (nn, nn.Module, {"DataParallel"}),
        (torch.optim, torch.optim.Optimizer, set()),
        (lr_scheduler, lr_scheduler.LRScheduler, {"LambdaLR"}),
    ):
        for name, found in vars(module).items():
            is_class = inspect.isclass(found) and issubclass(found, base)
            if is_class and not name.startswith("_") and name not in left_out:
                yield f"{module.__name__}.{name}", found


def _own_definitions() -> Iterator[tuple[str, Any]]:
    found = [
        (f"{room}.{definition.__name__}", definition)
        for room, definition in package_definitions()
        if room not in _ROOMS_LEFT_OUT
    ]
    uses = Counter(name for name, _ in found)
    # A name that two helpers of a room share would stand for the wrong one.
    return ((name, known) for name, known in found if uses[name] == 1)


@functools.cache
def catalog() -> Mapping[str, Any]:
    """Classes and functions by the names that stand for them in files."""
    found: dict[str, Any] = dict(_own_definitions())
    found |= dict(_torch_classes())
    for name, listed in _LISTED.items():
        module = import_module(name)
        found |= {f"{name}.{part}": getattr(module, part) for part in listed.split()}
    return MappingProxyType(found)


@functools.cache
def names() -> Mapping[Any, str]:
    """Names of files by class or function."""
    # Reversed: of two names for one class the first of the catalogue stays.
    return MappingProxyType({v: k for k, v in reversed(list(catalog().items()))})
