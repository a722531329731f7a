import re

import numpy as np
import pytest
from image_sets import photo
from onnx import helper
from saliency_models import BORDERS, DOUBLE, elsewhere, model, not_finite, redness

from mcis_cli.errors import DataError
from mcis_cli.interop.saliency.network import SaliencyNetwork


def test_a_map_goes_from_the_least_to_the_greatest_value_of_the_first_output():
    """The network gives red over the brightest value, less a mean, over a deviation: linear, so both drop out."""
    image = photo(3, 32, 32)
    red = image[:, :, 0].astype(np.float64)
    expected = (red - red.min()) / (red.max() - red.min())
    np.testing.assert_allclose(SaliencyNetwork(redness(), "tiny")(image), expected, atol=1e-5)
    np.testing.assert_allclose(SaliencyNetwork(redness(-2), "tiny")(image), 1 - expected, atol=1e-5)


def test_photographs_are_prepared_as_u2net_was_trained():
    """Where a network adds the channels, mean and deviation of each show in what they weigh: 1 over the deviation."""
    nodes = [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=1)]
    network = SaliencyNetwork(model(nodes, constants=BORDERS[2:]), "sum")
    image = np.zeros((32, 32, 3), np.uint8)
    image[0, 0], image[0, 1], image[0, 2], image[0, 3] = (100, 0, 0), (0, 100, 0), (0, 0, 100), (100, 100, 100)
    weights = np.array([1 / 0.229, 1 / 0.224, 1 / 0.225])
    np.testing.assert_allclose(network(image)[0, :4], [*(weights / weights.sum()), 1], atol=1e-5)


@pytest.mark.parametrize("value", [0, 255])
def test_where_all_is_alike_nothing_stands_out(value):
    saliency = SaliencyNetwork(redness(), "tiny")(np.full((20, 30, 3), value, np.uint8))
    assert saliency.shape == (32, 32)
    assert not saliency.any()


def test_great_and_small_values_are_scaled_without_overflow():
    for weight in (1e38, 1e-42):
        saliency = SaliencyNetwork(redness(weight), "tiny")(photo(0, 32, 32))
        assert (saliency.min(), saliency.max()) == (0, 1)


def test_sides_are_those_of_the_network_or_those_of_u2net():
    assert SaliencyNetwork(redness(sides=(32, 64)), "tiny").size == (32, 64)
    free = SaliencyNetwork(redness(sides=("height", "width")), "tiny")
    assert free.size == (320, 320)
    assert free(photo(0, 20, 30)).shape == (320, 320)


CONV = [helper.make_node("Conv", ["x", "red"], ["y"])]
SAME = [helper.make_node("Identity", ["x"], ["y"])]
FLAT = [helper.make_node("Flatten", ["x"], ["y"])]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "cannot be read by onnxruntime"),
        (b"no network", "cannot be read by onnxruntime: .*protobuf parsing failed"),
        (redness()[:-20], "cannot be read by onnxruntime"),
        (model(SAME, more_inputs=1), r"found 2 inputs and 1 outputs, expected one of \(1, 3, height, width\)"),
        (model(SAME, takes=(1, 1, 32, 32)), r"found an input of \(1, 1, 32, 32\), tensor\(float\), expected one"),
        (model(SAME, takes=(4, 3, 32, 32), gives=None), r"found an input of \(4, 3, 32, 32\)"),
        (model(SAME, takes=(3, 32, 32), gives=None), r"found an input of \(3, 32, 32\)"),
        (model(SAME, takes=(1, 3, 8, 32), gives=None), r"found an input of \(1, 3, 8, 32\)"),
        (model(SAME, takes=(1, 3, 32, 99999), gives=None), r"found an input of \(1, 3, 32, 99999\)"),
        (model(SAME, of=DOUBLE, gives=None), r"found an input of .*tensor\(double\)"),
        (model(SAME, gives=(1, 3, 32, 32)), r"found a first output of \(1, 3, 32, 32\)"),
        (
            model(FLAT, gives=(1, 3072)),
            r"found a first output of \(1, 3072\), tensor\(float\), expected one of \(1, 1, h",
        ),
        (elsewhere("weights.bin"), "cannot be read by onnxruntime: .*complete in one file"),
        (elsewhere("/etc/hostname"), "cannot be read by onnxruntime"),
        (elsewhere("../weights.bin"), "cannot be read by onnxruntime"),
    ],
)
def test_other_files_are_refused_when_they_are_read(tmp_path, monkeypatch, content, found):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    with pytest.raises(DataError, match=f"^x.onnx {found}|^x.onnx is not a saliency network: {found}") as raised:
        SaliencyNetwork(content, "x.onnx")
    assert "\n" not in str(raised.value)
    assert "give another --model FILE.onnx" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (not_finite(), "is not a saliency network: found values that are not finite, expected finite ones"),
        (
            model([helper.make_node("Slice", ["x", "from", "from", "axis"], ["y"])], constants=BORDERS, gives=None),
            r"is not a saliency network: found a first output of \(1, 0, 32, 32\)",
        ),
    ],
)
def test_what_a_network_computes_is_looked_at(content, found):
    with pytest.raises(DataError, match=f"^x.onnx .*{found}") as raised:
        SaliencyNetwork(content, "x.onnx")(photo(0, 32, 32))
    assert "\n" not in str(raised.value)


def test_a_network_that_fails_is_told_by_name():
    """Its matrices fit each other for no size but one, which is not the one that it is given."""
    weight = helper.make_tensor("w", 1, (7, 5), np.ones(35, np.float32))
    slice_red = helper.make_node("Slice", ["x", "from", "to", "axis"], ["red"])
    nodes = [slice_red, helper.make_node("MatMul", ["red", "w"], ["y"])]
    network = SaliencyNetwork(model(nodes, takes=(1, 3, "h", "w"), gives=None, constants=[weight, *BORDERS]), "x.onnx")
    with pytest.raises(DataError, match=re.escape("x.onnx cannot be run: ")) as raised:
        network(photo(0, 32, 32))
    assert "\n" not in str(raised.value)
