"""What must not change unnoticed: the keys of recipes, the results of each stage, a sealed file of each stage.

`python tests/helpers/golden_results.py` writes tests/golden/ again; the messages in test_stability.py say when to do
that. What is computed here depends on no file of weights, on no encoder of images and on no random generator of torch.
Everything that is drawn or counted, and every mask, is exact; what comes out of networks is rounding of the CPU, and is
compared within 0.2 %: coarser than what machines differ by, and than the 16 bits of a map, and finer than a change of
method.
"""

import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import recipes
import torch
from numpy.typing import NDArray
from torch import nn

from mcis_cli.config import (
    PRESETS,
    AffinityConfig,
    AverageConfig,
    CamsConfig,
    DataConfig,
    EvalConfig,
    PseudoConfig,
    RunOptions,
    Settings,
    TrainClsConfig,
    TrainSegConfig,
    resolve,
)
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.records import as_records, meta
from mcis_cli.interop.imports.corrected_files import read_corrected
from mcis_cli.maps.metrics import count_pixels
from mcis_cli.models.backbones import Backbone, _Trunk
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.deeplab import DeepLabLargeFOV
from mcis_cli.models.pairwise_affinity import PairwiseAffinity, pair_offsets
from mcis_cli.stages.affinity import labels as affinity_labels
from mcis_cli.stages.affinity import train as train_affinity
from mcis_cli.stages.affinity import walk as affinity
from mcis_cli.stages.average import run as average
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.mapping import Mapper
from mcis_cli.stages.cams.similarity import Nearest
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import fusing
from mcis_cli.stages.review import run as review
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.store import ContentHash, Recipe, open_store
from mcis_cli.training.loop import Watch, fit

GOLDEN = Path(__file__).parents[1] / "golden"
SIDE = 64
HEIGHT, WIDTH = 48, 64  # 16 pixels to a cell of the maps below: what is interpolated is exact
LABELS = {"a": "cat", "b": "cat dog", "c": "dog", "d": "cat dog"}
CPU = torch.device("cpu")


def png(array: NDArray[np.uint8]) -> bytes:
    """A PNG with nothing compressed: the same bytes whatever the library."""
    height, width, *channels = array.shape
    lines = b"".join(b"\0" + row.tobytes() for row in array)
    assert len(lines) < 2**16, "one stored block"
    stored = b"\1" + len(lines).to_bytes(2, "little") + (len(lines) ^ 0xFFFF).to_bytes(2, "little") + lines
    stream = b"\x78\x01" + stored + zlib.adler32(lines).to_bytes(4, "big")
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2 if channels else 0, 0, 0, 0])
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")):
        parts.append(len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big"))
    return b"".join(parts)


def image_set(root: Path) -> Catalogue:
    """Four images, smooth enough for no pixel to hang on a rounding, with masks, saliency and a split."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for number, name in enumerate(LABELS):
        planes = [(x * (2 + number) + 40 * channel) % 200 + y // (1 + channel) for channel in range(3)]
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for place, label in enumerate(LABELS[name].split()):
            mask[8:40, 10 + 24 * place : 26 + 24 * place] = 1 + ["cat", "dog"].index(label)
        _write(root / "JPEGImages" / f"{name}.png", png(np.stack(planes, -1).astype(np.uint8)))
        _write(root / "SegmentationClass" / f"{name}.png", png(mask))
        _write(root / "saliency" / f"{name}.png", png(np.where(mask > 0, 230, 5).astype(np.uint8)))
    _write(root / "image_tags.txt", "".join(f"{name} {tags}\n" for name, tags in LABELS.items()).encode())
    _write(root / "ImageSets" / "Segmentation" / "train.txt", b"a\nb\nd\n")
    _write(root / "ImageSets" / "Segmentation" / "val.txt", b"c\n")
    return read_catalogue(DataConfig(root=str(root)))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def backbone() -> Backbone:
    """Two layers: through fifty of them, the last bit of a CPU's rounding becomes the first of the result."""
    layers = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 4, stride=4), nn.ReLU())
    trunk = _Trunk(
        layers=layers,
        stages=(),
        num_features=8,
        dropped=(),
        taps=((layers[1], 8), (layers[2], 8)),
    )
    return Backbone(trunk, nn.Sequential(), name="golden", output_stride=16)


def with_fixed_weights(model: nn.Module) -> Any:
    """Weights that are the same wherever, of about the size that training starts with."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            steps = (torch.arange(parameter.numel(), dtype=torch.int64) * 7919 + 104_729 * number) % 31 - 15
            fan_in = parameter.numel() // parameter.shape[0]
            parameter.copy_((steps.to(torch.float32) / (8 * fan_in**0.5)).reshape(parameter.shape))
    return model


# Keys


def variants() -> dict[str, Settings]:
    """The presets, and settings that leave others without effect."""
    over = {
        "single-round": {"cams": {"refs": 0}},
        "nearest references": {"cams": {"reference_choice": "nearest"}},
        "released maps": {"cams": {"localization": "released"}},
        "constant": {"pseudo": {"background": "constant"}},
        "otsu": {"pseudo": {"background": "otsu"}},
        "power": {"pseudo": {"background": "power"}},
        "walk": {"pseudo": {"background": "affinity"}},
        "deeplabv3": {"train-seg": {"network": "deeplabv3"}},
        "crf": {"pseudo": {"crf": True}, "eval": {"crf": True}},
        "epochs": {"train-seg": {"epochs": 5}},
    }
    precise = {"precision": "fp32"}
    settled = dict.fromkeys(("train-cls", "affinity", "review", "train-seg", "eval"), precise)
    settled["cams"] = {"image_size": 256, **precise}
    named = {name: resolve(settled, name) for name in PRESETS}
    for name, sections in over.items():
        given = {key: {**settled.get(key, {}), **sections.get(key, {})} for key in {*settled, *sections}}
        named[name] = resolve(given, "paper")
    return named


def keys() -> dict[str, dict[str, Any]]:
    """Key and recipe of every stage with every preset, over a data set that nobody has."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = image_set(Path(folder))
    weights, artifact = "11" * 32, "22" * 32
    for name, settings in variants().items():
        made = [
            recipes.dataset(images),
            recipes.corrected(artifact, "44" * 32, "by Ada"),
            recipes.train_cls(settings.train_cls, images.split("train"), weights),
            recipes.cams(settings.cams, artifact, images.split("train"), images.split("train")),
            recipes.average(settings.average, ["33" * 32, artifact]),
            recipes.affinity_labels(settings.affinity, artifact, images),
            recipes.affinity_net(settings.affinity, artifact, images, weights),
            recipes.affinity(settings.affinity, artifact, "33" * 32, images),
            recipes.pseudo(settings.pseudo, artifact, images),
            recipes.review(settings.review, artifact, images, None),
            recipes.review(settings.review, artifact, images, "33" * 32),
            recipes.train_seg(settings.train_seg, artifact, images, weights),
            *(
                recipes.evaluate(settings.eval, artifact, images, of_stage=of)
                for of in ("train-seg", "cams", "affinity", "pseudo")
            ),
        ]
        for recipe in made:
            found.setdefault(f"{recipe.stage} {recipe.key[:16]}", {"variants": [], "recipe": recipe.as_dict()})
            found[f"{recipe.stage} {recipe.key[:16]}"]["variants"].append(name)
    return found


# Results


def results() -> dict[str, Any]:
    """What each stage makes of the golden input."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = image_set(Path(folder))
        makers = {
            "dataset": _dataset,
            "corrected": _corrected,
            "train-cls": _train_cls,
            "cams": _cams,
            "average": _average,
            "affinity-labels": _affinity_labels,
            "affinity-net": _affinity_net,
            "affinity": _affinity,
            "pseudo": _pseudo,
            "review": _review,
            "train-seg": _train_seg,
            "eval": _eval,
        }
        return {stage: make(images) for stage, make in makers.items()}


def _dataset(images: Catalogue) -> dict[str, Any]:
    content = ContentHash("dataset", meta(images), recipes.SCHEMAS["dataset"])
    for image_id, fields in as_records(images):
        content.add(image_id, fields)
    parts = {part: images.digest(part) for part in ("images", "labels", "masks", "saliency", "splits")}
    return {"id": images.id, "parts": parts, "content": content.hexdigest()}


def _corrected(images: Catalogue) -> dict[str, Any]:
    """A mask that CVAT outlined, and how it overrides maps."""
    points = "8.0,8.0;40.0,8.0;40.0,40.0;8.0,40.0"
    polygon = f'<polygon label="dog" points="{points}"></polygon>'
    outlines = f'<annotations><image name="b.png" width="{WIDTH}" height="{HEIGHT}">{polygon}</image></annotations>'
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "annotations.xml"
        file.write_text(outlines)
        ((image_id, mask),) = read_corrected(file, images, "masks")
    material = fusing.Material(image_id, _maps(), (0, 1), (HEIGHT, WIDTH), corrected=mask)
    _, fields = fusing.make_mask(PseudoConfig(), material)
    return {"mask": [row.tolist() for row in fields["mask"][2::8, 2::8]], "classes": fields["classes"].tolist()}


def _options() -> RunOptions:
    return RunOptions(device="cpu", workers=0)


def _trained(training: Any, section: str) -> dict[str, Any]:
    """Losses of every step, and the weights of the last layer afterwards."""
    losses: list[dict[str, float]] = []
    watch = Watch(
        section=section,
        log_every=1,
        on_step=lambda step, metrics: losses.append({name: float(value) for name, value in metrics.items()}),
        checkpoint_steps=10**9,
    )
    fit(training, watch)
    *_, last = training.model.parameters()
    names = {"lr", "total", "basic", "co_attention", "contrastive", "background", "foreground", "negative"}
    kept = [{name: value for name, value in step.items() if name in names} for step in losses]
    return {"steps": kept, "weights": last.detach().double().flatten()[:8].tolist()}


def _train_cls(images: Catalogue) -> dict[str, Any]:
    from mcis_cli.data.pairs import sample_pairs

    labels = [(number % 3, 3) if number % 2 else (number % 3,) for number in range(12)]
    ids = [f"image-{number}" for number in range(12)]
    pairs = [sample_pairs(labels, ids, seed=7, epoch=epoch) for epoch in (0, 1)]
    config = TrainClsConfig(
        image_size=SIDE, epochs=2, batch_pairs=2, lr=1e-2, lr_milestones=(1,), mirror=True, precision="fp32"
    )
    model = with_fixed_weights(CoAttentionClassifier(backbone(), 2))
    training = train_cls._training(model, config, images, images.ids, CPU, _options())
    return {"pairs": pairs, **_trained(training, "train-cls")}


def _cams(images: Catalogue) -> dict[str, Any]:
    found: dict[str, Any] = {}
    model = with_fixed_weights(CoAttentionClassifier(backbone(), 2)).eval()
    cache = FeatureCache(model, images.read_image, image_size=SIDE, device=CPU, precision="fp32", budget=2**30)
    settings: dict[str, dict[str, Any]] = {
        "references": {"refs": 2},
        "single-round": {"refs": 0, "flip": True, "scales": (1.0, 1.5)},
        "contrastive": {"refs": 2, "with_contrastive": True},
        "nearest": {"refs": 2, "reference_choice": "nearest"},
        "without": {"refs": 2, "reference_choice": "nearest", "refs_without": 2},
        "released": {"localization": "released", "reference_replacement": True, "reference_self": True},
    }
    nearest = Nearest(cache, images, images, num_references=2, num_without=2, options=_options())
    for name, given in settings.items():
        mapper = Mapper(model, cache, CamsConfig(image_size=SIDE, precision="fp32", **given), images, nearest)
        _, fields = mapper.record(images["b"])
        maps = fields["maps"].astype(np.float64)
        found[name] = {
            "references": json.loads(fields["references"].tobytes()),
            "shape": list(maps.shape),
            "scale": float(np.abs(maps).max()),
            "corners": (maps[:, ::3, ::3] / np.abs(maps).max()).flatten().tolist(),
        }
    return found


def _maps() -> NDArray[np.float32]:
    """Two maps, with scores that no threshold is near to."""
    y, x = np.mgrid[:3, :4]
    return np.stack([np.where(x < 2, 8, y), np.where(x > 2, 7, y - 1)]).astype(np.float32)


def _average(images: Catalogue) -> dict[str, Any]:
    maps = [_maps(), _maps()[:, ::-1, ::2]]
    ways = {how: AverageConfig(combine=how) for how in ("mean", "minimum")}
    return {how: average.combined(config, maps).astype(np.float64).tolist() for how, config in ways.items()}


def _affinity_labels(images: Catalogue) -> dict[str, Any]:
    config = AffinityConfig.model_validate({"crf_settings": {"gaussian_weight": 0.0, "bilateral_weight": 0.0}})
    material = affinity_labels.Material("b", images.read_image("b"), _maps(), (0, 1))
    _, fields = affinity_labels.labels_of(config, material)
    return {"labels": [row.tolist() for row in fields["labels"][2::8, 2::8]]}


def _affinity_net(images: Catalogue) -> dict[str, Any]:
    config = AffinityConfig(crop=48, epochs=2, batch_size=2, lr=1e-2, precision="fp32")
    model = with_fixed_weights(PairwiseAffinity(backbone()))
    labelled = train_affinity.Labelled(images, images.read_mask)
    return _trained(train_affinity._training(model, config, labelled, CPU, _options()), "affinity")


def _affinity(images: Catalogue) -> dict[str, Any]:
    config = AffinityConfig(walk_doublings=3)
    offsets = pair_offsets(config.radius)
    planes = ((np.arange(len(offsets) * 12) * 7919) % 31 / 31).reshape(-1, 3, 4).astype(np.float32)
    material = affinity.Material("b", _maps(), (0, 1), planes, offsets)
    _, fields = affinity.walked(config, material)
    seen = affinity.on_grid(images.read_image("b"), 40, 8)
    return {"maps": fields["maps"].astype(np.float64).tolist(), "grid": [side // 8 for side in seen.shape[:2]]}


def _pseudo(images: Catalogue) -> dict[str, Any]:
    found: dict[str, Any] = {}
    backgrounds: dict[str, dict[str, Any]] = {
        "saliency": {},
        "constant": {"background": "constant", "background_score": 0.4},
        "otsu": {"background": "otsu"},
        "power": {"background": "power", "normalization": "max"},
        "affinity": {"background": "affinity", "background_threshold": 0.9},
    }
    for name, given in backgrounds.items():
        material = fusing.Material(
            "b", _maps(), (0, 1), (HEIGHT, WIDTH), images.read_saliency("b") if name == "saliency" else None, None
        )
        _, fields = fusing.make_mask(PseudoConfig(**given), material)
        found[name] = [row.tolist() for row in fields["mask"][2::8, 2::8]]
    return found


def _review(images: Catalogue) -> dict[str, Any]:
    """Of a mask that has one of the two classes, beside maps, saliency and the mask of a network."""
    fields = {"maps": _maps(), "classes": np.array([0, 1])}
    scores = review._scores(PseudoConfig(), fields, (0, 1), images.class_names, (HEIGHT, WIDTH))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:30, 20:50] = 2
    predicted = np.roll(mask, 8, axis=1)
    terms = review.terms(mask, (0, 1), scores, images.read_saliency("b"), predicted)
    return {name: values.tolist() for name, values in terms.items()}


def _train_seg(images: Catalogue) -> dict[str, Any]:
    config = TrainSegConfig(
        crop=65, epochs=2, batch_size=2, lr=1e-2, head_channels=8, head_dilation=2, precision="fp32"
    )
    model = with_fixed_weights(DeepLabLargeFOV(backbone(), 3, head_channels=8, dilation=2))
    supervision = train_seg.Supervision(images, "train", "", images.read_mask, "")
    training = train_seg._training(model, config, supervision, CPU, _options())
    crops = [batch.masks[:, ::16, ::16].tolist() for batch in training.batches(0, 0)]
    return {"crops": crops, **_trained(training, "train-seg")}


def _eval(images: Catalogue) -> dict[str, Any]:
    target = images.read_mask("b")
    fields = {"maps": _maps().astype(np.float16), "classes": np.array([0, 1], np.int32)}
    config = EvalConfig(thresholds=(0.1, 0.4, 0.7))
    return {
        "maps": evaluate.count_maps(config, fields, target).tolist(),
        "walked": evaluate.count_maps(config, fields, target, is_walked=True).tolist(),
        "masks": count_pixels(images.read_mask("d"), target).tolist(),
        "shifted": count_pixels(np.roll(target, 5, axis=1), target).tolist(),
    }


# Sealed files


def artifacts(root: Path) -> None:
    """Seal a small artifact of every stage, as it writes them, in a new store."""
    store = open_store(root / ".mcis")
    with tempfile.TemporaryDirectory() as folder:
        images = image_set(Path(folder))
    common = {
        "dataset": images.id,
        "split": "train",
        "class_names": list(images.class_names),
        "initialisation": "ImageNet",
    }
    network = {"backbone": "lite0", "output_stride": 16}
    records: dict[str, tuple[dict[str, Any], dict[str, NDArray[Any]]]] = {
        "cams": (
            common,
            {
                "maps": _maps().astype(np.float16),
                "classes": np.array([0, 1], np.int32),
                "references": np.frombuffer(b'{"cat": ["a"], "dog": ["c"]}', np.uint8),
            },
        ),
        "corrected": (
            {**{name: common[name] for name in ("dataset", "split", "class_names")}, "note": "by Ada"},
            {"mask": np.array([[0, 1, 255], [2, 0, 1]], np.uint8)},
        ),
        "average": (common, {"maps": _maps().astype(np.float16), "classes": np.array([0, 1], np.int32)}),
        "affinity-labels": (common, {"labels": np.array([[0, 1, 255], [2, 0, 1]], np.uint8)}),
        "affinity": (common, {"maps": _maps().astype(np.float16), "classes": np.array([0, 1], np.int32)}),
        "pseudo": (
            {**common, "background": "saliency"},
            {"mask": np.array([[0, 1, 255], [2, 0, 1]], np.uint8), "classes": np.array([0, 1], np.int32)},
        ),
        "review": (
            common,
            {
                "values": np.array([0, 2], np.int32),
                "by_value": np.array([[0.75, 0.5, -1], [0.25, 0, -1]], np.float32),
                "of_image": np.array([0.5, 1, -1], np.float32),
            },
        ),
        "eval": (
            {
                **common,
                "subject": "pseudo",
                "subject_id": "22" * 32,
                "supervision": "pseudo",
                "settings": {},
            },
            {"counts": np.array([[0, 0, 0, 5], [0, 1, 2, 3]], np.int64)},
        ),
    }
    tensors = {
        "affinity-net": {**common, "model": {**network, "radius": 5}},
        "train-cls": {
            **common,
            "model": {**network, "heads": "shared", "affinity_init": "identity", "num_foreground": 2},
            "image_size": 64,
            "loss": "full",
        },
        "train-seg": {
            **common,
            "model": {
                **network,
                "network": "deeplab-largefov",
                "head_channels": 2,
                "head_dilation": 2,
                "num_classes": 3,
            },
            "supervision": "pseudo",
        },
    }
    provenance = {"created": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "workers": 0, "preset": None}
    with store.begin(recipes.dataset(images)) as partial:
        schema = recipes.SCHEMAS["dataset"]
        assert schema is not None
        partial.write_segment(0, schema, as_records(images))
        partial.seal(schema, 1, meta(images), provenance)
    for stage, (about, fields) in records.items():
        schema = recipes.SCHEMAS[stage]
        assert schema is not None
        with store.begin(Recipe(stage, 1, {}, {})) as partial:
            partial.write_segment(0, schema, [("a/2007", fields), ("b", fields)])
            partial.seal(schema, 1, about, provenance)
    for stage, about in tensors.items():
        weights = {"head.bias": np.array([0.5, -1.5], np.float32), "head.weight": np.zeros((2, 2, 1, 1), np.float32)}
        with store.begin(Recipe(stage, 1, {}, {})) as partial:
            partial.seal_tensors({**weights, "num_batches": np.array(7)}, about, provenance)


def main() -> None:
    """Write tests/golden anew."""
    _dump("keys.json", keys())
    _dump("results.json", {"versions": dict(recipes.VERSIONS), "results": results()})
    with tempfile.TemporaryDirectory() as folder:
        artifacts(Path(folder))
        (GOLDEN / "artifacts").mkdir(exist_ok=True)
        for path in (Path(folder) / ".mcis" / "artifacts").glob("*.h5"):
            target = GOLDEN / "artifacts" / path.name
            if not target.exists():  # those of schemas that were released stay
                target.write_bytes(path.read_bytes())


def _dump(name: str, value: Any) -> None:
    (GOLDEN / name).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
