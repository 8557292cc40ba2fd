"""Backbones against hand-worked sizes and plain torch."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skcausalmeta.backbones import (
    MLP,
    Conv4,
    Conv4Module,
    DropBlock,
    Identity,
    MLPModule,
    ResNet12,
    ResNet12Module,
    build_backbone,
    differentiated_twice,
    n_features_out,
    named_backbone,
)

SMALL_RESNET = {"n_filters": (4, 5, 6, 7)}


def random_images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


# 8, 4, 2, 1, 1; 28, 14, 7, 3, 1; 32, 16, 8, 4, 2; 84, 42, 21, 10, 5
LAST_SIDES = {8: 1, 28: 1, 32: 2, 84: 5}


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("side", [8, 28, 32, 84])
def test_conv4_out_features_follow_from_the_side(side, channels):
    backbone = Conv4Module(channels, side, n_filters=6)
    assert backbone.out_features == 6 * LAST_SIDES[side] ** 2
    features = backbone(random_images(2, channels, side, side))
    assert features.shape == (2, backbone.out_features)


@pytest.mark.parametrize(
    ("size", "area"),
    [
        ((8, 32), 4),  # 8x32, 4x16, 2x8, 1x4, not pooled again
        ((40, 28), 2),  # 20x14, 10x7, 5x3, 2x1
        ((1, 16), 16),  # never pooled
        ((9, 9), 1),
    ],
)
def test_conv4_never_pools_a_side_of_one(size, area):
    backbone = Conv4Module(2, size, n_filters=3)
    assert backbone.out_features == 3 * area
    assert backbone(random_images(2, 2, *size)).shape == (2, 3 * area)


def test_conv4_of_the_literature_has_1600_features_and_its_parameter_count():
    backbone = Conv4Module(3, 84)
    assert backbone.out_features == 1600
    # 9 * 3 * 64 + 3 * (9 * 64 * 64) weights and 4 * 2 * 64 of batch norm
    assert n_parameters(backbone) == 1728 + 3 * 36864 + 512
    assert Conv4Module(1, 28).out_features == 64
    assert n_parameters(Conv4Module(1, 28, n_filters=8, n_blocks=2)) == 72 + 576 + 32


def test_conv4_with_a_wide_last_block():
    wide = Conv4Module(1, 28, n_filters=8, n_blocks=2, out_filters=20)
    assert n_parameters(wide) == 72 + 8 * 9 * 20 + 2 * (8 + 20)
    assert wide(torch.zeros(3, 1, 28, 28)).shape == (3, wide.out_features)
    assert wide.out_features == 20 * 7 * 7
    pooled = Conv4Module(1, 28, n_filters=8, out_filters=20, global_pool=True)
    assert pooled.out_features == 20
    with pytest.raises(ValueError, match="'out_filters' parameter of Conv4"):
        Conv4Module(1, 28, out_filters=0)


def test_conv4_averages_the_last_map():
    images = random_images(4, 1, 20, 20)
    flat = seeded(lambda: Conv4Module(1, 20, n_filters=6, n_blocks=2))
    pooled = seeded(
        lambda: Conv4Module(1, 20, n_filters=6, n_blocks=2, global_pool=True)
    )
    assert pooled.out_features == 6
    maps = flat(images).reshape(4, 6, 25)
    torch.testing.assert_close(pooled(images), maps.mean(-1))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 13)])
def test_conv4_equals_the_textbook_order_relu_then_pool(shape):
    backbone = seeded(lambda: Conv4Module(shape[0], shape[1:], n_filters=8)).double()
    images = random_images(6, *shape, dtype=torch.float64).requires_grad_()
    maps = images
    for block in backbone.blocks:
        conv, norm = block[0], block[1]
        maps = F.conv2d(maps, conv.weight, padding=1)
        maps = F.batch_norm(maps, None, None, norm.weight, norm.bias, training=True)
        maps = F.relu(maps)
        if min(maps.shape[2:]) >= 2:
            maps = F.max_pool2d(maps, 2)
    expected = maps.flatten(1)
    actual = backbone(images)
    torch.testing.assert_close(actual, expected)
    weights = random_images(*actual.shape, seed=1, dtype=torch.float64)
    for of in (images, backbone.blocks[0][0].weight):
        torch.testing.assert_close(
            torch.autograd.grad((actual * weights).sum(), of, retain_graph=True)[0],
            torch.autograd.grad((expected * weights).sum(), of, retain_graph=True)[0],
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_conv4_features_do_not_depend_on_the_layout_of_the_images(channels):
    backbone = Conv4Module(channels, 32, n_filters=4)
    images = random_images(3, channels, 32, 32)
    laid_out = images.clone(memory_format=torch.channels_last)
    torch.testing.assert_close(backbone(laid_out), backbone(images))
    maps = backbone.blocks(images.contiguous())
    assert all(p.is_contiguous() for p in backbone.parameters())
    # feature index = filter * area + row * width + column
    torch.testing.assert_close(backbone(images)[:, 7], maps[:, 1, 1, 1])


def test_conv4_keeps_the_layout_of_maps_that_are_differentiated_twice():
    backbone = Conv4Module(3, 16, n_filters=4, n_blocks=2)
    images, seen = random_images(2, 3, 16, 16), []
    second = backbone.blocks[1][0]
    second.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    once = backbone(images)
    with differentiated_twice():
        torch.testing.assert_close(backbone(images), once)
    assert [maps.is_contiguous() for maps in seen] == [False, True]


def test_conv4_runs_inside_vmap_over_tasks():
    backbone = Conv4Module(2, 8, n_filters=3).eval()
    tasks = random_images(4, 5, 2, 8, 8)
    batched = torch.vmap(backbone)(tasks)
    torch.testing.assert_close(batched, torch.stack([backbone(t) for t in tasks]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 28, {}), "'in_channels' parameter of Conv4 must be a positive integer"),
        ((1, (28,), {}), r"one side or a pair \(height, width\)"),
        ((1, 28.0, {}), "sequence of positive integers"),
        ((1, (28, 0), {}), r"'image_size\[1\]'"),
        ((1, 28, {"n_filters": True}), "'n_filters'"),
        ((1, 28, {"n_blocks": -1}), "'n_blocks'"),
    ],
)
def test_conv4_refuses_wrong_parameters(arguments, message):
    channels, size, options = arguments
    with pytest.raises(ValueError, match=message):
        Conv4Module(channels, size, **options)


def test_conv4_names_the_shape_it_was_built_for():
    with pytest.raises(ValueError, match=r"\(3, 28, 28\).*Got \(1, 28, 28\)"):
        Conv4Module(3, 28)(torch.zeros(2, 1, 28, 28))


def test_mlp_counts_parameters_and_flattens():
    backbone = MLPModule(12, hidden=(7, 5), out_features=3)
    assert n_parameters(backbone) == 12 * 7 + 7 + 7 * 5 + 5 + 5 * 3 + 3
    assert backbone(random_images(4, 3, 2, 2)).shape == (4, 3)
    assert n_parameters(MLPModule(12, hidden=(), out_features=2)) == 26


def test_mlp_has_no_activation_at_the_end_and_standardises_units_away():
    backbone = seeded(lambda: MLPModule(6, out_features=8))
    rows = random_images(40, 6)
    backbone.fit_inputs(rows.numpy())
    features = backbone(rows)
    assert (features < 0).any()
    assert (features > 0).any()
    units = torch.tensor([1e3, 1.0, 50.0, 1e4, 2.0, 7.0])
    other = seeded(lambda: MLPModule(6, out_features=8))
    other.fit_inputs((rows * units + 3).numpy())
    torch.testing.assert_close(other(rows * units + 3), features, atol=1e-4, rtol=0)
    plain = seeded(lambda: MLPModule(6, out_features=8, standardize=False))
    assert not torch.allclose(plain(rows * units), plain(rows), atol=1.0)


def test_mlp_drops_hidden_units_in_training_only():
    backbone = MLPModule(6, hidden=(30,), dropout=0.5)
    rows = random_images(10, 6)
    assert not torch.equal(*seeded(lambda: (backbone(rows), backbone(rows))))
    backbone.eval()
    assert torch.equal(backbone(rows), backbone(rows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 64}, "'hidden' parameter of MLP must be a sequence"),
        ({"hidden": (8, 0)}, r"'hidden\[1\]' parameter of MLP"),
        ({"out_features": 2.5}, "'out_features'.*Got 2.5"),
        ({"dropout": 1}, r"'dropout' parameter of MLP .* \[0, 1\).*Got 1 "),
        ({"dropout": float("nan")}, "'dropout'"),
        ({"dropout": "half"}, "'dropout'"),
    ],
)
def test_mlp_refuses_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        MLPModule(4, **options)


def test_mlp_names_the_width_it_was_built_for():
    with pytest.raises(ValueError, match=r"in_features=4 values. Got rows of shape"):
        MLPModule(4)(torch.zeros(3, 5))


def test_resnet12_has_the_published_number_of_parameters():
    # per block: 9 i o + 2 (9 o o) + i o of the shortcut + 4 batch norms of 2 o
    blocks = [(3, 64), (64, 160), (160, 320), (320, 640)]
    expected = sum(9 * i * o + 18 * o * o + i * o + 8 * o for i, o in blocks)
    assert expected == 12_424_320
    backbone = ResNet12Module(3)
    assert n_parameters(backbone) == expected
    assert backbone.out_features == 640


@pytest.mark.parametrize("avg_pool", [True, False])
@pytest.mark.parametrize(
    ("size", "area"),
    [((8, 8), 1), ((28, 28), 1), ((32, 32), 4), ((84, 84), 25), ((8, 32), 4)],
)
def test_resnet12_out_features(size, area, avg_pool):
    backbone = ResNet12Module(2, avg_pool=avg_pool, image_size=size, **SMALL_RESNET)
    assert backbone.out_features == (7 if avg_pool else 7 * area)
    features = backbone(random_images(2, 2, *size))
    assert features.shape == (2, backbone.out_features)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_resnet12_takes_any_number_of_channels(channels):
    assert ResNet12Module(channels, **SMALL_RESNET)(
        random_images(2, channels, 16, 16)
    ).shape == (2, 7)


def test_resnet12_block_equals_activation_before_pooling():
    block = ResNet12Module(2, n_filters=(4,), drop_rate=0.0).double().blocks[0]
    maps = random_images(3, 2, 9, 6, dtype=torch.float64)
    activated = F.leaky_relu(block.residual(maps) + block.shortcut(maps), 0.1)
    torch.testing.assert_close(block(maps), F.max_pool2d(activated, 2))


def test_resnet12_drops_units_first_and_blocks_last():
    backbone = ResNet12Module(1, drop_rate=0.2, drop_block_size=3, **SMALL_RESNET)
    drops = [block.drop for block in backbone.blocks]
    kinds = [type(drop) for drop in drops]
    assert kinds == [nn.Dropout, nn.Dropout, DropBlock, DropBlock]
    assert [drops[0].p, drops[3].drop_rate, drops[3].block_size] == [0.2, 0.2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"avg_pool": False}, "needs 'image_size'.*avg_pool=False"),
        ({"n_filters": ()}, "at least one block"),
        ({"n_filters": (4, -1)}, r"'n_filters\[1\]'"),
        ({"drop_rate": -0.1}, "'drop_rate' parameter of ResNet12"),
        ({"drop_block_size": 0}, "'block_size' parameter of DropBlock"),
    ],
)
def test_resnet12_refuses_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet12Module(3, **options)


def test_resnet12_names_the_shape_it_was_built_for():
    with pytest.raises(ValueError, match=r"\(3, height, width\).*Got \(1, 9, 9\)"):
        ResNet12Module(3, **SMALL_RESNET)(torch.zeros(2, 1, 9, 9))
    flat = ResNet12Module(3, avg_pool=False, image_size=16, **SMALL_RESNET)
    with pytest.raises(ValueError, match=r"\(3, 16, 16\).*Got \(3, 9, 9\)"):
        flat(torch.zeros(2, 3, 9, 9))


def test_drop_block_is_the_identity_in_eval_and_at_rate_zero():
    maps = random_images(2, 3, 7, 7)
    assert torch.equal(DropBlock(0.5).eval()(maps), maps)
    assert torch.equal(DropBlock(0.0)(maps), maps)


@pytest.mark.parametrize(
    ("size", "block"), [((10, 10), 3), ((5, 5), 5), ((2, 6), 5), ((1, 1), 5)]
)
def test_drop_block_keeps_the_mean_and_drops_the_predicted_share(size, block):
    rate, (h, w) = 0.15, size
    maps = torch.ones(200, 40, h, w)
    dropped = seeded(lambda: DropBlock(rate, block)(maps))
    assert dropped.mean().item() == pytest.approx(1.0, abs=1e-4)
    # A unit survives if none of the blocks that would cover it starts.
    bh, bw = min(block, h), min(block, w)
    starts_h, starts_w = h - bh + 1, w - bw + 1
    gamma = rate / (bh * bw) * h * w / (starts_h * starts_w)
    survival = torch.zeros(h, w)
    for i in range(h):
        for j in range(w):
            rows = min(i, starts_h - 1) - max(0, i - bh + 1) + 1
            columns = min(j, starts_w - 1) - max(0, j - bw + 1) + 1
            survival[i, j] = (1 - gamma) ** (rows * columns)
    kept = (dropped != 0).float().mean(dim=(0, 1))
    torch.testing.assert_close(kept, survival, atol=0.02, rtol=0)


def test_drop_block_drops_whole_blocks_of_single_channels():
    dropped = seeded(lambda: DropBlock(0.3, 4)(torch.ones(60, 8, 4, 4)))
    shares = (dropped == 0).float().mean(dim=(2, 3))  # (60, 8)
    assert set(shares.flatten().tolist()) == {0.0, 1.0}
    assert 0 < shares.mean() < 1
    assert not torch.equal(shares, shares[:, :1].expand_as(shares))


def test_drop_block_stays_finite_when_everything_is_dropped():
    dropped = seeded(lambda: DropBlock(0.999999, 1)(torch.ones(1, 1, 1, 1)))
    assert torch.isfinite(dropped).all()


def test_drop_block_refuses_other_shapes_and_rates():
    with pytest.raises(ValueError, match=r"\(n, c, h, w\). Got shape \(2, 3\)"):
        DropBlock()(torch.ones(2, 3))
    with pytest.raises(ValueError, match="'drop_rate' parameter of DropBlock"):
        DropBlock(1.0)
    assert repr(DropBlock()) == "DropBlock(drop_rate=0.1, block_size=5)"


@pytest.mark.parametrize(
    "backbone", ["mlp", Conv4(n_filters=5), ResNet12(**SMALL_RESNET)]
)
def test_gradients_reach_every_parameter_and_seeds_repeat(backbone):
    def run():
        module = build_backbone(backbone, (2, 12, 12))
        module(random_images(4, 2, 12, 12)).square().sum().backward()
        return module

    first, second, other = seeded(run), seeded(run), seeded(run, seed=1)
    for parameter, again in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.isfinite(parameter.grad).all()
        assert torch.equal(parameter.grad, again.grad)
    # The linear or convolutional weights come first and differ between seeds.
    assert next(first.parameters()).grad.abs().sum() > 0
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("shape", "kind", "n_features"),
    [
        ((10,), MLPModule, 64),
        ((1, 28, 28), Conv4Module, 64),
        ((3, 8, 9), Conv4Module, 64),
        ((3, 7, 28), MLPModule, 64),
        ((20, 6), MLPModule, 64),
        ((2, 3, 4, 5), MLPModule, 64),
    ],
)
def test_auto_chooses_by_shape(shape, kind, n_features):
    module = build_backbone("auto", shape)
    assert isinstance(module, kind)
    assert module(random_images(3, *shape)).shape == (3, n_features)
    assert n_features_out(module, shape) == n_features


def test_identity_only_flattens():
    rows = random_images(3, 4, 5)
    module = build_backbone("identity", (4, 5))
    assert torch.equal(module(rows), rows.reshape(3, 20))
    assert n_features_out(module, (4, 5)) == 20


def test_factories_get_the_input_shape_if_they_ask_for_it():
    def ask(input_shape, width=3):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width))

    def ask_by_keywords(**options):
        return nn.Linear(options["n_in"], 2)

    module = build_backbone(partial(ask, width=4), (2, 5))
    assert module(torch.zeros(3, 2, 5)).shape == (3, 4)
    assert n_features_out(build_backbone(ask, (2, 5)), (2, 5)) == 3
    module = build_backbone(partial(nn.Linear, in_features=6, out_features=2), [6])
    assert n_features_out(module, (6,)) == 2
    module = build_backbone(partial(ask_by_keywords, n_in=6), (6,))
    assert n_features_out(module, [6]) == 2


class Maps(Conv4):
    def build(self, input_shape):
        return nn.Conv2d(input_shape[0], 2, 3)


def test_outputs_become_two_dimensional():
    own = build_backbone(Maps(), (1, 5, 5))
    assert own(torch.zeros(4, 1, 5, 5)).shape == (4, 18)
    maps = build_backbone(nn.Conv2d(1, 2, 3), (1, 5, 5))
    assert maps(torch.zeros(4, 1, 5, 5)).shape == (4, 18)
    scalars = build_backbone(nn.Flatten(0), (1,))
    assert scalars(torch.zeros(4, 1)).shape == (4, 1)


def test_instances_are_copied_with_their_weights():
    pretrained = nn.Sequential(nn.Linear(3, 2))
    before = copy.deepcopy(pretrained.state_dict())
    module = build_backbone(pretrained, (3,))
    assert torch.equal(module.backbone[0].weight, pretrained[0].weight)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    for name, tensor in pretrained.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        ("conv5", (1, 9, 9), r"\['auto', .*'identity'\].*Did you mean 'conv4'\?"),
        ("MLP", (4,), r"Got 'MLP' instead. Did you mean 'mlp'\?"),
        ("zzz", (4,), "Got 'zzz' instead.$"),
        ("conv4", (4,), r"needs images.*input_shape=\(4,\).*backbone='mlp'"),
        ("resnet12", (4, 4), "'resnet12' needs images"),
        (Conv4(n_filters=0), (1, 9, 9), "'n_filters' parameter of Conv4"),
        (MLP(hidden=64), (4,), "'hidden' parameter of MLP must be a sequence"),
        (ResNet12(n_filters=()), (1, 9, 9), "at least one block"),
        (nn.Linear, (2,), "Linear must be callable with nothing but input_shape"),
        (
            partial(nn.Linear, in_features=2),
            (2,),
            "backbone Linear must be callable .*'out_features'. .*functools.partial",
        ),
        (lambda input_shape: 3, (2,), "must return a torch.nn.Module. Got 3"),
        (partial(lambda width: 3, width=3), (2,), "must return a torch.nn.Module"),
        (7, (2,), "The backbone must be one of .* Got 7"),
        ("mlp", (), r"at least one axis.*Got \(\)"),
        ("mlp", (3, 0), r"'input_shape\[1\]' parameter of build_backbone"),
    ],
)
def test_build_backbone_refuses(backbone, shape, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(backbone, shape)


def test_keywords_that_a_factory_lacks_are_named():
    with pytest.raises(TypeError, match="'n_in'"):
        build_backbone(partial(nn.Linear, n_in=2), (2,))


@pytest.mark.parametrize(
    ("name", "kind", "params"),
    [
        ("mlp", MLP, {"in_features": 4}),
        ("conv4", Conv4, {"n_filter": 3}),
        ("resnet12", ResNet12, {"image_size": 9}),
        ("identity", Identity, {"width": 3}),
    ],
)
def test_names_stand_for_backbones_that_refuse_other_parameters(name, kind, params):
    backbone = named_backbone(name)
    assert type(backbone) is kind
    ((wrong, _),) = params.items()
    with pytest.raises(ValueError, match=f"Invalid parameter '{wrong}' for estimator"):
        backbone.set_params(**params)


def test_the_backbone_that_waits_for_the_data_has_no_parameters_yet():
    with pytest.raises(ValueError, match="backbone='auto', which waits for the data"):
        named_backbone("auto")


class TwoOutputs(nn.Module):
    def forward(self, rows):
        return rows, rows


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (TwoOutputs(), "one tensor with one row per sample. Got tuple for 2"),
        (nn.Flatten(0), r"Got \(6,\) for 2 samples"),
        (nn.Linear(5, 2), r"must accept rows of shape \(3,\). It failed with: "),
    ],
)
def test_n_features_out_explains_failures(module, message):
    with pytest.raises(ValueError, match=message):
        n_features_out(build_backbone(module, (3,)), (3,))


def test_n_features_out_leaves_the_module_as_it_was():
    frozen = nn.BatchNorm1d(3).eval()
    module = build_backbone(nn.Sequential(frozen, nn.Linear(3, 4)), (3,)).double()
    before = copy.deepcopy(module.state_dict())
    flags = [layer.training for layer in module.modules()]
    assert True in flags
    assert False in flags
    assert n_features_out(module, (3,)) == 4
    assert [layer.training for layer in module.modules()] == flags
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(ValueError, match="must accept rows"):
        n_features_out(module, (2,))
    assert [layer.training for layer in module.modules()] == flags
