"""The 512 bytes before everything else."""

import os
import re

import pytest
from store_makers import make_store, recipe, rewrite, seal_records

from mcis_cli.errors import DamagedError, MissingError, StorageError
from mcis_cli.store import files
from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format import user_block


def read_manifest(path):
    descriptor = files.open_regular(path)
    try:
        return user_block.read_manifest(descriptor, path, "artifact")
    finally:
        os.close(descriptor)


@pytest.fixture
def sealed(tmp_path):
    return seal_records(make_store(tmp_path)).path


def test_block_is_ascii_lines_and_zeros(sealed):
    block = sealed.read_bytes()[:512]
    lines = block.rstrip(b"\0").decode("ascii").splitlines()
    assert [line.split()[0] for line in lines] == ["mcis", "sha256", "bytes", "manifest"]
    assert lines[0] == "mcis artifact 1"
    assert lines[2] == f"bytes {sealed.stat().st_size}"


def test_manifest_is_read_without_the_rest_of_the_file(sealed):
    data = bytearray(sealed.read_bytes())
    whole = read_manifest(sealed)
    data[2000] ^= 1
    rewrite(sealed, data)
    assert read_manifest(sealed) == whole


def test_every_flipped_bit_of_the_block_is_noticed(sealed):
    whole = sealed.read_bytes()
    length = len(whole[:512].rstrip(b"\0"))
    sealed.chmod(0o644)
    with sealed.open("r+b") as file:
        for position in [*range(length + 4), 300, 511]:
            for bit in (0, 3, 7):
                file.seek(position)
                file.write(bytes([whole[position] ^ 1 << bit]))
                file.flush()
                with pytest.raises(DamagedError, match=re.escape(str(sealed))):
                    Artifact(sealed).tensors()
            file.seek(position)
            file.write(whole[position : position + 1])
            file.flush()
    assert Artifact(sealed).is_intact()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "it has .* bytes, expected"),
        (lambda data: data + b"\0", "it has .* bytes, expected"),
        (lambda data: data[:100], "stray bytes"),
        (lambda data: b"", "is no artifact of mcis"),
        (lambda data: data[512:], "is no artifact of mcis"),
        (lambda data: data.replace(b"mcis artifact 1", b"mcis artifact 2", 1), "has format 2, .*pip install --upgrade"),
        (lambda data: data.replace(b"mcis artifact 1\n", b"mcis segment 1\n\0", 1), "is no artifact of mcis"),
        (lambda data: data[:400] + b"x" + data[401:], "stray bytes"),
        (lambda data: data.replace(b"\nbytes ", b"\nbytes 0", 1)[:512] + data[512:], "stray bytes"),
    ],
)
def test_other_bytes_are_refused(sealed, change, message):
    rewrite(sealed, change(sealed.read_bytes()))
    with pytest.raises(DamagedError, match=message):
        Artifact(sealed)


def test_a_file_of_another_kind_is_refused(tmp_path):
    store = make_store(tmp_path)
    with store.begin(recipe()) as partial:
        partial.save_checkpoint(1, b"payload")
        checkpoint = next(partial.folder.glob("*.ckpt"))
        with pytest.raises(DamagedError, match="it is a checkpoint, expected an artifact"):
            Artifact(checkpoint)


def test_a_manifest_with_another_digest_is_refused(sealed):
    data = sealed.read_bytes()
    start = data.index(b'"class_names"')
    rewrite(sealed, data[:start] + b'"class_NAMES"' + data[start + 13 :])
    with pytest.raises(DamagedError, match="its manifest has another digest"):
        Artifact(sealed)


def test_a_block_without_manifest_is_refused(tmp_path):
    block = user_block.Block("artifact", "0" * 64, 512, None)
    (tmp_path / "x.h5").write_bytes(block.render())
    with pytest.raises(DamagedError, match="names no manifest"):
        Artifact(tmp_path / "x.h5")


def test_a_manifest_that_is_huge_is_refused_before_it_is_read(tmp_path):
    place = user_block.ManifestPlace(0, user_block.MAX_MANIFEST + 1, "0" * 64)
    (tmp_path / "x.h5").write_bytes(user_block.Block("artifact", "0" * 64, 512, place).render())
    with pytest.raises(DamagedError, match="its manifest is huge"):
        Artifact(tmp_path / "x.h5")


@pytest.mark.parametrize("data", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(tmp_path, data):
    place = user_block.place_of(512, data)
    block = user_block.Block("artifact", "0" * 64, 512 + len(data), place)
    (tmp_path / "x.h5").write_bytes(block.render() + data)
    with pytest.raises(DamagedError, match="its manifest is no JSON object"):
        Artifact(tmp_path / "x.h5")


def test_a_manifest_without_an_id_is_refused(tmp_path):
    data = b'{"stage":"cams"}'
    block = user_block.Block("artifact", "0" * 64, 512 + len(data), user_block.place_of(512, data))
    (tmp_path / "x.h5").write_bytes(block.render() + data)
    with pytest.raises(DamagedError, match="its manifest has no 'id'"):
        Artifact(tmp_path / "x.h5")


def test_what_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        Artifact(tmp_path / "x.h5")


def test_folders_and_pipes_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path, tmp_path / "pipe.h5"):
        with pytest.raises(DamagedError, match="a folder, a pipe or a device"):
            Artifact(path)


def test_a_name_that_is_too_long_is_a_failure_of_storage(tmp_path):
    with pytest.raises(StorageError, match=r"cannot open .*: File name too long"):
        Artifact(tmp_path / ("x" * 300))


def test_a_payload_that_ends_early_is_damaged(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(bytes(600))
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(DamagedError, match="it has 600 bytes, expected 700"):
        user_block.read_payload(descriptor, path, user_block.Block("checkpoint", "", 700, None))
    os.close(descriptor)
