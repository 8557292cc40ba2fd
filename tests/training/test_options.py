"""What is held out, how training runs and the optimiser, as objects."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.training import (
    SGD,
    Adam,
    AdamW,
    Training,
    Validation,
    named_optimizer,
    optimizer_keywords,
)

# -- Validation ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (0.4, {"held_out": 0.4, "n_episodes": 100, "patience": 5}),
        (["a", "b"], {"held_out": ["a", "b"], "n_episodes": 100, "patience": None}),
        ((1, 2), {"held_out": (1, 2), "n_episodes": 100, "patience": None}),
        (
            Validation([3], n_episodes=7, patience=2),
            {"held_out": [3], "n_episodes": 7, "patience": 2},
        ),
        (
            Validation(patience=None),
            {"held_out": 0.2, "n_episodes": 100, "patience": None},
        ),
    ],
)
def test_what_a_validation_stands_for(given, wanted):
    assert Validation.of(given).get_params() == wanted


def test_none_holds_nothing_out_and_an_object_is_itself():
    given = Validation(0.3)
    assert Validation.of(None) is None
    assert Validation.of(given) is given


@pytest.mark.parametrize("named", [[1, 4], (1, 4), np.array([1, 4])])
def test_a_share_or_names(named):
    one, other = Validation(np.float32(0.5)), Validation(named)
    assert (one.share, one.named) == (0.5, None)
    assert other.share is None
    assert other.named.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (1.0, "held_out"),
        (0.0, "held_out"),
        (True, "held_out"),
        (1, "held_out"),
        (-0.5, "held_out"),
        (float("nan"), "held_out"),
        ("classes", "held_out"),
        (Validation(None), "held_out"),
        (Validation(True), "held_out"),
        (Validation(1.5), "held_out"),
        (Validation(n_episodes=0), "n_episodes"),
        (Validation(n_episodes=2.5), "n_episodes"),
        (Validation(n_episodes=None), "n_episodes"),
        (Validation(patience=0), "patience"),
        (Validation(patience=0.5), "patience"),
        (Validation(patience="auto"), "patience"),
    ],
    ids=repr,
)
def test_a_wrong_validation_is_refused(given, name):
    match = rf"The '{name}' parameter of Validation must be .*\. Got .* instead"
    with pytest.raises(ValueError, match=match):
        Validation.of(given)


# -- Training --------------------------------------------------------------------------


def test_a_dictionary_is_divided_into_settings_and_keywords():
    given = {"warm_start": True, "head_tol": 1e-4, "optimizer__eps": 1.0}
    settings = Training.of(given)
    assert (settings.warm_start, settings.precision) == (True, "float32")
    assert (settings.compile, settings.checkpoint_path) == (False, None)
    assert settings.keywords == {"head_tol": 1e-4, "optimizer__eps": 1.0}
    settings.keywords.clear()
    assert len(given) == 3


@pytest.mark.parametrize(
    "given",
    [
        {"precision": "bfloat16", "warm_start": True, "head_tol": 1e-4},
        {"compile": {"backend": "eager"}, "checkpoint_path": "training.ckpt"},
        {},
        None,
    ],
)
def test_the_object_of_a_dictionary_says_the_same(given):
    assert Training.of(Training.named(given)) == Training.of(given)
    assert Training.of(clone(Training.named(given))) == Training.of(given)


def test_keywords_of_an_object_are_copied():
    keywords = {"head_tol": 1e-4}
    Training.of(Training(keywords=keywords)).keywords["head_tol"] = 1.0
    assert keywords == {"head_tol": 1e-4}


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"precision": "half"}, "'precision' parameter of Training .* Got 'half'"),
        ({"precision": None}, "The 'precision' parameter of Training"),
        ({"compile": "yes"}, "The 'compile' parameter of Training"),
        ({"warm_start": 1}, "The 'warm_start' parameter of Training"),
        ({"checkpoint_path": 3}, "The 'checkpoint_path' parameter of Training"),
    ],
)
def test_wrong_settings_are_refused_in_both_forms(params, match):
    for given in (params, Training(**params)):
        with pytest.raises(ValueError, match=match):
            Training.of(given)


@pytest.mark.parametrize("given", [3, "bfloat16", [("warm_start", True)], Training])
def test_what_is_no_training_is_refused(given):
    with pytest.raises(InvalidInputError, match="must be a dictionary, a Training or"):
        Training.of(given)
    with pytest.raises(InvalidInputError, match=r"Got .*; pass one of these"):
        Training.named(given)


@pytest.mark.parametrize("keywords", [3, "head_tol", {"precision": "bfloat16"}])
def test_wrong_keywords_are_refused(keywords):
    match = "'keywords' parameter of Training must be a dictionary without its own"
    with pytest.raises(InvalidInputError, match=match):
        Training.of(Training(keywords=keywords))


# -- optimisers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "spec", "kind"),
    [
        ("adam", Adam(), torch.optim.Adam),
        ("adamw", AdamW(), torch.optim.AdamW),
        ("sgd", SGD(), torch.optim.SGD),
    ],
)
def test_a_name_and_its_object_give_torchs_defaults(name, spec, kind):
    assert type(named_optimizer(name)) is type(spec)
    for given in (name, spec):
        keywords = optimizer_keywords(given)
        assert keywords.pop("optimizer") is kind
        values = {k.removeprefix("optimizer__"): v for k, v in keywords.items()}
        weight = torch.nn.Parameter(torch.ones(1))
        defaults = kind([weight]).defaults
        assert kind([weight], **values).defaults == defaults
        assert values == {k: defaults[k] for k in values}


def test_parameters_reach_the_optimiser():
    found = optimizer_keywords(SGD(momentum=0.9, nesterov=True, weight_decay=0.1))
    assert found == {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__nesterov": True,
        "optimizer__weight_decay": 0.1,
    }


def test_a_class_of_torch_is_passed_on():
    assert optimizer_keywords(torch.optim.RMSprop) == {"optimizer": torch.optim.RMSprop}


@pytest.mark.parametrize("given", ["adamm", 3, None, ["adam"]])
def test_what_is_no_optimiser_is_refused(given):
    with pytest.raises(InvalidInputError, match=r"must be one of \['adam', .* Got"):
        optimizer_keywords(given)
    with pytest.raises(InvalidInputError, match=r"pass one of them, or an object"):
        named_optimizer(given)
