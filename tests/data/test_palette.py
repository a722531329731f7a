import io

import numpy as np
import pytest
from PIL import Image

from mcis_cli.data.images import decode_mask
from mcis_cli.data.palette import voc_palette, write_mask_png


def test_colours_are_those_of_the_development_kit() -> None:
    # aeroplane, bicycle, person, tvmonitor, void, as printed in the kit's documentation
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, colour in known.items():
        assert tuple(voc_palette()[index]) == colour


def test_every_index_has_its_own_colour() -> None:
    assert len({tuple(colour) for colour in voc_palette().tolist()}) == 256


def test_the_palette_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        voc_palette()[0, 0] = 1


def test_a_mask_written_is_the_mask_read() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    content = write_mask_png(mask)
    image = Image.open(io.BytesIO(content))
    assert image.mode == "P"
    assert np.array_equal(np.array(image.convert("RGB")), voc_palette()[mask])
    assert np.array_equal(decode_mask(content, "mask"), mask)
