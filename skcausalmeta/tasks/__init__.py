"""Solved tasks of whole tables: in folders, streamed in and out, asked by id."""

from ._adapt_table import adapt_table, update_table
from ._predict_table import predict_table
from ._report import report
from ._stored_tasks import StoredTasks, open_tasks, save_tasks

__all__ = [
    "StoredTasks",
    "adapt_table",
    "open_tasks",
    "predict_table",
    "report",
    "save_tasks",
    "update_table",
]
