"""Speed and memory of one outer gradient of MAML, against what people use.

Every contender computes the gradient of the mean query loss of the same tasks after
5 inner steps, interleaved in one process, with the same kind of network:

ours
    `MAMLClassifier` / `MAMLRegressor` as they train.
learn2learn
    ``clone``, ``adapt``, backward, one task after the other. With a network in the
    order of the literature (convolution, batch norm, ReLU, pooling) and with ours.
higher
    ``innerloop_ctx``, the network of the literature.
loop
    A plain loop with `torch.func.functional_call`, the network of the literature.

conv: Conv4-64, 1 x 28 x 28, 5-way 1- and 5-shot, 16 tasks, 15 queries a class.
dense: 1-40-40-1, 25 sinusoid tasks, 10 support and 10 query rows.

Peak memory is measured in processes of their own, from the imports on. learn2learn
and higher are optional; what cannot be imported is left out and named.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Any

from benchmarks._harness import Harness, in_process, make_parser
from benchmarks.maml._contenders import CONTENDERS, PEERS, Case, left_out, race

MEASURES = (
    "skcausalmeta/backbones",
    "skcausalmeta/learners/_maml",
    "skcausalmeta/training",
)

CASES = (
    Case("conv", n_shot=1, n_query=15, n_tasks=16, first_order=False),
    Case("conv", n_shot=1, n_query=15, n_tasks=16, first_order=True),
    Case("conv", n_shot=5, n_query=15, n_tasks=16, first_order=False),
    Case("dense", n_shot=10, n_query=10, n_tasks=25, first_order=False),
    Case("dense", n_shot=10, n_query=10, n_tasks=25, first_order=True),
)
SMOKE = (
    Case("conv", 1, 1, 2, False, side=8, n_filters=2),
    Case("dense", 3, 3, 2, False),
)


def memory(case: Case, name: str, threads: int, repeats: int) -> dict[str, Any]:
    """Peak bytes of outer gradients beyond the libraries: median of processes."""
    found = [one_peak(case, name, threads) for _ in range(repeats)]
    skipped = [each for each in found if "skipped" in each]
    peaks = [each["peak"] for each in found if "peak" in each]
    return skipped[0] if skipped else {"peak": median(peaks), "peaks": peaks}


def one_peak(case: Case, name: str, threads: int) -> dict[str, Any]:
    request = {"case": case._asdict(), "name": name, "threads": threads}
    try:
        return in_process("benchmarks.maml._contenders", request)
    except RuntimeError as error:
        return {"skipped": str(error).strip().splitlines()[-1][:200]}


def report(
    harness: Harness, args: Any, case: Case, names: list[str]
) -> list[list[Any]]:
    """Rows of the table for one case."""
    settings = {"case": case._asdict(), "threads": args.threads}
    repeats = 1 if args.smoke else args.repeats
    timed, space = {}, {}
    if args.part != "memory":
        timed = harness.run(
            {**settings, "part": "time", "names": names, "repeats": repeats},
            partial(race, names, case, repeats),
        )
    if args.part != "time":
        # Every process imports torch: the smallest run shows that one is enough.
        for name in names[: 1 if args.smoke else None]:
            space[name] = harness.run(
                {**settings, "part": "memory", "name": name, "processes": repeats},
                partial(memory, case, name, args.threads, repeats),
            ).get("peak", 0)
    return [
        [
            case.label,
            name,
            1e3 * timed[name] / case.n_tasks if timed else "",
            timed["ours"] / timed[name] if "ours" in timed else "",
            round(space[name] / 1e6) if name in space else "",
        ]
        for name in names
    ]


def main() -> None:
    """Run all cases and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--part", choices=["time", "memory", "all"], default="all")
    parser.add_argument("--cases", type=int, nargs="+", help="numbers of cases, from 0")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS))
    args = parser.parse_args()
    harness = Harness("maml_speed", args, PEERS)
    wanted = args.contenders or list(CONTENDERS)
    absent = [name for name in wanted if name in left_out()]
    names = [name for name in wanted if name not in absent]
    cases = SMOKE if args.smoke else CASES
    rows = []
    for case in [cases[k] for k in args.cases or range(len(cases))]:
        rows += report(harness, args, case, names)
        rows += [[case.label, name, "left out", "", ""] for name in absent]
    header = ["case", "contender", "ms a task", "ours / it", "peak MB"]
    harness.table("outer gradient, 5 inner steps", header, rows)


if __name__ == "__main__":
    main()
