"""`export --onnx`: networks as ONNX graphs for any size of image, each compared with its network.

Inputs are photographs in RGB 0..255, outputs are values at the photographs' size: normalising, enlarging, and the
softmax or sigmoid are part of the graph. The arithmetic is that of the stages.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from timm.layers import Conv2dSame  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional

from mcis_cli import __version__
from mcis_cli.errors import CheckError
from mcis_cli.models.backbones import Triple
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.co_attention import (
    affinity,
    attended_activations,
    contrastive_attention,
    query,
    weigh_activations,
)
from mcis_cli.models.efficientnet_lite import SameConv
from mcis_cli.models.layers import average
from mcis_cli.stages import check, holds
from mcis_cli.stages.engine.networks import backbone_of, stored_classifier, stored_segmenter
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from onnx import ModelProto

NETWORKS: tuple[Kind, ...] = ("network", "classifier")
OPSET = 20
TOLERANCE = 1e-4
# Height and width by input: the graph is made with the first; no other size equals it.
_TRACED, _CHECKED = (97, 131), ((64, 96), (75, 33), (161, 118))


class Normalise(nn.Module):
    """Normalise RGB 0..255 for a backbone: (image / 255 - mean) / std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take mean and deviation of each channel, on the scale 0..1."""
        super().__init__()
        factor = torch.tensor([1 / (255 * deviation) for deviation in std])
        offset = torch.tensor([value / deviation for value, deviation in zip(mean, std, strict=True)])
        self.register_buffer("factor", factor[:, None, None])
        self.register_buffer("offset", offset[:, None, None])

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
        """The normalised images."""
        return images * self.factor - self.offset  # type: ignore[operator]


class DeployedSegmenter(nn.Module):
    """A segmentation network, from images to probabilities of each label at each pixel."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a network that gives logits of normalised images."""
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch label h w"]:
        """Probabilities, background first; they sum to one over the labels."""
        logits = self.model(self.normalise(images))
        return _enlarged(logits, images, align_corners=bool(self.model.align_corners)).softmax(1)


class DeployedClassifier(nn.Module):
    """A classifier of single images: their classes, and where these are (Eq. 1)."""

    def __init__(self, model: CoAttentionClassifier, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a classifier."""
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch 3 h w"]
    ) -> tuple[Float[Tensor, "batch class"], Float[Tensor, "batch class h w"]]:
        """Probability of each class in [0, 1], and its activation map: logits, of any range."""
        activations = self.model.activation_maps(self.model.features(self.normalise(images)))
        return average(activations).sigmoid(), _enlarged(activations, images)


class DeployedPair(nn.Module):
    """A classifier of images with one reference each: what they share, and what not (Eq. 2-9).

    Of three W_P it uses that of two images of the target, as maps do by default.
    """

    def __init__(self, model: CoAttentionClassifier, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a classifier."""
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch 3 h w"], references: Float[Tensor, "batch 3 h_r w_r"]
    ) -> tuple[Float[Tensor, "batch class h w"], Float[Tensor, "batch class h w"]]:
        """Co-attentive and contrastive maps of each class, on the grid of the images: logits, of any range."""
        model = self.model
        features, features_r = self._features(images, references)
        num_classes = model.class_head.out_channels
        said = torch.cat([model.activation_maps(features_r, co=True), model.co_attention.mask_conv(features_r)], 1)
        co = model.co_attention
        transformed = query(co.compared(features), co.affinity_weight)
        mixed = attended_activations(transformed, co.compared(features_r), said)
        common, mask_logit = mixed[:, :num_classes], mixed[:, num_classes:]
        unshared = contrastive_attention(mask_logit.sigmoid())
        bias = (model.co_class_head or model.class_head).bias
        contrastive = weigh_activations(model.activation_maps(features, co=True), unshared, bias)
        return _enlarged(common, images), _enlarged(contrastive, images)

    def affinity(
        self, images: Float[Tensor, "batch 3 h w"], references: Float[Tensor, "batch 3 h_r w_r"]
    ) -> Float[Tensor, "batch hw hw_r"]:
        """The logits of the attention (Eq. 2); unbounded."""
        co = self.model.co_attention
        compared, compared_r = map(co.compared, self._features(images, references))
        return affinity(compared.flatten(2), compared_r.flatten(2), co.affinity_weight)

    def _features(self, images: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.features(self.normalise(images)), self.model.features(self.normalise(references))


def _enlarged(
    maps: Float[Tensor, "batch channel h_out w_out"], images: Float[Tensor, "batch 3 h w"], align_corners: bool = False
) -> Float[Tensor, "batch channel h w"]:
    return functional.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=align_corners)


class PaddingConv(nn.Module):
    """Replaces a convolution that pads by the parity of its input, as those of lite0 do, while ONNX is written.

    ONNX's own convolution has an attribute for this padding. As arithmetic with unknown sizes, it takes the exporter a
    minute, and a dozen nodes for each convolution in the graph.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Copy weights and geometry."""
        super().__init__()
        self.conv = conv

    def forward(self, inputs: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel_out h_out w_out"]:
        """A node of ONNX; has no values of its own."""
        conv = self.conv
        height, width = (
            (size + stride - 1) // stride for size, stride in zip(inputs.shape[2:], conv.stride, strict=True)
        )
        return torch.onnx.ops.symbolic(
            "Conv",
            (inputs, conv.weight) if conv.bias is None else (inputs, conv.weight, conv.bias),
            {
                "auto_pad": "SAME_UPPER",
                "dilations": list(conv.dilation),
                "group": conv.groups,
                "kernel_shape": list(conv.kernel_size),
                "strides": list(conv.stride),
            },
            dtype=inputs.dtype,
            shape=(inputs.shape[0], conv.out_channels, height, width),
        )


def for_onnx(network: nn.Module) -> nn.Module:
    """A copy of a network for ONNX: `PaddingConv` where needed, and activations that do not overwrite their input.

    The exporter decomposes an activation that works in place, with symbolic sizes, which takes a third of its time.
    """
    copy = deepcopy(network)
    for name, module in list(copy.named_modules()):
        if isinstance(module, (SameConv, Conv2dSame)):
            copy.set_submodule(name, PaddingConv(module))
        if hasattr(module, "inplace"):
            module.inplace = False
    return copy


@dataclass(frozen=True)
class Graph:
    """A network to export.

    Attributes:
        name: of its file, without extension.
        network: on the CPU, in evaluation mode.
        inputs: names; each is (batch, 3, height, width), float32, RGB 0..255.
        outputs: by name, its description.
        tolerance: largest accepted difference between onnxruntime and PyTorch.
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
        graph: its graph.
        content: its bytes.
        difference: the largest difference from the network's outputs, see `difference`.
    """

    graph: Graph
    content: bytes
    difference: float


def graphs_of(artifact: Artifact) -> tuple[list[Graph], tuple[Triple, Triple]]:
    """The graphs of a network, and the mean and deviation with which they normalise images.

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
    """The tolerance for maps of a pair: `TOLERANCE`, or more if the affinities are large.

    Affinities are sums that are not scaled, unless the classifier does so. Two libraries whose features agree to the
    last digits of float32 have affinities that differ by that times their size, and so does the softmax. Products in
    float64 do not help, because the features differ.
    """
    (_, images), (_, references) = _noise(("images", "references"), _CHECKED[::-1], batch=1, seed=0).items()
    with torch.inference_mode():
        largest = float(pair.affinity(torch.from_numpy(images), torch.from_numpy(references)).abs().max())
    return max(TOLERANCE, 2 * float(np.finfo(np.float32).eps) * largest)


def export(graphs: Sequence[Graph], facts: Mapping[str, str]) -> Iterator[Exported]:
    """The ONNX files of graphs, each with facts in its metadata, and compared before it is returned.

    Args:
        graphs: from `graphs_of`.
        facts: what the metadata say, by name.

    Raises:
        CheckError: the outputs of onnxruntime and PyTorch differ.
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
    """Compare onnxruntime and PyTorch on images of several sizes, in batches of one and two.

    Returns:
        The largest difference of a value, relative to the largest value of its output if that is over 1.
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
    """Remove the exporter's notes of source locations, which are useless elsewhere."""
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
