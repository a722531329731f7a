"""`mcis export --onnx`: onnxruntime gives what the network gives; what the page on its use says is so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_commands import environment, mcis
from tiny_chain import CLASSES, NUM_VAL
from torch.nn import functional

from mcis_cli.config import EvalConfig
from mcis_cli.data.augment import normalise, warp
from mcis_cli.data.images import decode_image
from mcis_cli.interop.exports.model_card import code
from mcis_cli.interop.exports.onnx import DeployedPair, tolerance_of_attention
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.co_attention import mix
from mcis_cli.models.reference import contrastive
from mcis_cli.stages.engine.networks import backbone_of, stored_classifier, stored_segmenter
from mcis_cli.stages.plan.lineage import SALIENCY_GIVEN
from mcis_cli.stages.predict import run as predict

onnx = pytest.importorskip("onnx", reason="pip install 'mcis[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'mcis[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'mcis[onnx]'")

pytestmark = pytest.mark.heavy

PAGE = Path(__file__).parents[2] / "docs/how-to/use-without-torch.md"


@pytest.fixture(scope="module")
def work(chain, tmp_path_factory):
    """A folder with the exports of both networks of the chain, named as on the page."""
    folder = tmp_path_factory.mktemp("onnx")
    for stage, name in (("train-seg", "network"), ("train-cls", "classifier")):
        # In a process of its own: shapes that are checked at run time, as in tests, are no numbers to an exporter.
        answer = mcis("export", chain.made[stage].id, "--onnx", "-o", folder / name, cwd=chain.folder, real=True)
        assert answer.code == 0, answer.err
        assert answer.lines == [str(folder / name)]
        assert re.search(r"onnxruntime and PyTorch differ by \d\.\de-\d+ at most", answer.err)
        assert "Warning" not in answer.err
    return folder


def run(file: Path, **images: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, images)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


def normalised(model, images: np.ndarray) -> torch.Tensor:
    backbone = backbone_of(model)
    return torch.stack([normalise(image.transpose(1, 2, 0), backbone.mean, backbone.std) for image in images])


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 48, 72), (2, 33, 101), (3, 77, 32), (1, 130, 65)])
def test_probabilities_are_those_of_the_network_at_any_size(chain, work, batch, height, width):
    model = stored_segmenter(chain.made["train-seg"]).eval()
    images = noise(batch, 3, height, width)
    (found,) = run(work / "network/segmentation.onnx", images=images)
    with torch.inference_mode():
        logits = model(normalised(model, images))
        full = torch.nn.functional.interpolate(logits, size=(height, width), mode="bilinear").softmax(1)
    np.testing.assert_allclose(found, full.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (2, 33, 101)])
def test_scores_and_maps_are_those_of_the_classifier(chain, work, batch, height, width):
    model = stored_classifier(chain.made["train-cls"]).eval()
    images = noise(batch, 3, height, width)
    probabilities, maps = run(work / "classifier/classifier.onnx", images=images)
    with torch.inference_mode():
        activations = model.activation_maps(model.features(normalised(model, images)))
        full = torch.nn.functional.interpolate(activations, size=(height, width), mode="bilinear")
    np.testing.assert_allclose(probabilities, activations.mean((2, 3)).sigmoid().numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(maps, full.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_maps_beside_a_reference_of_another_size_are_those_of_the_pair(chain, work, batch):
    """The equations one by one (4, 8), where the graph goes by the shorter way."""
    model = stored_classifier(chain.made["train-cls"]).eval()
    images, references = noise(batch, 3, 48, 81), noise(batch, 3, 65, 40)
    found = run(work / "classifier/pair.onnx", images=images, references=references)
    with torch.inference_mode():
        features = model.features(normalised(model, images))
        features_r = model.features(normalised(model, references))
        _, attention_over_r = model.co_attention.attentions(features, features_r)
        coattentive = mix(features_r, attention_over_r, features.shape[2:])
        faded = contrastive(features, coattentive, model.co_attention.mask_conv)
        for one, of in zip(found, (coattentive, faded), strict=True):
            maps = torch.nn.functional.interpolate(model.activation_maps(of, co=True), size=(48, 81), mode="bilinear")
            np.testing.assert_allclose(one, maps.numpy(), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_deployed_pair_scales_its_affinities_as_the_classifier_does():
    torch.manual_seed(0)
    body = build_backbone("lite0", output_stride=16)
    model = CoAttentionClassifier(body, 3, affinity_init="identity", affinity_scale=30.0).eval()
    pair = DeployedPair(model, body.mean, body.std).eval()
    images, references = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 96)
    features, features_r = (model.features(pair.normalise(given)) for given in (images, references))
    over_r = model.co_attention.attentions(features, features_r)[1]
    torch.testing.assert_close(pair.affinity(images, references).softmax(2).mT, over_r)
    mixed = mix(model.activation_maps(features_r), over_r, features.shape[2:])
    expected = functional.interpolate(mixed, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pair(images, references)[0], expected)


def test_maps_of_a_pair_may_be_further_apart_where_affinities_are_large(chain):
    classifier = stored_classifier(chain.made["train-cls"]).eval()
    pair = DeployedPair(classifier, backbone_of(classifier).mean, backbone_of(classifier).std).eval()
    assert tolerance_of_attention(pair) == 1e-4
    with torch.no_grad():
        classifier.co_attention.affinity_weight *= 1e12  # a network after one epoch: its affinities are tiny
    assert tolerance_of_attention(pair) > 1e-3


@pytest.mark.slow
def test_the_files_say_what_they_are_and_nothing_of_this_machine(chain, work):
    for name, labels in (("network/segmentation", ["background", *CLASSES]), ("classifier/pair", [*CLASSES])):
        model = onnx.load(work / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(facts["labels"]) == labels
        assert json.loads(facts["classes"]) == [*CLASSES]
        assert json.loads(facts["mean"]) == pytest.approx([127 / 255] * 3)
        assert facts["initialisation"] == chain.made["train-seg"].meta["initialisation"]
        assert facts["initial_annotations"] == "tags"
        assert (facts["dataset_name"], facts["split"]) == ("shapes", "train")
        for tensor in model.graph.initializer:  # in which any bytes may be
            tensor.ClearField("raw_data")
        assert b".py" not in model.SerializeToString()
        assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim if dim.dim_param] == [
            *("batch", "height", "width")
        ]
    scores = json.loads(facts_of(work)["scores"])
    assert NUM_VAL in [score["num_images"] for score in scores]
    assert all(set(score["iou"]) == {"background", *CLASSES} for score in scores)


def facts_of(work: Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(work / "network/segmentation.onnx", providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


@pytest.mark.slow
def test_the_card_tells_labels_scores_and_terms(chain, work):
    card = (work / "network/README.md").read_text()
    assert "0. `background`\n1. `disc`" in card
    assert f"{NUM_VAL} images of `val`: mean IoU " in card
    assert "  - `star`: " in card
    assert f"Initialised from: `{chain.made['train-seg'].meta['initialisation']}`" in card
    assert "Annotations that the initial weights were trained with: tags\n" in card
    assert "mcis claims no rights in these weights" in card
    assert f"pseudo masks, made from tags; {SALIENCY_GIVEN}\n" in card
    assert f"without CRF; {SALIENCY_GIVEN})\n" in card
    card = (work / "classifier/README.md").read_text()
    assert "resize to 64 x 64" in card
    assert "This network" not in card
    assert "W_P" not in card
    assert "\n\n\n" not in card


def test_a_name_in_the_card_is_no_markup():
    assert code("a*b_c") == "`a*b_c`"
    assert code("a`b``c\n# d") == "``` a`b``c # d ```"


def scripts() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_scripts_of_the_page_run_without_torch(chain, work):
    entry = chain.images().split("val").entries[0]
    photograph = decode_image((chain.images().root / entry.image).read_bytes(), entry.id)
    Image.fromarray(photograph).save(work / "photo.png")
    masks, maps = scripts()
    for script in (masks, maps):
        ran = "import sys; sys.modules['torch'] = sys.modules['mcis_cli'] = None\n" + script.replace(".jpg", ".png")
        done = subprocess.run(
            [sys.executable, "-c", ran], cwd=work, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert all(re.search(rf"^{name}: [\d.]+%", done.stdout, re.MULTILINE) for name in CLASSES)
    config = EvalConfig(precision="fp32")
    from tiny_chain import options

    (expected,) = predict.run(config, chain.made["train-seg"], [work / "photo.png"], options())
    with Image.open(work / "mask.png") as mask:
        assert (np.asarray(mask) == expected.mask).mean() > 0.999  # equal but for ties
    model = stored_classifier(chain.made["train-cls"]).eval()
    with torch.inference_mode():
        activations = model.activation_maps(
            model.features(normalised(model, warp(photograph, 64).transpose(2, 0, 1)[None]))
        )
    assert {file.stem for file in work.glob("*.png")} == {"photo", "mask", *CLASSES}
    assert re.findall(r"^disc: ([\d.]+)%", done.stdout, re.MULTILINE) == [
        f"{100 * activations.mean((2, 3)).sigmoid()[0, 0].item():.1f}"
    ]


@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        ("pseudo", (), "expected an artifact of train-seg or train-cls"),
        ("train-seg", ("--crf",), "--crf cannot be used with --onnx"),
        ("train-seg", ("--images",), "--images cannot be used with --onnx"),
        ("train-seg", ("--split", "val"), "--split cannot be used with --onnx"),
        ("train-seg", ("--device", "cuda"), "--device cannot be used with --onnx"),
    ],
)
def test_what_cannot_be_exported_is_one_line(call, chain, tmp_path, stage, arguments, message):
    answer = call("export", chain.made[stage].id, "--onnx", *arguments, "-o", tmp_path / "out", cwd=chain.folder)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert message in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_one_line(call, chain, tmp_path, monkeypatch, package):
    from mcis_cli.cli.commands import onnx as command

    find = command.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == package else find(name))
    answer = call("export", chain.made["train-seg"].id, "--onnx", "-o", tmp_path / "out", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith(f", and {package} is not installed; pip install 'mcis[onnx]'\n")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_gives_other_values_is_not_written(call, chain, tmp_path, monkeypatch):
    from mcis_cli.interop.exports import onnx as export_onnx

    monkeypatch.setattr(export_onnx, "_serialised", lambda graph, facts: b"")
    monkeypatch.setattr(export_onnx, "difference", lambda graph, content: float("nan"))
    answer = call("export", chain.made["train-seg"].id, "--onnx", "-o", tmp_path / "out", cwd=chain.folder)
    assert (answer.code, answer.out) == (7, "")
    assert "segmentation.onnx gives other values than the network" in answer.err
    assert not list((tmp_path / "out").iterdir())


OTHER = """
import sys, torch
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.deeplab import DeepLabLargeFOV
from mcis_cli.interop.exports.onnx import DeployedClassifier, DeployedSegmenter
from mcis_cli.interop.exports.onnx import Graph, export

torch.manual_seed(0)
for given in sys.argv[1:]:
    name, role = given.split()
    name, _, stride = name.partition("@")
    name, _, count = name.partition("+")
    body = build_backbone(name, output_stride=int(stride or 8), role=role, new_layers=int(count) if count else None)
    scale = body.mean, body.std
    if role == "segmentation":
        network = DeployedSegmenter(DeepLabLargeFOV(body, 4, head_channels=64, dilation=12), *scale)
        outputs = {"probabilities": ""}
    else:
        network = DeployedClassifier(CoAttentionClassifier(body, 4), *scale)
        outputs = {"probabilities": "", "maps": ""}
    (made,) = export([Graph("other", network.eval(), ("images",), outputs)], {})
    print(made.difference)
"""


OF_ROLES = (
    "vgg16 segmentation",
    "vgg16 classification",
    "resnet50 segmentation",
    "timm:test_resnet+2 classification",
    "timm:test_vit@16 classification",
)


@pytest.mark.slow
def test_other_backbones_agree():
    """VGG-16 is the only one of these whose layers depend on the role, but for new ones."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER, *OF_ROLES],
        env=environment(PYTHONPATH=os.pathsep.join(map(str, sys.path))),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    differences = dict(zip(OF_ROLES, map(float, done.stdout.splitlines()), strict=True))
    assert {name: value for name, value in differences.items() if not value <= 1e-4} == {}
