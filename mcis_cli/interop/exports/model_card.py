"""The card of an exported network: its training data and settings, its scores, how to use it.

It is written as facts in the metadata of its files, and as a page in Markdown. Names are escaped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mcis_cli import __version__
from mcis_cli.errors import DamagedError, plain
from mcis_cli.interop.exports.onnx import Exported
from mcis_cli.stages import check, holds
from mcis_cli.stages.evaluate.run import metrics
from mcis_cli.stages.plan.lineage import beyond_tags, settings_of
from mcis_cli.store import Artifact, Store
from mcis_cli.training.initial_annotations import annotations_of

INPUT = "float32 (batch, 3, height, width), RGB 0..255, sides of 32 pixels or more"
WHERE_FROM: Mapping[str, str] = {
    "vgg16": "torchvision's weights carry the terms of the data they were trained on, which is ImageNet",
    "resnet50": "torchvision's weights carry the terms of the data they were trained on, which is ImageNet",
    "resnet101": "torchvision's weights carry the terms of the data they were trained on, which is ImageNet",
    "resnet38": "the weights of ResNet-38 came from a file; its publisher states the terms",
    "lite0": "the weights of EfficientNet-Lite0 were trained on ImageNet; their package names no licence",
    "lite2": "the weights of EfficientNet-Lite2 were trained on ImageNet; their package names no licence",
}

OF_TIMM = "the page of the network on huggingface.co/timm states its terms"


@dataclass(frozen=True)
class Card:
    """The facts that a model card states about a network.

    Attributes:
        network: the artifact.
        dataset_name: of the folder of its images; None where the store does not know it.
        mean, std: normalisation of images, on the scale 0..1.
        scores: of `mcis eval`, newest first, of the network or of maps that were made with it.
        beyond: what the network rests on beside tags, see `beyond_tags`; empty if on nothing.
    """

    network: Artifact
    dataset_name: str | None
    mean: Sequence[float]
    std: Sequence[float]
    scores: Sequence[Mapping[str, Any]]
    beyond: str

    @property
    def is_segmenter(self) -> bool:
        """Whether it gives a label to each pixel."""
        return holds(self.network, "network")

    @property
    def labels(self) -> list[str]:
        """The names of the outputs' planes, in their order."""
        names = list(self.network.meta["class_names"])
        return ["background", *names] if self.is_segmenter else names

    @property
    def image_size(self) -> int | None:
        """The side of the square that a classifier's photographs are warped to."""
        return None if self.is_segmenter else int(self.network.meta["image_size"])

    @property
    def licence(self) -> str:
        """The terms to consider before passing the weights on."""
        meta = self.network.meta
        return (
            "mcis claims no rights in these weights. They carry the terms of the photographs and tags that they were "
            f"trained on, and those of the initial weights {meta['initialisation']}: "
            f"{WHERE_FROM.get(meta['model']['backbone'], OF_TIMM)}."
        )

    @property
    def initial_annotations(self) -> str:
        """The annotations that the initial weights were trained with."""
        return annotations_of(self.network.inputs.get("weights", "")) or "not known"

    @property
    def preprocessing(self) -> str:
        """How to prepare a photograph."""
        if self.image_size is None:
            return "pass the photograph at its original size; the graph normalises it"
        return (
            f"resize to {self.image_size} x {self.image_size}, bilinear and antialiased, proportions not kept, as in "
            "training; the graph normalises it"
        )

    @property
    def has_three_affinities(self) -> bool:
        """Whether it has a W_P for each kind of pair; its files contain that of two images of the target."""
        return bool(self.network.meta["model"].get("affinity_weights") == "per-domain-pair")

    def facts(self) -> dict[str, str]:
        """The metadata of its ONNX files; lists and tables as JSON."""
        meta = self.network.meta
        return {
            "artifact": self.network.id,
            "backbone": str(meta["model"]["backbone"]),
            "classes": json.dumps(meta["class_names"], ensure_ascii=False),
            "dataset": str(meta["dataset"]),
            "dataset_name": self.dataset_name or "",
            "initial_annotations": self.initial_annotations,
            "initialisation": str(meta["initialisation"]),
            "input": INPUT,
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "licence": self.licence,
            "mcis": __version__,
            "mean": json.dumps(list(self.mean)),
            "preprocessing": self.preprocessing,
            **({} if self.image_size is None else {"image_size": str(self.image_size)}),
            **({"pair_domains": '["target", "target"]'} if self.has_three_affinities else {}),
            "scores": json.dumps(list(self.scores), ensure_ascii=False),
            "split": str(meta["split"]),
            "stage": self.network.stage,
            "std": json.dumps(list(self.std)),
            "supervision": str(meta.get("supervision", "tags")),
        }


def card_of(
    network: Artifact,
    store: Store,
    *,
    scale: tuple[Sequence[float], Sequence[float]],
    on_damaged: Callable[[DamagedError], None],
) -> Card:
    """The card of a network of `train-seg` or `train-cls`.

    Args:
        network: its artifact.
        store: holds its scores, if any.
        scale: mean and deviation that images are normalised by.
        on_damaged: called with errors of artifacts that cannot be read.
    """
    place = store.location(network.meta["dataset"])
    return Card(
        network=network,
        dataset_name=None if place is None else PurePath(str(place.get("root", ""))).name,
        mean=scale[0],
        std=scale[1],
        scores=list(_scores(network, store, on_damaged)),
        beyond=beyond_tags(network, store),
    )


def _scores(network: Artifact, store: Store, on_damaged: Callable[[DamagedError], None]) -> list[dict[str, Any]]:
    """Scores of `mcis eval` of the network itself, or of localization maps that were made with it."""
    there = store.artifacts(on_damaged)
    subjects = {network.id} | {one.id for one in there if one.inputs.get("classifier") == network.id}
    found: list[dict[str, Any]] = []
    for score in reversed(there):
        if not holds(score, "scores") or score.inputs.get("artifact") not in subjects:
            continue
        try:
            check(score)
            made = metrics(score)
        except DamagedError as error:
            on_damaged(error)
            continue
        found.append({key: value for key, value in made.items() if key not in ("sweep", "initialisation")})
    return found


def markdown(card: Card, exported: Sequence[Exported]) -> bytes:
    """The page about a network and its files."""
    environment = Environment(
        loader=PackageLoader("mcis_cli.interop.exports"),
        autoescape=False,  # no HTML; names go through `code`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    template = environment.get_template("model_card.md.j2")
    made = settings_of(card.network)
    settings = {name: made[name] for name in ("epochs", "loss", "crop", "image_size", "seed") if name in made}
    text = template.render(
        card=card,
        meta=card.network.meta,
        exported=exported,
        settings=settings,
        input=INPUT,
        version=__version__,
    )
    return text.encode()


def code(text: object) -> str:
    """Text as Markdown code that its content cannot end; invisible characters become blanks."""
    shown = plain(str(text))
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in shown).split()), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
