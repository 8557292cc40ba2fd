"""All learners on real images: same backbone, episodes and budget.

table
    5-way accuracy on classes never seen (Omniglot 1-shot, 20-way too; photographs
    5-shot; ``--shots`` for others), paired over the test episodes, with the share of
    features that a task uses and the time to adapt. The strength of the group Lasso is
    chosen on validation classes, among those that use at most 30% of features there.
    "Relaxed": the group Lasso enters after half of the training and only chooses the
    features (`RelaxedHead`). Other heads read the features of every learner too, and
    scikit-learn classifiers those of the prototype net.
step
    One training step of `SparseMetaClassifier` against a plain supervised forward and
    backward pass of the same images through the same backbone.

learn2learn (trained on the same backbone, images and schedule) and easyfsl (on the
frozen features) are taken where they can be imported, and named where they cannot.

``--picture FILE`` draws accuracy against features in use, and FILE_overlap_SHOTS which
features the test tasks use and share, from the lines of the table.

Data are read from ``--data-dir`` or SKCAUSALMETA_DATA; mini-ImageNet and CIFAR-FS are
read by the same command where they are at hand. ``--full`` is for a GPU.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

from benchmarks._harness import Harness, make_parser, median_time
from benchmarks.few_shot._contenders import (
    CHOOSING,
    DENSE,
    FETCH,
    FULL,
    HEADS,
    INNER_LR,
    LEARNERS,
    READERS,
    SHOTS,
    SMOKE,
    SPARSE,
    STEPS,
    Split,
    backbone_params,
    evaluations,
    load,
    make_learner,
    small_budget,
)
from benchmarks.few_shot._features import N_DIGITS, Size, answer
from benchmarks.few_shot._peers import (
    ALGORITHMS,
    OF_FIXED_SIZE,
    ON_FEATURES,
    PEERS,
    TRAINED,
)
from benchmarks.few_shot._pictures import (
    Point,
    draw_frontier,
    draw_overlap,
    overlap_facts,
    pack_masks,
    unpack_masks,
)
from skcausalmeta.backbones import build_backbone
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import mean_confidence_interval
from skcausalmeta.model_selection import evaluate_few_shot

MEASURES = (
    "skcausalmeta/backbones",
    "skcausalmeta/heads",
    "skcausalmeta/learners/_maml",
    "skcausalmeta/learners/_synergies",
    "skcausalmeta/solvers",
    "skcausalmeta/training",
)

FROZEN: dict[str, Any] = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "linear SVM": LinearSVC(),
    "nearest centroid": NearestCentroid(),
    **ON_FEATURES,
}
OF_FROZEN = "prototypes (ProtoNet)"
N_TIMED, N_MAPPED, N_VALID = 50, 40, 600
# Of mean scores from images and from features, whose last digits differ.
MOST_APART = 5e-3
# The head that a contender answers with, beside others that read its features.
OWN = "own"
# Share of features on validation tasks that the chosen sparse learner may use.
MOST_USED = 0.3


def evaluate(estimator: Any, split: Split, size: Size) -> dict[str, Any]:
    """Accuracy on the test episodes, and the time to adapt."""
    with warnings.catch_warnings():
        # Centroids of one row have no spread.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = evaluate_few_shot(
            estimator,
            *split,
            **size.arguments(split[1]),
            n_episodes=size.n_episodes,
            random_state=0,
        ).to_dict()
    scores = np.round(found["scores"], N_DIGITS).tolist()
    facts = {name: found[name] for name in ("sparsity", "adapt_time")}
    return {"scores": scores, **facts}


def measure(
    name: str, splits: dict[str, Split], args: Any, n_shot: int, seed: int
) -> dict[str, Any]:
    """Train once and evaluate."""
    start = time.perf_counter()
    learner = train(name, splits, args, n_shot, seed)
    out: dict[str, Any] = {
        "train_seconds": time.perf_counter() - start,
        "images": args.budget.images(n_shot),
    }
    sizes = sizes_of(name, args, n_shot)
    if name in HEADS:
        return {**out, **measure_heads(name, learner, splits, sizes, args)}
    few = [size._replace(n_episodes=args.budget.few_episodes) for size in sizes]
    test = splits["test"]
    out["evaluations"] = {size.name: evaluate(learner, test, size) for size in few}
    return out


def measure_heads(
    name: str, learner: Any, splits: dict[str, Split], sizes: list[Size], args: Any
) -> dict[str, Any]:
    """Heads on the features of a learner: its own, and others that read them."""
    learner.set_params(head=HEADS[name].answers)
    features = {
        part: (learner.transform(splits[part][0]), splits[part][1])
        for part in ("val", "test")
    }
    valid = sizes[0]._replace(n_episodes=N_VALID)
    few = [size._replace(n_episodes=args.budget.few_episodes) for size in sizes]
    out: dict[str, Any] = {"valid": {}, "readers": {}, "supports": {}}
    for kind, head in {OWN: HEADS[name].answers, **readers_of(name)}.items():
        out["valid"][kind] = answer(head, features["val"], valid).facts()
        asked = sizes if kind == OWN else [sizes[0], *few[1:]]
        answers = {size.name: answer(head, features["test"], size) for size in asked}
        results = {size: found.to_dict() for size, found in answers.items()}
        if kind == OWN:
            out["evaluations"] = results
        else:
            out["readers"][kind] = results
        if chooses(name, kind):
            used = answers[sizes[0].name].used[:N_MAPPED]
            out["supports"][kind] = pack_masks(used)
    for size in sizes:
        own = out["evaluations"][size.name]
        own["adapt_time"] = time_to_adapt(learner, splits["test"], size, own["scores"])
    for kind, classifier in FROZEN.items() if name == OF_FROZEN else ():
        out["readers"][kind] = {
            size.name: evaluate(classifier, features["test"], size) for size in few
        }
    return out


def time_to_adapt(learner: Any, test: Split, size: Size, scores: list[float]) -> float:
    """Seconds from images to a solved head; `scores` are those from features."""
    few = size._replace(n_episodes=min(size.n_episodes, N_TIMED))
    timed = evaluate(learner, test, few)
    first = scores[: few.n_episodes]
    if abs(np.mean(timed["scores"]) - np.mean(first)) > MOST_APART:
        raise RuntimeError(
            "Episodes of images and of their features must score the same. Got "
            f"{np.mean(timed['scores']):.4f} and {np.mean(first):.4f}."
        )
    return float(timed["adapt_time"])


def readers_of(name: str) -> dict[str, Any]:
    """Heads that read the features of a learner beside its own."""
    own = repr(HEADS[name].answers)
    return {kind: head for kind, head in READERS.items() if repr(head) != own}


def chooses(name: str, kind: str) -> bool:
    """Whether a head chooses features: by its kind, or a sparse learner's own."""
    return kind in CHOOSING or (kind == OWN and name in SPARSE)


def train(
    name: str, splits: dict[str, Split], args: Any, n_shot: int, seed: int
) -> Any:
    """One contender, trained; ours see the validation classes as such."""
    if name in ALGORITHMS:
        params = backbone_params(args.budget)
        peer = ALGORITHMS[name](args.budget.backbone, params, args.budget.n_way)
        return peer.train(splits, args.budget, n_shot, seed)
    X, y = (
        np.concatenate(part)
        for part in zip(splits["train"], splits["val"], strict=True)
    )
    learner = make_learner(
        name,
        args.budget,
        n_shot,
        seed,
        augment=args.augment,
        validation_classes=np.unique(splits["val"][1]),
        device=args.device,
    )
    return learner.fit(X, y)


def sizes_of(name: str, args: Any, n_shot: int) -> list[Size]:
    """Sizes of test episodes, that of training first; gradient steps need that one."""
    own = (args.budget.n_way, n_shot)
    sizes = [own] if args.smoke else evaluations(args.data, n_shot)
    fixed = name in STEPS or name in OF_FIXED_SIZE
    return [
        Size(*size, args.budget.test_episodes)
        for size in sizes
        if size == own or not fixed
    ]


# -- table -----------------------------------------------------------------------------


# Results by learner and shots, a result a seed.
Found = dict[tuple[str, int], list[dict[str, Any]]]


def collect(harness: Harness, args: Any) -> Found:
    """Results of all runs."""
    splits: dict[str, Split] = {}
    found: Found = {}
    for seed in args.seeds:
        for n_shot in args.shots:
            for name in args.learners:
                settings = settings_of(name, args, n_shot, seed)

                def run(
                    name: str = name, n_shot: int = n_shot, seed: int = seed
                ) -> Any:
                    if not splits:
                        splits.update(read(args))
                    return measure(name, splits, args, n_shot, seed)

                result = harness.run(settings, run)
                found.setdefault((name, n_shot), []).append(result)
    return found


def read(args: Any) -> dict[str, Split]:
    """The splits that the arguments ask for."""
    return load(
        args.data, args.data_dir, smoke=args.smoke, rotations=not args.no_rotations
    )


def settings_of(name: str, args: Any, n_shot: int, seed: int) -> dict[str, Any]:
    """What tells one run from the others."""
    settings = {
        "part": "table",
        "data": args.data,
        "learner": name,
        "n_shot": n_shot,
        "augment": args.augment,
        "budget": args.budget._asdict(),
        "seed": seed,
    }
    if name in STEPS or name in OF_FIXED_SIZE:
        settings["inner_lr"] = INNER_LR
    if args.no_rotations:
        settings["rotations"] = False
    return settings


def chosen(found: Found, n_shot: int, *, sparse: bool = True) -> tuple[str, str]:
    """The learner, and the head on its features, that do best on validation classes.

    Sparse heads are those that choose, and among them the ones that use few features
    there; dense heads are all others on learners that were trained with such a head.
    """

    def fact(name: str, kind: str, fact: str) -> float:
        runs = found[name, n_shot]
        return float(np.mean([run["valid"][kind][fact] for run in runs]))

    names = [name for name, shots in found if shots == n_shot and name in HEADS]
    pairs = [(name, kind) for name in names for kind in found[name, n_shot][0]["valid"]]
    if not sparse:
        dense = [p for p in pairs if not chooses(*p) and p[0] in DENSE]
        return max(dense, key=lambda pair: fact(*pair, "accuracy"))
    pairs = [pair for pair in pairs if chooses(*pair)]
    least = min(fact(*pair, "used") for pair in pairs)
    few = [pair for pair in pairs if fact(*pair, "used") <= max(MOST_USED, least)]
    return max(few, key=lambda pair: fact(*pair, "accuracy"))


def report_table(harness: Harness, args: Any) -> None:
    found = collect(harness, args)
    for n_shot in args.shots:
        name, _ = chosen(found, n_shot)
        for size in found[name, n_shot][0]["evaluations"]:
            images = found[name, n_shot][0]["images"]
            title = f"{args.data}, {size}, {len(args.seeds)} seeds, {images:,} images"
            harness.table(title, HEADER, rows_of(found, n_shot, size))


HEADER = (
    *("learner", "head", "%", "+-", "- chosen", "+-", "features %"),
    *("adapt ms", "train s", "chosen"),
)


def rows_of(found: Found, n_shot: int, size: str) -> list[list[Any]]:
    """A row a contender: accuracy, and the paired difference to the chosen one."""
    sparse, dense = chosen(found, n_shot), chosen(found, n_shot, sparse=False)
    marks = {sparse: "sparse", dense: "dense"}
    base = results_of(found[sparse[0], n_shot], sparse[1], size)
    rows = []
    for name in [name for name, shots in found if shots == n_shot]:
        runs = found[name, n_shot]
        seconds = round(float(np.mean([run["train_seconds"] for run in runs])))
        for kind in (OWN, *runs[0].get("readers", ())):
            results = results_of(runs, kind, size)
            if results:
                mark = marks.get((name, kind), "")
                rows.append([name, kind, *figures(results, base), seconds, mark])
    return rows


def results_of(runs: list[dict[str, Any]], kind: str, size: str) -> list[Any]:
    """Of the head of a kind, a result a seed; none if it has no such episodes."""
    by_size = [
        run["evaluations"] if kind == OWN else run["readers"][kind] for run in runs
    ]
    return [results[size] for results in by_size if size in results]


def figures(results: list[dict[str, Any]], base: list[dict[str, Any]]) -> list[Any]:
    """Accuracy and difference in percent, features in use, time to adapt."""
    scores = [np.asarray(one["scores"]) for one in results]
    # Over the first episodes, those that both have.
    gains = [
        own[: len(other["scores"])] - np.asarray(other["scores"])[: len(own)]
        for own, other in zip(scores, base, strict=True)
    ]
    values = np.concatenate(scores), np.concatenate(gains)
    pairs = [mean_confidence_interval(part) for part in values]
    sparsity = [r["sparsity"] for r in results if np.isfinite(r["sparsity"] or np.nan)]
    used = 100 * (1 - float(np.mean(sparsity))) if sparsity else 100.0
    times = [1e3 * r["adapt_time"] for r in results if "adapt_time" in r]
    return [
        *(round(100 * part, 2) for pair in pairs for part in pair),
        round(used),
        float(np.mean(times)) if times else "",
    ]


# -- step ------------------------------------------------------------------------------


def report_step(harness: Harness, args: Any) -> None:
    """Time of a step of 8 tasks, 5-way 5-shot, against a supervised pass."""
    n_tasks, n_steps = (2, 2) if args.smoke else (8, 6)
    n_filters = 4 if args.smoke else 64
    shape = (16, 16) if args.smoke else (28, 28)
    settings = {"part": "step", "filters": n_filters, "tasks": n_tasks, "shape": shape}
    result = harness.run(
        settings, lambda: step_times(n_filters, n_tasks, n_steps, shape)
    )
    rows = [
        [name, 1e3 * seconds, seconds / result["supervised"]]
        for name, seconds in result.items()
    ]
    harness.table("A training step", ["", "ms", "against supervised"], rows)


def step_times(
    n_filters: int, n_tasks: int, n_steps: int, shape: tuple[int, int]
) -> dict[str, float]:
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(20), 20)
    X = rng.randint(0, 256, (len(y), *shape)).astype(np.uint8)
    n_shot, n_query, n_way = 5, 10, 5
    backbone = build_backbone("conv4", (1, *shape), params={"n_filters": n_filters})
    width = backbone(torch.zeros(2, 1, *shape)).shape[1]
    output = torch.nn.Linear(width, 20)
    parts = torch.rand(n_tasks, n_way * (n_shot + n_query), 1, *shape)
    labels = torch.randint(0, 20, parts.shape[:2])

    def supervised() -> None:
        # Task by task, as the learner does: the images are the same.
        for images, targets in zip(parts, labels, strict=True):
            loss = torch.nn.functional.cross_entropy(output(backbone(images)), targets)
            loss.backward()

    times = {"supervised": median_time(supervised, repeats=n_steps)}
    for name, reg in (("SparseMeta", 0.2), ("SVM", 0.0)):
        learner = SparseMetaClassifier(
            GroupLassoSVC(reg, solver="newton"),
            backbone="conv4",
            backbone_params={"n_filters": n_filters},
            n_way=n_way,
            n_shot=n_shot,
            n_query=n_query,
            tasks_per_batch=n_tasks,
            batches_per_epoch=1,
            max_epochs=n_steps + 1,
            fit_head=False,
            verbose=0,
            random_state=0,
        ).fit(X, y)
        # The first step warms up.
        times[name] = float(np.median([row["dur"] for row in learner.history_[1:]]))
    return times


# -- pictures --------------------------------------------------------------------------


def draw(harness: Harness, args: Any) -> None:
    """The frontier, and beside it what the tasks of the chosen learner share."""
    found = collect(harness, args)
    panels, facts = {}, []
    for shot in args.shots:
        sparse, kind = chosen(found, shot)
        for size in found[sparse, shot][0]["evaluations"]:
            panels[f"{args.data}, {size}"] = [
                Point(name, "its own head" if by == OWN else by, used, accuracy, half)
                for name, by, accuracy, half, _, _, used, *_ in rows_of(
                    found, shot, size
                )
                if by == OWN or by in READERS
            ]
        supports = found[sparse, shot][0]["supports"][kind]
        used = unpack_masks(supports)
        facts.append([f"{shot}-shot", *overlap_facts(used).values()])
        path = args.picture.with_stem(f"{args.picture.stem}_overlap_{shot}")
        draw_overlap(used, f"{args.data}, {args.budget.n_way}w{shot}s", path)
    draw_frontier(panels, args.picture)
    header = ("tasks", "overlap", "by chance", "never used")
    harness.table("Features that two test tasks share", header, facts)


def main() -> None:
    """Run the parts asked for and print their tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--part", choices=["table", "step", "all"], default="all")
    parser.add_argument("--data", choices=list(FETCH), default="omniglot")
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument("--shots", type=int, nargs="+", help="of training tasks")
    names = ["affine", "color", "flip", "flip-shift", "shift"]
    parser.add_argument(
        "--augment", nargs="+", choices=names, help="of our learners only"
    )
    parser.add_argument(
        "--no-rotations",
        action="store_true",
        help="Omniglot without the rotations of training characters as classes",
    )
    everybody = (*LEARNERS, *TRAINED)
    parser.add_argument("--learners", nargs="+", choices=everybody, metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--full", action="store_true", help="sizes for a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--picture", type=Path, help="draw the frontier to this file")
    args = parser.parse_args()
    args.budget = FULL if args.full else small_budget(args.data)
    args.shots = args.shots or SHOTS[args.data]
    if args.learners is None:
        args.learners = (*LEARNERS, *TRAINED) if args.augment is None else LEARNERS
    if not set(SPARSE) & set(args.learners) or not set(DENSE) & set(args.learners):
        parser.error("--learners must have a sparse and a dense head among them")
    if args.smoke:
        args.budget, args.seeds, args.shots = SMOKE, [0], [1]
        args.learners = (SPARSE[0], SPARSE[-1], OF_FROZEN, "KFO", *TRAINED)
    harness = Harness("few_shot", args, PEERS)
    if args.smoke and args.picture is None:
        args.picture = harness.path.with_name("frontier.png")
    if args.part in ("table", "all"):
        report_table(harness, args)
    if args.part in ("step", "all"):
        report_step(harness, args)
    if args.picture:
        draw(harness, args)


if __name__ == "__main__":
    main()
