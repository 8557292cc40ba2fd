"""All learners on real images: same backbone, episodes and budget.

table
    5-way accuracy on classes never seen (Omniglot 1-shot, 20-way too; photographs
    5-shot; ``--shots`` for others), paired over the test episodes, with the share of
    features that a task uses and the time to adapt. The strength of the group Lasso is
    chosen on validation classes, among those that use at most 30% of features there.
    Frozen features of the prototype net under scikit-learn classifiers as well.
step
    One training step of `SparseMetaClassifier` against a plain supervised forward and
    backward pass of the same images through the same backbone.

learn2learn (trained on the same backbone, images and schedule) and easyfsl (on the
frozen features) are taken where they can be imported.

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
from _few_shot_contenders import (
    FETCH,
    FULL,
    HEADS,
    LEARNERS,
    SHOTS,
    SMALL,
    SMOKE,
    SPARSE,
    STEPS,
    Split,
    backbone_params,
    evaluations,
    load,
    make_learner,
)
from _few_shot_peers import ALGORITHMS, OF_FIXED_SIZE, ON_FEATURES, TRAINED, WHY_NOT
from _few_shot_pictures import (
    Point,
    draw_frontier,
    draw_overlap,
    masks_of,
    overlap_facts,
)
from _harness import Harness, make_parser, median_time
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skcausalmeta.episodes import EpisodeSampler
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import mean_confidence_interval
from skcausalmeta.model_selection import evaluate_few_shot
from skcausalmeta.nets import build_backbone

FROZEN: dict[str, Any] = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "linear SVM": LinearSVC(),
    "nearest centroid": NearestCentroid(),
    **ON_FEATURES,
}
OF_FROZEN = "prototypes (ProtoNet)"
N_TEST_QUERY = 15
N_TIMED, N_MAPPED = 50, 40
# Share of features on validation tasks that the chosen sparse learner may use.
MOST_USED = 0.3
FACTS = ("valid_accuracy", "valid_used")


def evaluate(estimator: Any, split: Split, way: int, shot: int, n: int) -> Any:
    """The same test episodes for every estimator and training seed."""
    rows = np.unique(split[1], return_counts=True)[1].min()
    with warnings.catch_warnings():
        # Centroids of one row have no spread.
        warnings.simplefilter("ignore", RuntimeWarning)
        return evaluate_few_shot(
            estimator,
            *split,
            n_way=way,
            n_shot=shot,
            n_query=int(min(N_TEST_QUERY, rows - shot)),
            n_episodes=n,
            random_state=0,
        ).to_dict()


def measure(
    name: str, splits: dict[str, Split], args: Any, n_shot: int, seed: int
) -> dict[str, Any]:
    """Train once and evaluate."""
    start = time.perf_counter()
    learner = train(name, splits, args, n_shot, seed)
    out: dict[str, Any] = {
        "train_seconds": time.perf_counter() - start,
        "valid_accuracy": max(row["valid_accuracy"] for row in learner.history_),
        "images": args.budget.images(n_shot),
        "evaluations": {},
        "frozen": {},
    }
    test, n = splits["test"], args.budget.test_episodes
    on_features: dict[str, Any] = {}
    if name in HEADS:
        # The features of an image do not depend on the episode: computed once.
        features = learner.transform(test[0]), test[1]
        head = make_pipeline(StandardScaler(with_std=False), HEADS[name]())
        on_features = FROZEN if name == OF_FROZEN else {}
    for way, shot in evaluations_of(name, args, n_shot):
        size = f"{way}w{shot}s"
        if name in HEADS:
            found = evaluate(head, features, way, shot, n)
            timed = evaluate(learner, test, way, shot, min(n, N_TIMED))
            check_same(timed["scores"], found["scores"][: len(timed["scores"])])
            found["adapt_time"] = timed["adapt_time"]
        else:
            found = evaluate(learner, test, way, shot, n)
        out["evaluations"][size] = found
        for kind, classifier in on_features.items():
            found = evaluate(classifier, features, way, shot, n)
            out["frozen"].setdefault(kind, {})[size] = found
    if name in SPARSE:
        size = (args.budget.n_way, n_shot)
        images, labels = splits["val"]
        valid = supports_of(head, (learner.transform(images), labels), *size)
        out["valid_used"] = float(masks_of(valid).mean())
        out["supports"] = supports_of(head, features, *size)
    return out


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


def check_same(of_images: Any, of_features: Any) -> None:
    """Scores of the first episodes, from images and from features computed before."""
    if abs(np.mean(of_images) - np.mean(of_features)) > 2e-3:
        raise RuntimeError(
            "Episodes of images and of their features must score the same. Got "
            f"{np.mean(of_images):.4f} and {np.mean(of_features):.4f}."
        )


def supports_of(head: Any, split: Split, way: int, shot: int) -> dict[str, Any]:
    """Features that the first test tasks use."""
    features, y = split
    sampler = EpisodeSampler(y, n_way=way, n_shot=shot, n_query=1, random_state=0)
    used = []
    for _ in range(N_MAPPED):
        rows = sampler.sample().support
        solved = clone(head).fit(features[rows], y[rows])
        used.append(np.flatnonzero(solved[-1].support_features_).tolist())
    return {"n_features": features.shape[1], "used": used}


def evaluations_of(name: str, args: Any, n_shot: int) -> list[tuple[int, int]]:
    """Sizes of test episodes; gradient steps need those of training."""
    if args.smoke:
        return [(args.budget.n_way, n_shot)]
    sizes = evaluations(args.data, n_shot)
    fixed = name in STEPS or name in OF_FIXED_SIZE
    return [size for size in sizes if not fixed or size[0] == args.budget.n_way]


# -- table -----------------------------------------------------------------------------


def collect(harness: Harness, args: Any) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Results of all runs by learner and shots, a result a seed."""
    splits: dict[str, Split] = {}
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for n_shot in args.shots:
            for name in args.learners:
                settings = {
                    "part": "table",
                    "data": args.data,
                    "learner": name,
                    "n_shot": n_shot,
                    "augment": args.augment,
                    "budget": args.budget._asdict(),
                    "seed": seed,
                }

                def run(
                    name: str = name, n_shot: int = n_shot, seed: int = seed
                ) -> Any:
                    if not splits:
                        splits.update(load(args.data, args.data_dir, args.smoke))
                    return measure(name, splits, args, n_shot, seed)

                result = harness.run(settings, run)
                found.setdefault((name, n_shot), []).append(result)
    return found


def chosen(found: dict[tuple[str, int], list[dict[str, Any]]], n_shot: int) -> str:
    """The sparse learner that does best on validation classes, with few features."""
    mean = {
        name: {fact: np.mean([run[fact] for run in runs]) for fact in FACTS}
        for (name, shots), runs in found.items()
        if name in SPARSE and shots == n_shot
    }
    least = min(facts["valid_used"] for facts in mean.values())
    few = [n for n, f in mean.items() if f["valid_used"] <= max(MOST_USED, least)]
    return max(few, key=lambda name: mean[name]["valid_accuracy"])


def report_table(harness: Harness, args: Any) -> None:
    found = collect(harness, args)
    for n_shot in args.shots:
        sparse = chosen(found, n_shot)
        for size in found[sparse, n_shot][0]["evaluations"]:
            rows = rows_of(found, n_shot, size, sparse)
            images = found[sparse, n_shot][0]["images"]
            title = f"{args.data}, {size}, {len(args.seeds)} seeds, {images:,} images"
            harness.table(title, HEADER, rows)


HEADER = ("learner", "%", "+-", "- chosen", "+-", "features %", "adapt ms", "train s")


def rows_of(
    found: dict[tuple[str, int], list[dict[str, Any]]],
    n_shot: int,
    size: str,
    sparse: str,
) -> list[list[Any]]:
    """A row a contender: accuracy, and the paired difference to the chosen one."""

    def scores(results: list[dict[str, Any]]) -> np.ndarray:
        return np.concatenate([np.asarray(result["scores"]) for result in results])

    base = scores([run["evaluations"][size] for run in found[sparse, n_shot]])
    rows = []
    for name in [name for name, shots in found if shots == n_shot]:
        runs = found[name, n_shot]
        if size not in runs[0]["evaluations"]:
            continue
        results = [run["evaluations"][size] for run in runs]
        label = f"{name} (chosen)" if name == sparse else name
        seconds = float(np.mean([run["train_seconds"] for run in runs]))
        rows.append([label, *figures(results, scores(results), base), round(seconds)])
        for kind, by_size in runs[0]["frozen"].items():
            if size in by_size:
                results = [run["frozen"][kind][size] for run in runs]
                cells = figures(results, scores(results), base)
                rows.append([f"  its features, {kind}", *cells, ""])
    return rows


def figures(
    results: list[dict[str, Any]], scores: np.ndarray, base: np.ndarray
) -> list[Any]:
    mean, half = mean_confidence_interval(scores)
    gain, gain_half = mean_confidence_interval(scores - base)
    sparsity = [
        r["sparsity"] for r in results if np.isfinite(r.get("sparsity") or np.nan)
    ]
    used = 100 * (1 - float(np.mean(sparsity))) if sparsity else 100.0
    adapt = 1e3 * float(np.mean([result["adapt_time"] for result in results]))
    return [
        *(round(100 * v, 2) for v in (mean, half, gain, gain_half)),
        round(used),
        adapt,
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
        sparse = chosen(found, shot)
        for size in found[sparse, shot][0]["evaluations"]:
            panels[f"{args.data}, {size}"] = [
                Point(name, used, accuracy, half)
                for name, accuracy, half, _, _, used, *_ in rows_of(
                    found, shot, size, sparse
                )
            ]
        supports = found[sparse, shot][0]["supports"]
        facts.append([f"{shot}-shot", *overlap_facts(masks_of(supports)).values()])
        path = args.picture.with_stem(f"{args.picture.stem}_overlap_{shot}")
        draw_overlap(supports, f"{args.data}, {args.budget.n_way}w{shot}s", path)
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
    parser.add_argument("--augment", choices=names, help="of our learners only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--full", action="store_true", help="sizes for a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--picture", type=Path, help="draw the frontier to this file")
    args = parser.parse_args()
    args.budget = FULL if args.full else SMALL
    args.shots = args.shots or SHOTS[args.data]
    args.learners = (*LEARNERS, *TRAINED) if args.augment is None else LEARNERS
    if args.smoke:
        args.budget, args.seeds, args.shots = SMOKE, [0], [1]
        args.learners = (SPARSE[0], OF_FROZEN, "KFO", *TRAINED)
    harness = Harness("few_shot", args)
    harness.table("Left out", ("peer", "reason"), list(WHY_NOT.items()))
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
