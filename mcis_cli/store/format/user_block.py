"""The 512 bytes before the HDF5 bytes of a file: its kind, its digest, its length, and the place of its manifest. HDF5
skips this block. Checking it needs neither h5py nor NumPy, so a store is listed quickly, and no byte of a damaged file
reaches libhdf5. Checkpoints have the same block before their payload.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mcis_cli.errors import DamagedError
from mcis_cli.store import files

SIZE = 512
VERSION = 1
MAX_MANIFEST = 2**22  # bytes of JSON; parsed, they take twenty times as many
MAX_READ = 2**25  # bytes of a file that is read into memory as a whole
_STEP = 2**20
_HEX = r"[0-9a-f]{64}"
_LINES = re.compile(
    rf"mcis (artifact|segment|checkpoint) ([0-9]{{1,9}})\nsha256 ({_HEX})\nbytes ([0-9]{{1,18}})\n"
    rf"(?:manifest ([0-9]{{1,18}}) ([0-9]{{1,18}}) ({_HEX})\n)?"
)

Kind = Literal["artifact", "segment", "checkpoint"]


class ManifestPlace(NamedTuple):
    """The place of the manifest's bytes in the file, and their digest, to read it without the rest."""

    offset: int
    length: int
    sha256: str


class Block(NamedTuple):
    """The facts of the user block about its file. `sha256` is over all bytes after the block, `size` over the whole
    file."""

    kind: str
    sha256: str
    size: int
    manifest: ManifestPlace | None

    def render(self) -> bytes:
        """The 512 bytes."""
        lines = [f"mcis {self.kind} {VERSION}", f"sha256 {self.sha256}", f"bytes {self.size}"]
        if self.manifest:
            lines.append("manifest {} {} {}".format(*self.manifest))
        return ("\n".join(lines) + "\n").encode("ascii").ljust(SIZE, b"\0")


def read_block(descriptor: int, path: Path, kind: Kind) -> Block:
    """Read and check the block itself: each of its bytes, and the length of the file."""
    with files.reported("read", path):
        data = os.pread(descriptor, SIZE, 0)
        size = os.fstat(descriptor).st_size
    match = _LINES.match(data.rstrip(b"\0").decode("latin-1"))
    if match is None:
        # Outside of a store, the user most often named something else, such as a photograph: nothing to repair.
        remedy = files.REMEDY if path.parent.name == "artifacts" else "mcis ls shows what there is"
        raise DamagedError(
            f'{path} is no {kind} of mcis, or its first bytes are damaged, expected "mcis {kind} {VERSION}"; {remedy}'
        )
    found, version, sha256, length, *place = match.groups()
    if version != str(VERSION):
        raise DamagedError(
            f"{path} has format {version}, this mcis reads format {VERSION}; it is damaged, or of a newer mcis: "
            "pip install --upgrade mcis"
        )
    manifest = ManifestPlace(int(place[0]), int(place[1]), place[2]) if place[0] else None
    block = Block(found, sha256, int(length), manifest)
    if block.render() != data:
        raise files.damaged(path, "its user block has stray bytes", "lines and zeros")
    if found != kind:
        raise files.damaged(path, f"it is a {found}", f"{'an' if kind == 'artifact' else 'a'} {kind}")
    if size != block.size:
        raise files.damaged(path, f"it has {size:,} bytes", f"{block.size:,}")
    return block


def verify(descriptor: int, path: Path, kind: Kind) -> Block:
    """Check the digest of the whole file, streamed in constant memory. Returns its block."""
    block = read_block(descriptor, path, kind)
    _expect_digest(digest(descriptor, path, block.size), block, path)
    return block


def _expect_digest(found: str, block: Block, path: Path) -> None:
    if found != block.sha256:
        raise files.damaged(path, f"its bytes have the digest {found[:12]}", block.sha256[:12])


def read_verified(descriptor: int, path: Path, kind: Kind) -> bytearray | None:
    """All bytes of a file, read once, if its digest is theirs; None for a file of more than `MAX_READ` bytes."""
    block = read_block(descriptor, path, kind)
    if block.size > MAX_READ:
        return None
    data = _read(descriptor, path, 0, block.size)
    _expect_digest(hashlib.sha256(memoryview(data)[SIZE:]).hexdigest(), block, path)
    return data


def digest(descriptor: int, path: Path, size: int) -> str:
    """SHA-256 of the bytes from the block's end to `size`."""
    sha256 = hashlib.sha256()
    buffer = bytearray(_STEP)
    offset = SIZE
    with files.reported("read", path):
        while offset < size:
            count = os.preadv(descriptor, [memoryview(buffer)[: size - offset]], offset)
            if count == 0:
                break
            sha256.update(memoryview(buffer)[:count])
            offset += count
    return sha256.hexdigest()


def read_payload(descriptor: int, path: Path, block: Block) -> bytes:
    """All bytes after the block, up to the manifest if there is one."""
    return bytes(_read(descriptor, path, SIZE, block.manifest.offset if block.manifest else block.size))


def _read(descriptor: int, path: Path, start: int, end: int) -> bytearray:
    data, count = bytearray(end - start), 0
    with files.reported("read", path):
        while count < len(data):  # the kernel reads at most 2 GiB at a time
            step = os.preadv(descriptor, [memoryview(data)[count:]], start + count)
            if step == 0:
                raise files.damaged(path, f"it has {start + count:,} bytes", f"{end:,} or more")
            count += step
    return data


def read_manifest(descriptor: int, path: Path, kind: Kind) -> dict[str, Any]:
    """Read the manifest by its place and own digest, without reading the rest of the file."""
    place = read_block(descriptor, path, kind).manifest
    if place is None or place.length > MAX_MANIFEST:
        raise files.damaged(
            path, "its user block names no manifest" if place is None else "its manifest is huge", "one"
        )
    with files.reported("read", path):
        data = os.pread(descriptor, place.length, place.offset)
    if len(data) != place.length:
        raise files.damaged(path, f"its manifest ends after {len(data)} bytes", f"{place.length}")
    if hashlib.sha256(data).hexdigest() != place.sha256:
        raise files.damaged(path, "its manifest has another digest", place.sha256[:12])
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: Path) -> dict[str, Any]:
    """JSON of the manifest, which must be an object."""
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise files.damaged(path, "its manifest is no JSON object", "one")
    return manifest


def place_of(offset: int, manifest: bytes) -> ManifestPlace:
    """The place of a manifest that lies at `offset`."""
    return ManifestPlace(offset, len(manifest), hashlib.sha256(manifest).hexdigest())


def seal(descriptor: int, path: Path, kind: Kind, manifest: ManifestPlace | None) -> None:
    """Compute the digest of the bytes after the block, write the block, and sync."""
    with files.reported("write", path):
        size = max(os.fstat(descriptor).st_size, SIZE)
        block = Block(kind, digest(descriptor, path, size), size, manifest)
        files.write(descriptor, block.render(), 0)
    files.sync(descriptor, path)
