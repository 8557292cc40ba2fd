"""Meta-learners: scikit-learn estimators that learn from many tasks."""

from ._adapt_tasks import solve_batch, solve_tasks, tell_failed
from ._classifier import BaseMetaClassifier
from ._maml._check_update_rule import check_update_rule
from ._maml._classifier import MAMLClassifier
from ._maml._kfo import KFOUpdate
from ._maml._regressor import MAMLRegressor
from ._maml._rules import MetaCurvatureUpdate, MetaSGDUpdate
from ._maml._update_rule import SGDUpdate, UpdateRule
from ._maml._warps import TNetUpdate, WarpGradUpdate
from ._metacrl._classifier import MetaCRLClassifier
from ._metacrl._regressor import MetaCRLRegressor
from ._mtcrl._estimators import MTCRLClassifier, MTCRLRegressor
from ._mtcrl._experts import ConvExpert, MLPExpert
from ._novelty import Rejection
from ._regressor import BaseMetaRegressor
from ._solved_task import SolvedTask
from ._solved_tasks import SolvedTasks
from ._state_block import StateBlock
from ._synergies._classifier import SparseMetaClassifier
from ._synergies._head_block import HeadBlock
from ._synergies._regressor import SparseMetaRegressor
from ._task_blocks import TaskBlock
from ._task_ids import as_ids, checked_ids, names_of
from ._task_index import DroppedTasks, TaskIndex
from ._task_rows import TaskRows, rows_by_task

__all__ = [
    "BaseMetaClassifier",
    "BaseMetaRegressor",
    "ConvExpert",
    "DroppedTasks",
    "HeadBlock",
    "KFOUpdate",
    "MAMLClassifier",
    "MAMLRegressor",
    "MLPExpert",
    "MTCRLClassifier",
    "MTCRLRegressor",
    "MetaCRLClassifier",
    "MetaCRLRegressor",
    "MetaCurvatureUpdate",
    "MetaSGDUpdate",
    "Rejection",
    "SGDUpdate",
    "SolvedTask",
    "SolvedTasks",
    "SparseMetaClassifier",
    "SparseMetaRegressor",
    "StateBlock",
    "TNetUpdate",
    "TaskBlock",
    "TaskIndex",
    "TaskRows",
    "UpdateRule",
    "WarpGradUpdate",
    "as_ids",
    "check_update_rule",
    "checked_ids",
    "names_of",
    "rows_by_task",
    "solve_batch",
    "solve_tasks",
    "tell_failed",
]
