"""Tools that every other room may use: discovery, random streams, rows on disk."""

from ._discovery import all_estimators, package_definitions
from ._few_of import few_of
from ._ids import (
    check_sortable,
    count_masked,
    ids_of,
    refuse_mixed,
)
from ._indexed_score import IndexedScoreMixin
from ._indices import refuse_other_index
from ._look_alikes import as_seen, look_alikes, number_in, warn_of_look_alikes
from ._missing import count_missing
from ._npz import read_npz_arrays
from ._numbers import (
    refuse_masked,
    refuse_missing,
    refuse_other_kinds,
    refuse_text,
    saying_where_text_is,
)
from ._out_of_memory import forget, is_out_of_memory
from ._printable import printable
from ._random import isolated_torch_rng, named_seeds
from ._rows_on_disk import RowsOnDisk
from ._sparse_rows import SparseRows, SparseTasks, are_sparse_tasks, dense_rows
from ._stored_rows import (
    StoredRows,
    all_finite,
    is_memory_map,
    is_stored,
    read_rows,
    release_pages,
    stays_on_disk,
)
from ._tensors import without_graph

__all__ = [
    "IndexedScoreMixin",
    "RowsOnDisk",
    "SparseRows",
    "SparseTasks",
    "StoredRows",
    "all_estimators",
    "all_finite",
    "are_sparse_tasks",
    "as_seen",
    "check_sortable",
    "count_masked",
    "count_missing",
    "dense_rows",
    "few_of",
    "forget",
    "ids_of",
    "is_memory_map",
    "is_out_of_memory",
    "is_stored",
    "isolated_torch_rng",
    "look_alikes",
    "named_seeds",
    "number_in",
    "package_definitions",
    "printable",
    "read_npz_arrays",
    "read_rows",
    "refuse_masked",
    "refuse_missing",
    "refuse_mixed",
    "refuse_other_index",
    "refuse_other_kinds",
    "refuse_text",
    "release_pages",
    "saying_where_text_is",
    "stays_on_disk",
    "warn_of_look_alikes",
    "without_graph",
]
