"""Transformers and pyramids of timm as backbones: features against plain loops, sizes, freezing, and a chain."""

import copy

import backbones as page
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli.errors import UsageError, WeightsError
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.pairwise_affinity import PairwiseAffinity

TINY = "timm:test_vit"
PATCH = 16


def random_weights(module: nn.Module, seed: int = 0) -> None:
    """Weights that show every term: no zeros, no ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3, generator=generator)


def looped_features(state: dict[str, Tensor], image: Tensor, *, heads: int, last_norm: str) -> Tensor:
    """What a transformer gives for an image (3, H, W): patches, positions, blocks and norm, each in a plain loop."""

    def normed(tokens: Tensor, name: str) -> Tensor:
        centred = tokens - tokens.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(tokens: Tensor, name: str) -> Tensor:
        return tokens @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    height, width = (-(-side // PATCH) for side in image.shape[1:])
    padded = torch.zeros(3, height * PATCH, width * PATCH)
    padded[:, : image.shape[1], : image.shape[2]] = image
    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    patches = []
    for row in range(height):
        for column in range(width):
            patch = padded[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            patches.append((kernel * patch).sum((1, 2, 3)) + bias)
    prefix = [state[name][0, 0] for name in ("cls_token", "reg_token") if name in state]
    tokens = torch.stack([*prefix, *patches])
    old = round((state["pos_embed"].shape[1] - len(prefix)) ** 0.5)
    ends, grid = state["pos_embed"][0, : len(prefix)], state["pos_embed"][0, len(prefix) :].T.reshape(1, -1, old, old)
    resized = functional.interpolate(grid, size=(height, width), mode="bicubic", antialias=True)
    tokens = tokens + torch.cat([ends, resized[0].flatten(1).T])

    block = 0
    while (at := f"blocks.{block}") + ".norm1.weight" in state:
        query, key, value = linear(normed(tokens, f"{at}.norm1"), f"{at}.attn.qkv").chunk(3, dim=1)
        size = query.shape[1] // heads
        mixed = torch.zeros_like(tokens)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for place in range(len(tokens)):
                weights = (key[:, part] @ query[place, part] / size**0.5).softmax(0)
                mixed[place, part] = weights @ value[:, part]
        tokens = tokens + linear(mixed, f"{at}.attn.proj") * state.get(f"{at}.ls1.gamma", 1)
        hidden = functional.gelu(linear(normed(tokens, f"{at}.norm2"), f"{at}.mlp.fc1"))
        tokens = tokens + linear(hidden, f"{at}.mlp.fc2") * state.get(f"{at}.ls2.gamma", 1)
        block += 1

    patches = normed(tokens, last_norm)[len(prefix) :]
    maps = torch.empty(patches.shape[1], height, width)
    for place, features in enumerate(patches):
        maps[:, place // width, place % width] = features
    return maps


# test_vit has a class token; test_vit2 a register token, layer scale, and the norm that timm has after pooling
@pytest.mark.parametrize(("name", "last_norm"), [("test_vit", "norm"), ("test_vit2", "fc_norm")])
@pytest.mark.parametrize("size", [(33, 75), (64, 32), (160, 160)])  # 160: the size of the published positions
def test_features_of_a_transformer_are_those_of_plain_loops(name: str, last_norm: str, size: tuple[int, int]) -> None:
    backbone = build_backbone(f"timm:{name}", output_stride=PATCH).eval()
    random_weights(backbone.trunk)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = backbone(images)
        expected = [
            looped_features(backbone.trunk.state_dict(), image, heads=2, last_norm=last_norm) for image in images
        ]
    assert features.shape == (2, 64, -(-size[0] // PATCH), -(-size[1] // PATCH))
    torch.testing.assert_close(features, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_published_weights_fit_without_what_pools_them() -> None:
    published = timm.create_model("test_vit3", pretrained=False).state_dict()  # it pools by attention
    backbone = build_backbone("timm:test_vit3", output_stride=16)
    backbone.initialise(published)
    own = backbone.trunk.state_dict()
    assert {name.split(".")[0] for name in published.keys() - own.keys()} == {"attn_pool", "head"}
    assert all(torch.equal(published[name], value) for name, value in own.items())
    with pytest.raises(
        WeightsError, match=r"do not fit timm:test_vit3: 126 layers of .*blocks.8.norm1.weight is missing"
    ):
        backbone.initialise(timm.create_model("test_vit2", pretrained=False).state_dict())


def test_the_output_stride_of_a_transformer_is_the_size_of_its_patches() -> None:
    with pytest.raises(
        UsageError, match=r"timm:test_vit does not support output stride 8: expected 16, the .*SECTION.output_stride=16"
    ):
        build_backbone(TINY, output_stride=8)
    with pytest.raises(UsageError, match=r"expected 32, the size of its patches; choose another --backbone"):
        build_backbone("timm:vit_small_patch32_224", output_stride=16)
    with pytest.raises(UsageError, match=r"vgg16 does not support output stride 14: expected 8 or 16"):
        build_backbone("vgg16", output_stride=14)


def test_patches_of_14_pixels_and_rotary_positions() -> None:
    """Rotary positions are in buffers that no file holds: networks that are built for stored weights have them."""
    name = "timm:eva02_tiny_patch14_224"
    backbone = build_backbone(name, output_stride=14).eval()
    with torch.device("meta"):
        stored = build_backbone(name, output_stride=14).eval()
    stored.load_state_dict(backbone.state_dict(), assign=True)
    images = torch.randn(1, 3, 43, 29)
    with torch.inference_mode():
        features = backbone(images)
        assert features.shape == (1, 192, 4, 3)
        assert torch.equal(stored(images), features)
    assert backbone.mean == (0.48145466, 0.4578275, 0.40821073)  # of CLIP


def test_a_transformer_freezes_its_embeddings_first_and_then_its_blocks() -> None:
    backbone = build_backbone(TINY, output_stride=16).train()
    trainable = []
    for num_stages in range(6):
        backbone.freeze_stages(num_stages)
        trainable.append({name for name, weight in backbone.trunk.named_parameters() if weight.requires_grad})
    embeddings = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert trainable[0] - trainable[1] == embeddings
    blocks = [sorted({int(name.split(".")[1]) for name in names if name.startswith("blocks")}) for names in trainable]
    assert blocks == [[*range(6)], [*range(6)], [*range(2, 6)], [*range(3, 6)], [*range(5, 6)], []]
    assert trainable[4] - {"norm.weight", "norm.bias"} == {name for name in trainable[4] if "blocks.5." in name}
    assert trainable[5] == set()


def test_frozen_stages_get_no_gradient_and_the_others_do() -> None:
    backbone = build_backbone(TINY, output_stride=16, new_layers=1).train()
    backbone.freeze_stages(3)
    backbone(torch.randn(1, 3, 40, 50)).square().mean().backward()
    for name, weight in backbone.trunk.named_parameters():
        learns = name.startswith(("blocks.3.", "blocks.4.", "blocks.5.", "norm."))
        assert (weight.grad is not None and bool(weight.grad.abs().sum() > 0)) == learns, name


def test_lower_levels_are_the_maps_between_blocks() -> None:
    backbone = build_backbone(TINY, output_stride=16).eval()
    images = torch.randn(1, 3, 50, 70)
    with torch.inference_mode():
        lower, middle, end = backbone.taps(images)
        between = backbone.trunk.forward_intermediates(images, indices=[2, 4], intermediates_only=True)
        assert torch.equal(lower, between[0])
        assert torch.equal(middle, between[1])
        assert torch.equal(end, backbone(images))
        assert PairwiseAffinity(backbone)(images).shape == (1, 448, 4, 5)


def test_a_copy_is_a_network_of_its_own() -> None:
    backbone = build_backbone(TINY, output_stride=16).eval()
    other = copy.deepcopy(backbone)
    random_weights(other, seed=3)
    images = torch.randn(1, 3, 40, 50)
    assert not torch.equal(other(images), backbone(images))


@pytest.mark.parametrize(
    "row",
    [
        "| `timm:test_vit` | 16 | 0.3 | 64 | 64, 64 | 5 | of either sign | yes | yes |",
        "| `timm:mobilenetv3_small_050` | 8, 16 | 0.1 | 24 | 8, 16 | 4 | of either sign | yes | yes |",
    ],
)
def test_small_ones_make_a_step_of_both_trainings(row: str) -> None:
    assert page.try_backbone(row.split("`")[1]).row() == row


@pytest.mark.slow
def test_swin_is_cut_at_its_level_of_the_output_stride() -> None:
    name = "timm:swin_tiny_patch4_window7_224"
    for output_stride, num_features in ((8, 192), (16, 384)):
        backbone = build_backbone(name, output_stride=output_stride).eval()
        with torch.device("meta"):
            stored = build_backbone(name, output_stride=output_stride).eval()
        stored.load_state_dict(backbone.state_dict(), assign=True)
        for size in ((32, 32), (41, 58), (130, 224)):
            images = torch.randn(1, 3, *size)
            with torch.inference_mode():
                features = backbone(images)
                assert features.shape == (1, num_features, *(-(-side // output_stride) for side in size))
                assert torch.equal(stored(images), features)
