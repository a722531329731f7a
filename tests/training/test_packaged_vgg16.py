"""VGG-16's convolutions out of a source archive: read without running any of it, and only if it is the known one."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch

from mcis_cli.errors import DataError, WeightsError
from mcis_cli.training.initial_weights import load_initial_weights
from mcis_cli.training.packaged_vgg16 import CONVOLUTIONS, MEMBER, load_vgg16


class Harmful:
    def __reduce__(self):
        return print, ("run",)


def archive(layers):
    content = pickle.dumps({"VGG16_0": layers})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(MEMBER)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    packed.seek(0)
    return packed, hashlib.sha256(packed.getvalue()).hexdigest()


def layers():
    draw = np.random.default_rng(0)
    return {
        f"Conv_{number}": {"kernel": draw.random((3, 3, 2, 4), np.float32), "bias": draw.random(4, np.float32)}
        for number in range(13)
    }


def test_kernels_are_turned_and_named_as_torchvision_has_them():
    given = layers()
    file, digest = archive(given)
    state = load_vgg16(file, digest, "x.tar.gz", expected=digest)
    assert list(state) == [f"features.{n}.{part}" for n in CONVOLUTIONS for part in ("weight", "bias")]
    kernel = given["Conv_4"]["kernel"]
    assert state["features.10.weight"].shape == (4, 2, 3, 3)
    assert state["features.10.weight"][3, 1, 0, 2] == kernel[0, 2, 1, 3]
    torch.testing.assert_close(state["features.28.bias"], torch.from_numpy(given["Conv_12"]["bias"]))


def test_another_archive_is_refused_before_it_is_opened(tmp_path):
    file, digest = archive(layers())
    with pytest.raises(
        DataError, match=rf"is not the archive that is known: found SHA-256 {digest[:8]}, expected a286e44c"
    ):
        load_vgg16(file, digest, "x.tar.gz")
    path = tmp_path / "x.tar.gz"
    path.write_bytes(file.getvalue())
    with pytest.raises(WeightsError, match="not the archive that is known"):
        load_initial_weights("vgg16", path)


def test_its_pickle_runs_nothing(capsys):
    file, digest = archive({"Conv_0": Harmful()})
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        load_vgg16(file, digest, "x.tar.gz", expected=digest)
    assert capsys.readouterr().out == ""
