"""The recipes of ``examples/recipes``, each trained and evaluated once a seed.

Accuracy on test classes, the features in use, and the minutes of training; 1-NN on
pixels on the same episodes. Data are read from ``--data-dir`` or
SKCAUSALMETA_DATA; ``--smoke`` makes its own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import sys
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.neighbors import KNeighborsClassifier

from benchmarks._harness import ROOT, Harness, make_parser

MEASURES = (
    "examples/recipes",
    "skcausalmeta/backbones",
    "skcausalmeta/heads",
    "skcausalmeta/learners/_synergies",
    "skcausalmeta/solvers",
    "skcausalmeta/training",
)

FOLDER = ROOT / "examples" / "recipes"
RECIPES = ("omniglot", "omniglot_sparse", "tiny_imagenet")
HEADER = ("recipe", "seed", "episodes", "%", "+-", "features %", "of", "minutes")


def module_of(name: str) -> Any:
    """A recipe as a module; what recipes share lies beside it."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def described(learner: Any) -> dict[str, Any]:
    """Parameters of a learner as text, those of its callbacks too.

    The lines hold the backbone as a name and a dictionary that names its filters.
    """
    callbacks = [f"{type(one).__name__} {vars(one)}" for one in learner.callbacks]
    params = given(learner)
    del params["callbacks"]
    backbone = learner.backbone
    if "augment" in params:
        params["augment"] = in_full(params["augment"])
    params["backbone"] = type(backbone).__name__.lower()
    params["backbone_params"] = {"n_filters": backbone.n_filters, **given(backbone)}
    written = type(type(learner).__name__, (Written,), {})(params)
    return {"learner": repr(written), "callbacks": callbacks}


def in_full(augment: Any) -> Any:
    """An augmentation that is printed with all its parameters, default or not."""
    if isinstance(augment, list):
        return [in_full(step) for step in augment]
    if not dataclasses.is_dataclass(augment):
        return augment
    names = [field.name for field in dataclasses.fields(augment)]
    printed = dataclasses.make_dataclass(type(augment).__name__, names)
    return printed(*(getattr(augment, name) for name in names))


def given(estimator: Any) -> dict[str, Any]:
    """Parameters that are not the default."""
    defaults = inspect.signature(type(estimator)).parameters
    return {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if repr(value) != repr(defaults[name].default)
    }


class Written(BaseEstimator):
    """What is printed as an estimator of some parameters."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters to print."""
        return self.params


def measure(recipe: Any, seed: int, args: Any) -> dict[str, Any]:
    """Train once and evaluate."""
    from _recipe import evaluate, train

    splits = recipe.load(args.data_dir, smoke=args.smoke)
    learner = recipe.make_learner(seed, smoke=args.smoke)
    learner.set_params(verbose=0, device=args.device)
    out = train(learner, splits)
    out["n_features"] = learner.n_features_out_
    images, labels = splits["test"]
    pixels = images.reshape(len(images), -1) / 255.0
    out["evaluations"], out["pixels"] = {}, {}
    for way, shot in ((3, 1),) if args.smoke else recipe.EVALUATIONS:
        size = f"{way}w{shot}s"
        out["evaluations"][size] = evaluate(
            learner, splits["test"], way, shot, args.episodes
        )
        out["pixels"][size] = evaluate(
            KNeighborsClassifier(1), (pixels, labels), way, shot, args.episodes
        )
    return out


def rows_of(name: str, seed: int, found: dict[str, Any]) -> list[list[Any]]:
    """A row a size of the test episodes, and one for pixels."""
    rows = []
    for size, result in found["evaluations"].items():
        used = round(100 * (1 - result["sparsity"]))
        minutes = round(found["train_seconds"] / 60, 1)
        cells = [*percent(result), used, found["n_features"], minutes]
        rows.append([name, seed, size, *cells])
        rows.append(["  1-NN", "", size, *percent(found["pixels"][size]), "", "", ""])
    return rows


def percent(result: dict[str, Any]) -> list[float]:
    return [round(100 * result[fact], 1) for fact in ("mean", "half_width")]


def main() -> None:
    """Run the recipes asked for and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--data-dir", help="folder of the npz files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.smoke:
        args.seeds, args.episodes = [0], 5
    harness = Harness("recipes", args)
    rows = []
    for name in args.recipes:
        recipe = module_of(name)
        for seed in args.seeds:
            learner = recipe.make_learner(seed, smoke=args.smoke)
            settings = {
                "recipe": name,
                **described(learner),
                "seed": seed,
                "episodes": args.episodes,
            }
            found = harness.run(
                settings, lambda recipe=recipe, seed=seed: measure(recipe, seed, args)
            )
            rows += rows_of(name, seed, found)
    harness.table("Recipes, test classes", HEADER, rows)


if __name__ == "__main__":
    main()
