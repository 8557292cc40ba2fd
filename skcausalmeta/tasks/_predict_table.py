"""Predictions of the rows of a table, streamed into a file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..exceptions import InvalidInputError
from ..learners import SolvedTasks
from ..persistence import in_one_step
from ._parquet import arrow
from ._sources import Columns, source_of

_ROWS = 2**18
_METHODS = ("predict", "predict_proba", "decision_function")


def predict_table(
    solved: SolvedTasks,
    table: Any,
    path: str | PathLike[str],
    *,
    task: str = "task",
    target: str | None = "y",
    features: list[str] | None = None,
    method: str = "predict",
    verbose: int = 0,
) -> int:
    """Predict the rows of a table by their tasks, and stream them into a file.

    Parameters
    ----------
    solved : SolvedTasks
        Solved tasks, in memory or from `open_tasks`.
    table : DataFrame, pyarrow Table or Dataset, path, Dask DataFrame or tuple
        Rows in any order, as in `adapt_table`; of a tuple y may be None.
    path : str or path-like
        Parquet file to write: the ids and the predictions, in the order of the rows.
        It appears in one step.
    task : str, default="task"
        Column of the ids.
    target : str or None, default="y"
        Column of labels to leave aside, where it is there.
    features : list of str, default=None
        Columns of X. None: those that the learner was fitted with; all others where
        it was fitted without names.
    method : {"predict", "predict_proba", "decision_function"}, default="predict"
        What to ask.
    verbose : int, default=0
        Whether a progress bar is shown.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    InvalidInputError
        If a column is missing, or an id is unknown without a common predictor.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pyarrow.parquet
    >>> from skcausalmeta.datasets import make_shared_tasks
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> from skcausalmeta.tasks import predict_table
    >>> data = make_shared_tasks(n_tasks=12, random_state=0)
    >>> learner = SparseMetaClassifier(
    ...     backbone="identity", max_epochs=1, verbose=0, random_state=0
    ... )
    >>> learner = learner.fit(data.data, data.target, tasks=data.tasks)
    >>> solved = learner.adapt_tasks(data.data, data.target, data.tasks)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "found.parquet"
    ...     print(predict_table(solved, (data.data, None, data.tasks), file))
    ...     print(pyarrow.parquet.read_table(file).column_names)
    1200
    ['task', 'prediction']
    """
    if method not in _METHODS:
        raise InvalidInputError(
            f"method must be one of {', '.join(_METHODS)}. Got {method!r}."
        )
    pa = arrow()
    columns = Columns.of(solved.learner, task, None, features)
    source = source_of(table, columns._replace(aside=target))
    n_rows, writer = 0, None
    with (
        in_one_step(Path(path)) as file,
        tqdm(unit="row", disable=not verbose) as bar,
    ):
        for X, ids in source.batches(_ROWS):
            found = np.asarray(getattr(solved, method)(X, ids))
            part = pa.table({task: pa.array(ids), **_columns(pa, found)})
            if writer is None:
                writer = pa.parquet.ParquetWriter(
                    file, part.schema, compression="zstd", write_page_checksum=True
                )
            writer.write_table(part)
            n_rows += len(ids)
            bar.update(len(ids))
        if writer is None:
            raise InvalidInputError("The table must hold rows. Got none.")
        writer.close()
    return n_rows


def _columns(pa: Any, found: Any) -> dict[str, Any]:
    if found.ndim == 1:
        return {"prediction": pa.array(found)}
    return {f"prediction_{k}": pa.array(found[:, k]) for k in range(found.shape[1])}
