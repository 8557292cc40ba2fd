"""Splitting by class and evaluation on few-shot episodes."""

from ._evaluate import evaluate_few_shot
from ._report import FewShotReport
from ._result import FewShotResult
from ._scorer import few_shot_scorer
from ._split import ClassKFold

__all__ = [
    "ClassKFold",
    "FewShotReport",
    "FewShotResult",
    "evaluate_few_shot",
    "few_shot_scorer",
]
