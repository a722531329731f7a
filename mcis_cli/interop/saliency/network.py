"""A saliency network, U²-Net (Qin et al., Pattern Recognition 2020) or similar, from an ONNX file.

onnxruntime runs it, on the CPU; it comes with the extra `saliency`. `run` finds the files.
"""

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray
from PIL import Image

from mcis_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FREE_SIDE = 320  # U²-Net's size, for networks that take any
MIN_SIDE, MAX_SIDE = 32, 4096
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)  # of ImageNet
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)

_WANTED = "(1, 3, height, width)"
_GIVEN = "(1, 1, height, width)"


class SaliencyNetwork:
    """A network for one photograph at a time. Each call uses one thread; several threads may call it.

    Attributes:
        size: height and width of its input.
    """

    def __init__(self, content: bytes, name: str) -> None:
        """Read the network.

        Args:
            content: The bytes of the ONNX file. Weights in other files are not read.
            name: How messages call it.

        Raises:
            UsageError: onnxruntime is not installed.
            DataError: onnxruntime cannot read it, or it does not compute a map from a photograph.
        """
        self._name = name
        self._session = _session(content, name)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not outputs:
            raise self._refused(
                f"{len(inputs)} inputs and {len(outputs)} outputs", f"one of {_WANTED} and any of {_GIVEN}"
            )
        if inputs[0].type != "tensor(float)" or not _is_photograph(inputs[0].shape):
            found = f"an input of {_shape_as_text(inputs[0].shape)}, {inputs[0].type}"
            raise self._refused(found, f"one of {_WANTED}, 32-bit floats")
        output = outputs[0]
        if output.type != "tensor(float)" or not _may_be_map(output.shape):
            raise self._refused(
                f"a first output of {_shape_as_text(output.shape)}, {output.type}", f"one of {_GIVEN}, 32-bit floats"
            )
        height, width = (side if isinstance(side, int) else FREE_SIDE for side in inputs[0].shape[2:])
        self.size: tuple[int, int] = height, width
        self._input, self._output = inputs[0].name, output.name

    def __call__(self, image: UInt8[ndarray, "height width 3"]) -> Float32[ndarray, "height_out width_out"]:
        """Saliency of each pixel: the first output, scaled so that minimum and maximum are 0 and 1.

        Args:
            image: RGB, 0..255.

        Returns:
            Values in [0, 1] at the network's resolution; zeros where all are equal.

        Raises:
            DataError: The network fails, or does not return a map of finite values.
        """
        try:
            [output] = self._session.run([self._output], {self._input: self._prepared(image)})
        except Exception as error:  # onnxruntime has a class for each of its error codes
            raise DataError(f"{self._name} cannot be run: {_reason(error)}; give another --model FILE.onnx") from error
        assert isinstance(output, ndarray), "a tensor by its type"
        if output.shape[:2] != (1, 1) or output.ndim != 4 or not output.size:
            raise self._refused(f"a first output of {_shape_as_text(output.shape)}", f"one of {_GIVEN}")
        saliency = output[0, 0]
        if not np.isfinite(saliency).all():
            raise self._refused("values that are not finite", "finite ones")
        low, high = saliency.min(), saliency.max()
        if low == high:
            return np.zeros_like(saliency)
        wide = saliency.astype(np.float64)  # float64, so that no difference of 32-bit floats is lost
        scaled: Float32[ndarray, "height_out width_out"] = ((wide - low) / (np.float64(high) - low)).astype(np.float32)
        return scaled

    def _prepared(self, image: UInt8[ndarray, "height width 3"]) -> Float32[ndarray, "1 3 height_in width_in"]:
        """Prepare a photograph as for U²-Net: warp it to its size, divide by the brightest value, normalise."""
        height, width = self.size
        small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
        values = (small / max(small.max(), np.float32(1)) - MEAN) / DEVIATION
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def _refused(self, found: str, expected: str) -> DataError:
        return DataError(
            f"{self._name} is not a saliency network: found {found}, expected {expected}; give another --model "
            "FILE.onnx"
        )


def _session(content: bytes, name: str) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "the package onnxruntime, which runs saliency networks, is not installed; pip install 'mcis[saliency]', "
            "or bring maps of another tool with `mcis import --saliency FOLDER`"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # photographs run in parallel instead
    with tempfile.TemporaryDirectory() as empty:  # so that weights in other files are not found
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise DataError(
                f"{name} cannot be read by onnxruntime: {_reason(error)}; give another --model FILE.onnx, complete in "
                "one file"
            ) from error


def _is_photograph(shape: Sequence[int | str | None]) -> bool:
    """Whether an input takes a photograph; sides that are not numbers are free."""
    if len(shape) != 4 or not _fits(shape[0], 1) or not _fits(shape[1], 3):
        return False
    return all(not isinstance(side, int) or MIN_SIDE <= side <= MAX_SIDE for side in shape[2:])


def _may_be_map(shape: Sequence[int | str | None]) -> bool:
    """Whether an output can be a map, by its shape; an unknown shape is empty."""
    if not shape:
        return True
    return len(shape) == 4 and _fits(shape[0], 1) and _fits(shape[1], 1)


def _fits(number: int | str | None, expected: int) -> bool:
    return not isinstance(number, int) or number == expected


def _shape_as_text(shape: Sequence[int | str | None]) -> str:
    return f"({', '.join('any' if not isinstance(side, int) else str(side) for side in shape)})"


def _reason(error: Exception) -> str:
    """The message of onnxruntime, without its place in the sources."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return f"{text[:200]}…" if len(text) > 200 else text
