"""How training and adaptation grow with tasks, features, ways and processes.

train
    Tasks a second of training: `SparseMetaClassifier` and `MAMLClassifier` on an MLP of
    64 units, 1 support and 5 query rows a class, in 1 or 2 processes of Accelerate.
answer
    Seconds of `predict_episodes` by number of tasks, features and ways, and the memory
    it takes; from the slope between the two largest numbers of tasks, what a million
    tasks take.
serve
    8 threads that adapt copies of one learner: their answers against those of one
    thread, and the growth of memory over the last half.
store
    A table of very many tasks, streamed from Parquet files into a folder of solved
    ones; ten times as many rows, asked by id in any order; new labels of 1% of the
    tasks; a sample of 1,000 against single calls, to the bit.
dask
    The same with workers of one thread: one, two, and two of which one is killed.
search
    A grid search in one process and on two workers of Dask.

Every measurement runs in a process of its own, except with ``--smoke``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks._harness import Harness, make_parser
from benchmarks.scale._parts import PARTS, in_processes

MEASURES = (
    "skcausalmeta/heads",
    "skcausalmeta/learners",
    "skcausalmeta/model_selection",
    "skcausalmeta/tasks",
    "skcausalmeta/training",
)

BASE = {"learner": "heads", "tasks": 16, "features": 64, "way": 5}
VARIED = {
    "tasks": (1, 4, 16, 64, 256),
    "features": (64, 1024, 16_384),
    "way": (2, 5, 20, 200),
}
COUNTS = (1, 10, 100, 1_000, 10_000)
DAY = 86_400


class Scale:
    """Measurements of one size and their tables."""

    def __init__(self, harness: Harness, args: Any) -> None:
        self.harness, self.smoke, self.threads = harness, args.smoke, args.threads
        self.store_tasks = args.tasks

    def measure(self, part: str, **settings: Any) -> dict[str, Any]:
        request = {"part": part, "threads": self.threads, **settings}
        run = PARTS[part] if self.smoke else in_processes
        return self.harness.run(request, partial(run, request))

    def train(self) -> None:
        """Tasks a second of training."""
        rows = []
        for name, case in cases(self.smoke):
            for processes in (1,) if self.smoke else (1, 2):
                if case["tasks"] < processes or (processes > 1 and name != "tasks"):
                    continue
                batches = 1 if self.smoke else max(2, 64 // case["tasks"])
                found = self.measure(
                    "train", processes=processes, batches=batches, **case
                )
                rate, memory = found["rate"], round(found["memory"] / 1e6)
                rows.append([*case.values(), processes, rate, memory])
        header = [*BASE, "processes", "tasks / s", "peak MB"]
        self.harness.table("training", header, rows)

    def answer(self) -> None:
        """Seconds of answering, their slope, and what a million tasks take."""
        counts = COUNTS[:2] if self.smoke else COUNTS
        rows, extrapolated = [], []
        for learner in ("heads", "gradient"):
            seconds = {}
            for n_tasks in counts:
                case = {**BASE, "learner": learner, "tasks": n_tasks}
                repeats = 1 if self.smoke else (5 if n_tasks > 1000 else 9)
                found = self.measure("answer", repeats=repeats, **case)
                seconds[n_tasks] = found["seconds"]
                each, memory = 1e3 * found["seconds"] / n_tasks, found["memory"] / 1e6
                rows.append([*case.values(), each, round(memory)])
            extrapolated.append([learner, *slope(seconds)])
        for name, case in cases(self.smoke):
            if name != "tasks" and case["learner"] == "heads":
                found = self.measure("answer", repeats=1, **case)
                each = 1e3 * found["seconds"] / case["tasks"]
                rows.append([*case.values(), each, round(found["memory"] / 1e6)])
        header = [*BASE, "ms a task", "peak MB"]
        self.harness.table("answering, all tasks in one call", header, rows)
        header = [
            "learner",
            "ms a task",
            "over ms a task at fewer",
            "10^6 tasks, minutes",
            "share of a core a day",
        ]
        self.harness.table("a million tasks by the slope", header, extrapolated)

    def bounded(self) -> None:
        """Memory of answering under a bound."""
        rows = []
        n_tasks = 20 if self.smoke else 10_000
        for mega in (None, 256, 64):
            bound = None if mega is None else mega * 2**20
            case = {**BASE, "tasks": n_tasks, "features": 1024}
            found = self.measure("answer", repeats=1, max_memory=bound, **case)
            each = 1e3 * found["seconds"] / n_tasks
            text = "none" if mega is None else f"{mega} MiB"
            rows.append([n_tasks, text, each, round(found["memory"] / 2**20)])
        header = ["tasks", "max_memory", "ms a task", "peak MiB"]
        self.harness.table("answering 1,024 features within a bound", header, rows)

    def serve(self) -> None:
        """Threads."""
        rows = []
        for learner in ("heads", "gradient"):
            case = {**BASE, "learner": learner, "tasks": 4 if self.smoke else 1000}
            found = self.measure("serve", threads_of=2 if self.smoke else 8, **case)
            rows.append([learner, *found.values()])
        header = ["learner", "same", "adapts", "growth", "serial / s", "threads / s"]
        self.harness.table("threads that share a learner", header, rows)

    def store(self) -> None:
        """Tables of many tasks."""
        costs, asked, changed = [], [], []
        counts = (20,) if self.smoke else self.store_tasks
        small = {"training": 20, "epochs": 1} if self.smoke else {}
        for n_tasks in counts:
            found = self.measure("store", tasks=n_tasks, **small)
            each = 1e3 * found["adapt processor s"] / n_tasks
            costs.append(
                [
                    n_tasks,
                    each,
                    found["adapt processor s"],
                    found["adapt s"],
                    round(found["adapt memory"] / 2**20),
                    round(found["bytes"]),
                    found["gap"],
                    found["differ"],
                ]
            )
            row = 1e6 * found["predict processor s"] / found["rows"]
            seconds = found["predict processor s"], found["predict s"]
            memory = round(found["predict memory"] / 2**20)
            asked.append([n_tasks, found["rows"], row, *seconds, memory])
            full = found["adapt processor s"]
            seconds = found["update processor s"], found["update of one processor s"]
            shares = seconds[0] / full, (seconds[0] - seconds[1]) / full
            changed.append([n_tasks, *seconds, found["update s"], *shares])
        header = ["tasks", "processor ms a task", "processor s", "wall s", "peak MiB"]
        header += ["bytes a task", "largest gap", "of 1,000 differ from adapt"]
        self.harness.table("tables of many tasks", header, costs)
        header = ["tasks", "rows", "us a row", "processor s", "wall s", "peak MiB"]
        self.harness.table("rows of tasks in any order", header, asked)
        header = ["tasks", "1% processor s", "one task processor s", "1% wall s"]
        header += ["1% / all", "(1% - one task) / all"]
        self.harness.table("new labels of 1% of the tasks", header, changed)

    def dask(self) -> None:
        """Tables of many tasks on one worker, on two, and on two of which one dies."""
        size: dict[str, Any] = {"tasks": 32_768, "repeats": 1, "worker_processes": True}
        if self.smoke:
            size = {"tasks": 12, "repeats": 1, "worker_processes": False}
            size |= {"training": 20, "epochs": 1}
        found = self.measure("dask", **size)
        ratio = found["one s"] / found["two s"]
        used = found["one processor s"] / found["busier of two processor s"]
        row = [size["tasks"], *found.values(), ratio, used]
        header = ["tasks", "1 worker s", "its processor s", "2 workers s"]
        header += ["the busier's", "killed after s", "tasks that differ"]
        header += ["ratio", "of processor s"]
        self.harness.table("tables of many tasks on Dask", header, [row])

    def search(self) -> None:
        """Dask."""
        size = {"batches": 100, "episodes": 50, "worker_processes": True}
        if self.smoke:
            size = {"batches": 1, "episodes": 1, "worker_processes": False}
        case = {**BASE, **size, "way": 3}
        found = self.measure("search", **case)
        header = ["same scores", "serial s", "Dask s", "ratio"]
        self.harness.table("grid search, 2 workers", header, [list(found.values())])


def cases(smoke: bool) -> list[tuple[str, dict[str, Any]]]:
    """The base case with one number at a time changed, for both learners."""
    found = []
    for learner in ("heads", "gradient"):
        for name, values in VARIED.items():
            for value in values[:1] if smoke else values:
                if learner == "gradient" and value in (200, 16_384):
                    continue
                found.append((name, {**BASE, "learner": learner, name: value}))
    return found


def slope(seconds: dict[int, float]) -> list[float]:
    """Cost per task between the largest numbers of tasks, and what follows."""
    few, many = sorted(seconds)[-2:]
    each = (seconds[many] - seconds[few]) / (many - few)
    before = seconds[few] / few
    return [1e3 * each, each / before, 1e6 * each / 60, 1e6 * each / DAY]


def main() -> None:
    """Measure what was asked for and print the tables."""
    parser = make_parser(__doc__)
    parts = ["train", "answer", "bounded", "serve", "store", "dask", "search"]
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--tasks",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        help="sizes of the tables of the part store",
    )
    args = parser.parse_args()
    scale = Scale(Harness("scale", args), args)
    for part in args.part:
        getattr(scale, part)()


if __name__ == "__main__":
    main()
