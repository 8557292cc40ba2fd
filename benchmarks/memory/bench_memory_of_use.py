"""What thousands of adaptations and fits leave in a process: it must be nothing.

20,000 adaptations, each with a prediction, and 200 fits of small learners, shared by
four kinds, a process each. Resident memory may grow by 1% over the last half, where
every cache has its size; open descriptors and threads not at all.
"""

from __future__ import annotations

from functools import partial

from benchmarks._harness import Harness, in_process, make_parser
from benchmarks.memory._long_use import LEARNERS, measure

MEASURES = (
    "skcausalmeta/heads",
    "skcausalmeta/learners",
    "skcausalmeta/solvers",
    "skcausalmeta/training",
)

CALLS = {"adapts": 20_000, "fits": 200}
MOST_GROWTH = 1.0


def main() -> None:
    """Measure what is missing; exit code 1 if something was left."""
    arguments = make_parser(__doc__).parse_args()
    harness = Harness("memory_of_use", arguments)
    run = measure
    if not arguments.smoke:
        run = partial(in_process, "benchmarks.memory._long_use")
    rows, left = [], False
    for what, n_calls in CALLS.items():
        for learner in LEARNERS:
            request = {
                "learner": learner,
                "what": what,
                "calls": 4 if arguments.smoke else n_calls // len(LEARNERS),
                "threads": arguments.threads,
            }
            found = harness.run(request, partial(run, request))
            growth = found["growth of the last half, %"]
            counts = [found["descriptors"], found["threads"]]
            left |= growth > MOST_GROWTH or any(len(set(one)) > 1 for one in counts)
            last = found["resident, MB"][-1]
            row = [learner, what, request["calls"], last, round(growth, 3)]
            rows.append([*row, *(one[-1] for one in counts)])
    header = ["learner", "calls of", "calls", "MB at the end", "growth, %"]
    harness.table("What use leaves", [*header, "descriptors", "threads"], rows)
    if left and not arguments.smoke:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
