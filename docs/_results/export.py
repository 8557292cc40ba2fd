"""Tables of tasks exported to ONNX: differences, files, latencies."""

from __future__ import annotations

from .tables import Benchmark, Column, Table

BENCHMARKS = [
    Benchmark(
        "export",
        "Tasks exported to ONNX",
        [
            Table(
                "One row",
                "The largest difference to the learner relative to the largest answer, "
                "the size of the file, and the median latency of one row in "
                "microseconds, one thread, taken in turns in one process. "
                "LogisticRegression of scikit-learn gets the features of the backbone "
                "ready.",
                ("learner",),
                [
                    Column("difference in 1e-6", "difference", "max", scale=1e6),
                    Column("file in kB", "bytes", "max", scale=1e-3),
                    Column("onnxruntime", "onnxruntime", "median", scale=1e6),
                    Column("predict", "predict", "median", scale=1e6),
                    Column("LogisticRegression", "logistic", "median", scale=1e6),
                ],
            )
        ],
    )
]
