"""Tables of work beyond one core: many tasks, processes, threads, searches."""

from __future__ import annotations

from .lines import Line, at
from .tables import Benchmark, Column, Table, one_of, ratio

_PROCESSES = (1, 2)


def _per_task(lines: list[Line]) -> list[Line]:
    """Add milliseconds a task."""
    found = []
    for line in lines:
        seconds, tasks = at(line, "result/seconds"), at(line, "settings/tasks")
        more = {"ms": 1e3 * seconds / tasks} if seconds and tasks else {}
        found.append({**line, "result": {**line["result"], **more}})
    return found


_STORED = [
    Table(
        "Tables of many tasks, solved and stored",
        "Tasks of 10 to 20 rows, 64 columns and two classes, around a linear "
        "predictor of all of them; one thread. Of every size 1,000 are compared with "
        "adapt of that task alone, to the bit; ten times as many rows as tasks are "
        "asked by id; 1% of the tasks get new labels.",
        ("tasks",),
        [
            Column("adapt, s", "adapt s", "plain"),
            Column("CPU s", "adapt processor s", "plain"),
            Column("peak MiB", "adapt memory", "max", scale=2.0**-20),
            Column("bytes a task", "bytes", "plain"),
            Column("differ", "differ", "max"),
            Column("predict, s", "predict s", "plain"),
            Column("update 1%, s", "update s", "plain"),
        ],
        {"part": "store"},
    ),
    Table(
        "Tables of many tasks on Dask",
        "Seconds of one worker and of two, of one thread each, and the tasks that "
        "differ in a bit after one of two workers was killed.",
        ("tasks",),
        [
            Column("one worker", "one s", "plain"),
            Column("two workers", "two s", "plain"),
            Column("ratio", ratio("one s", "two s"), "median"),
            Column("differ", "differ", "max"),
        ],
        {"part": "dask"},
    ),
]

BENCHMARKS = [
    Benchmark(
        "scale",
        "Beyond one core",
        [
            Table(
                "Milliseconds a task of predict_episodes",
                "5-way 1-shot, 64 features, one thread: the group-Lasso SVM (heads) "
                "and MAML (gradient).",
                ("learner", "tasks"),
                [Column("ms a task", "ms", "median")],
                {"part": "answer", "features": 64, "repeats": one_of(5, 9)},
                prepare=_per_task,
            ),
            Table(
                "Tasks of training a second by processes",
                "A small net, by the tasks of a step.",
                ("tasks",),
                [
                    Column(
                        f"{n} process" + ("es" if n > 1 else ""),
                        "rate",
                        "median",
                        where={"processes": n},
                    )
                    for n in _PROCESSES
                ],
                {"part": "train", "features": 64},
            ),
            Table(
                "Grid search on two Dask workers",
                "Seconds; the scores are those of the serial search.",
                (),
                [
                    Column("serial", "serial", "median"),
                    Column("Dask", "dask", "median"),
                    Column("ratio", "ratio", "median"),
                ],
                {"part": "search"},
            ),
            Table(
                "Eight threads that share a learner",
                "Tasks a second over those of one thread, and the growth of memory "
                "over the last half.",
                ("learner",),
                [
                    Column("adaptations", "adapts", "sum"),
                    Column(
                        "times one thread",
                        ratio("threaded_rate", "serial_rate"),
                        "median",
                    ),
                    Column("growth of memory", "growth", "max"),
                ],
                {"part": "serve"},
            ),
            *_STORED,
        ],
    )
]
