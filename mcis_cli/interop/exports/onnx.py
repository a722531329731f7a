"""`export --onnx`: networks as ONNX graphs of any size of image, each compared with the network that it was made of."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mcis_cli import __version__
from mcis_cli.errors import CheckError
from mcis_cli.interop.exports.onnx_networks import DeployedClassifier, DeployedPair, DeployedSegmenter, for_onnx
from mcis_cli.models.backbones import Triple
from mcis_cli.stages import check, holds
from mcis_cli.stages.engine.networks import backbone_of, stored_classifier, stored_segmenter
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from onnx import ModelProto

NETWORKS: tuple[Kind, ...] = ("network", "classifier")
OPSET = 20
TOLERANCE = 1e-4
# Height and width by input: the first is what the graph is made with, no size of the others is like it.
_TRACED, _CHECKED = (97, 131), ((64, 96), (75, 33), (161, 118))


@dataclass(frozen=True)
class Graph:
    """A network to ship.

    Attributes:
        name: of its file, without extension.
        network: on the CPU, in evaluation mode.
        inputs: names; each is (batch, 3, height, width), float32, RGB 0..255.
        outputs: by name, what it is.
        tolerance: how far onnxruntime may be from PyTorch.
    """

    name: str
    network: nn.Module
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Exported:
    """An ONNX file.

    Attributes:
        graph: what it holds.
        content: its bytes.
        difference: the largest from the network's own outputs, see `difference`.
    """

    graph: Graph
    content: bytes
    difference: float


def graphs_of(artifact: Artifact) -> tuple[list[Graph], tuple[Triple, Triple]]:
    """The graphs that are made of a network, and the mean and deviation that images are normalised by in them.

    Raises:
        DamagedError: the artifact is not what its stage writes.
    """
    check(artifact)
    if holds(artifact, "network"):
        segmenter = stored_segmenter(artifact).eval()
        scale = backbone_of(segmenter).mean, backbone_of(segmenter).std
        outputs = {"probabilities": "(batch, label, height, width), in [0, 1]; background first"}
        return [Graph("segmentation", DeployedSegmenter(segmenter, *scale).eval(), ("images",), outputs)], scale
    classifier = stored_classifier(artifact).eval()
    scale = backbone_of(classifier).mean, backbone_of(classifier).std
    alone = {
        "probabilities": "(batch, class), in [0, 1]: whether the image has the class",
        "maps": "(batch, class, height, width): class activation maps, logits",
    }
    beside = {
        "common_maps": "(batch, class, height, width): co-attentive maps, logits; for classes that the two share",
        "unshared_maps": "(batch, class, height, width): contrastive maps, logits; for classes the reference lacks",
    }
    pair = DeployedPair(classifier, *scale).eval()
    return [
        Graph("classifier", DeployedClassifier(classifier, *scale).eval(), ("images",), alone),
        Graph("pair", pair, ("images", "references"), beside, tolerance=tolerance_of_attention(pair)),
    ], scale


def tolerance_of_attention(pair: DeployedPair) -> float:
    """How far maps of a pair may be apart: `TOLERANCE`, unless the affinities are large.

    Affinities are sums that are not scaled, unless the classifier does so. Two libraries whose features agree to the
    last digits of float32 differ in them by as much times their size, and the softmax hands that on. Products in
    float64 do not help: the features differ.
    """
    (_, images), (_, references) = _noise(("images", "references"), _CHECKED[::-1], batch=1, seed=0).items()
    with torch.inference_mode():
        largest = float(pair.affinity(torch.from_numpy(images), torch.from_numpy(references)).abs().max())
    return max(TOLERANCE, 2 * float(np.finfo(np.float32).eps) * largest)


def export(graphs: Sequence[Graph], facts: Mapping[str, str]) -> Iterator[Exported]:
    """The ONNX files of graphs, each with facts about it in its metadata, and compared before it is given.

    Args:
        graphs: from `graphs_of`.
        facts: what the metadata say, by name.

    Raises:
        CheckError: onnxruntime gives something else than PyTorch.
    """
    for graph in graphs:
        content = _serialised(graph, facts)
        found = difference(graph, content)
        if not found <= graph.tolerance:
            raise CheckError(
                f"{graph.name}.onnx gives other values than the network: found a difference of {found:.1e}, expected "
                f"{graph.tolerance:.0e} at most; nothing was written; try other versions of onnxscript and onnxruntime"
            )
        yield Exported(graph, content, found)


def difference(graph: Graph, content: bytes) -> float:
    """How far onnxruntime and PyTorch are apart on images of several sizes, in batches of one and two.

    Returns:
        The largest difference of a value; as a part of the largest value of its output, where that is over 1.
    """
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for number, size in enumerate(_CHECKED):
        sizes = (size, *_CHECKED[number - 1 :: -1])[: len(graph.inputs)]
        given = _noise(graph.inputs, sizes, batch=1 + number % 2, seed=number)
        with torch.inference_mode():
            expected = graph.network(*map(torch.from_numpy, given.values()))
        for one, other in zip(session.run(list(graph.outputs), given), _several(expected), strict=True):
            apart = float(np.abs(one - other).max()) / max(1.0, float(np.abs(other).max()))
            largest = max(largest, apart)
            if not np.isfinite(apart) or one.shape != other.shape:
                return float("inf")
    return largest


def _several(outputs: Any) -> list[NDArray[np.float32]]:
    return [tensor.numpy() for tensor in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _noise(
    inputs: Sequence[str], sizes: Sequence[tuple[int, int]], *, batch: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {
        name: random.uniform(0, 255, (batch, 3, *size)).astype(np.float32)
        for name, size in zip(inputs, sizes[: len(inputs)], strict=True)
    }


def _serialised(graph: Graph, facts: Mapping[str, str]) -> bytes:
    from onnx.helper import set_model_props

    model = _traced(graph)
    _forget_this_machine(model)
    model.producer_name, model.producer_version = "mcis", __version__
    model.graph.name = graph.name
    set_model_props(model, dict(facts))
    return bytes(model.SerializeToString())


def _traced(graph: Graph) -> "ModelProto":
    sizes = (_TRACED, _TRACED[::-1])
    example = [torch.from_numpy(image) for image in _noise(graph.inputs, sizes, batch=2, seed=0).values()]
    prefixes = ["", "reference_"]
    shapes = tuple({0: "batch", 2: f"{prefix}height", 3: f"{prefix}width"} for prefix in prefixes[: len(graph.inputs)])
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # about operators of networks that are none of ours
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                for_onnx(graph.network),
                tuple(example),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
    finally:
        logging.disable(before)
    assert program is not None, "given with dynamo=True"
    return program.model_proto


def _forget_this_machine(model: "ModelProto") -> None:
    """Take out what the exporter notes of where code lies, which is of no use elsewhere."""
    for entries in (model.graph.node, model.graph.value_info, model.graph.input, model.graph.output):
        for entry in entries:
            entry.ClearField("metadata_props")
            entry.ClearField("doc_string")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
        tensor.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("doc_string")
    assert not model.functions, "the exporter inlines them"
