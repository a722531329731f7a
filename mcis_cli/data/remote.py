"""Files behind URLs, by fsspec: names in a mirror, contents in a cache of blocks whose size is bounded.

A file of a mirror is a hole: as long as the remote file, with a time that stands for its version, and without content.
Blocks are cached by URL, size, version and number. They are published in one step, so several processes may share the
cache; those that were used longest ago are removed. Every image is checked against its digest, as local ones are.
"""

import hashlib
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from mcis_cli.data.places import CACHE_VARIABLE, mirrored, mirrors
from mcis_cli.errors import DataError, McisError, StorageError, UsageError

BLOCK = 4 * 2**20
PAUSES = (0.2, 1.0)  # seconds before a failed request is repeated
FRESH_SECONDS = 10.0  # for which a process does not list a place again
FLAT = ("s3://", "s3a://", "gs://", "gcs://", "az://", "abfs://")  # list all objects below a prefix at once
MAX_DEPTH = 16  # of folders that are listed one by one
REQUESTS = 16  # at a time, for facts of single files
UNFINISHED_SECONDS = 3600.0  # after which a block that is being written counts as left over
SLACK = 64  # a process may write this part of the limit before it looks at the size of the cache
_VERSIONS = ("etag", "md5hash", "content-md5", "contentmd5", "content_md5", "digest", "generation", "last-modified")
_TIMES = ("lastmodified", "last_modified", "mtime", "updated", "created")

log = logging.getLogger(__name__)
for client in ("fsspec", "gcsfs", "s3fs"):
    logging.getLogger(client).addHandler(logging.NullHandler())  # they raise what they log with a traceback
Found = TypeVar("Found")


class _State(threading.local):
    """The block that a thread read last."""

    block: tuple[str, bytes] = ("", b"")


class _Cache:
    """The limit of the cache in bytes, and what this process has written since it looked at its size."""

    limit, written = 20 * 2**30, 2**62


_state, _cache = _State(), _Cache()
_locks = tuple(threading.Lock() for _ in range(64))
_room = threading.Lock()
_listed: dict[str, float] = {}


def mirror(url: str, remote_mb: int, file_suffixes: frozenset[str]) -> Path:
    """List the files at a URL. If the server cannot be reached, those that were listed last are used.

    Args:
        url: Of a folder; of an archive; or, ending in one of the suffixes, of a list, whose folder is then listed.
        remote_mb: The limit of the cache.
        file_suffixes: The extensions of files, as against folders.

    Returns:
        The path in the mirror.

    Raises:
        UsageError: No package for such URLs is installed.
        DataError: Nothing is there, or access is denied.
        StorageError: The server cannot be reached, and nothing was listed before; or the mirror cannot be written.
    """
    _cache.limit = remote_mb * 2**20
    scheme, _, rest = url.partition("://")
    place = mirrors() / scheme / rest.strip("/")
    if ".." in place.parts:
        raise UsageError(f"{url} has '..': expected a plain URL")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:  # the store keeps the place of an image set
        raise UsageError(
            f"the URL of {scheme}://…@{rest.rpartition('@')[2]} has a password: expected one without; give it as the "
            "client of the storage reads it, in variables or in a file"
        )
    if time.monotonic() - _listed.get(url, -FRESH_SECONDS) < FRESH_SECONDS:
        return place
    suffix = place.suffix.lower()
    folder = place.parent if suffix in file_suffixes else place
    marker = mirrors().parent / "listed" / hashlib.sha256(url.encode()).hexdigest()[:32]
    try:
        files = {place: _info(url)} if suffix == ".tar" else dict(_files_below(str(mirrored(folder)), folder))
    except StorageError as error:
        if not marker.exists():
            raise
        log.warning("%s; the files that were listed before are used", error)
    else:
        if not files:
            raise DataError(f"no files at {url}; expected a folder with images or shards; correct the URL")
        with _written(place):
            _lay_out(files)
            if suffix != ".tar":
                _prune(folder, files)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
    _listed[url] = time.monotonic()
    return place


def open_mirrored(path: Path) -> tuple[io.BufferedReader, int]:
    """Open a file of a mirror. Returns it with its size.

    Raises:
        OSError: The mirror has no such file.
    """
    status = os.stat(path)
    return io.BufferedReader(_Blocks(path, status.st_size, int(status.st_mtime)), 2**16), status.st_size


class _Blocks(io.RawIOBase):
    """A remote file, read by blocks."""

    def __init__(self, path: Path, size: int, version: int) -> None:
        self._path, self._size, self._version, self._at = path, size, version, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        number, start = divmod(self._at, BLOCK)
        part = memoryview(_block(self._path, self._size, self._version, number))[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


# Blocks


def _block(path: Path, size: int, version: int, number: int) -> bytes:
    name = _name(path, size, version, number)
    if _state.block[0] == name:
        return _state.block[1]
    length = min(BLOCK, size - number * BLOCK)
    with _locks[int(name[:8], 16) % len(_locks)]:  # so that threads do not fetch a block twice
        content = _cached(name, length)
        if content is None:
            content = _fetched(path, size, version, number)
    _state.block = name, content
    return content


def _name(path: Path, size: int, version: int, number: int) -> str:
    return hashlib.sha256(f"{path.relative_to(mirrors())}\n{size}\n{version}\n{number}".encode()).hexdigest()[:32]


def _file(name: str) -> Path:
    return mirrors().parent / "blocks" / name[:2] / name


def _cached(name: str, length: int) -> bytes | None:
    try:
        content = _file(name).read_bytes()
    except OSError:
        return None
    with suppress(OSError):  # the cache may be read-only
        os.utime(_file(name))
    return content if len(content) == length else None


def _fetched(path: Path, size: int, version: int, number: int) -> bytes:
    """A block, from the server; a server without ranges sends the whole file, whose blocks are all kept."""
    url, start = str(mirrored(path)), number * BLOCK
    end = min(start + BLOCK, size)
    is_whole = (start, end) == (0, size)

    def request() -> bytes:
        files, place = _file_system(url)
        return bytes(files.cat_file(place) if is_whole else files.cat_file(place, start=start, end=end))

    content = _asked(url, request)
    if len(content) == size and not is_whole:
        for other in range(0, size, BLOCK):
            if other != start:
                _keep(_name(path, size, version, other // BLOCK), content[other : other + BLOCK])
        content = content[start:end]
    if len(content) != end - start:
        raise DataError(f"{url} has changed since it was listed; start the command again")
    _keep(_name(path, size, version, number), content)
    return content


def _keep(name: str, content: bytes) -> None:
    """Publish a block, and make room now and then."""
    file = _file(name)
    with _written(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _publish(file, lambda temporary: temporary.write(content))
    with _room:
        _cache.written += len(content)
        if _cache.written < _cache.limit // SLACK:
            return
        _cache.written = 0
        _make_room()


def _make_room() -> None:
    """Remove the blocks that were used longest ago; 16 processes, each with its slack, stay within the limit."""
    blocks, total = [], 0
    for entry in _entries(mirrors().parent / "blocks"):
        with suppress(OSError):  # another process has removed it
            status = entry.stat()
            if _is_new(entry.name) and time.time() - status.st_mtime < UNFINISHED_SECONDS:
                continue
            blocks.append((status.st_mtime_ns, status.st_size, entry.path))
            total += status.st_size
    if total <= _cache.limit * 3 // 4:
        return
    for _, size, path in sorted(blocks):
        with suppress(OSError):
            os.unlink(path)
        total -= size
        if total <= _cache.limit * 5 // 8:
            return


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
            else:
                yield entry


# Listing


def _files_below(url: str, folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Path in the mirror, and facts, of every file below a URL."""
    files, place = _file_system(url)

    def find() -> dict[str, dict[str, Any]]:
        files.invalidate_cache()
        return dict(files.find(place, detail=True)) if url.startswith(FLAT) else _walked(files, place)

    top = place.rstrip("/") + "/"
    found = _asked(url, find).items()
    named = {name: facts for name, facts in found if name.startswith(top) and not name.endswith("/")}
    unknown = [name for name, facts in named.items() if facts.get("size") is None]
    with ThreadPoolExecutor(REQUESTS) as pool:
        named |= zip(unknown, pool.map(lambda name: _asked(name, lambda: files.info(name)), unknown), strict=True)
    for name, facts in named.items():
        below = name.removeprefix(top)
        below = unquote(below) if _is_http(url) else below
        if not {"", ".", ".."}.isdisjoint(below.split("/")) or "\0" in below:
            raise DataError(f"{url} has a file {below!r:.200}: expected a name that does not leave its folder")
        yield folder / below, facts


def _walked(files: Any, top: str) -> dict[str, dict[str, Any]]:
    """As `find` of fsspec, which would leave out folders that cannot be listed."""
    found: dict[str, dict[str, Any]] = {}
    waiting, seen = [(top, 0)], {top}
    while waiting:
        folder, depth = waiting.pop()
        for facts in files.ls(folder, detail=True):
            name = str(facts["name"])
            if facts["type"] != "directory":
                found[name] = facts
            elif name not in seen and name.startswith(top) and depth < MAX_DEPTH:
                seen.add(name)
                waiting.append((name, depth + 1))
    return found


def _info(url: str) -> Mapping[str, Any]:
    files, place = _file_system(url)

    def info() -> Mapping[str, Any]:
        files.invalidate_cache()
        facts: Mapping[str, Any] = files.info(place)
        return facts

    return _asked(url, info)


def _lay_out(files: Mapping[Path, Mapping[str, Any]]) -> None:
    """Make the mirror of files: holes of their size, with a time that stands for their version."""
    folders: set[Path] = set()
    for path, facts in files.items():
        size, version = facts.get("size"), _version(facts)
        if size is None:
            raise DataError(f"{mirrored(path)}: the server does not give its size; expected one that does")
        with suppress(FileNotFoundError):
            status = os.stat(path)
            if (status.st_size, int(status.st_mtime)) == (size, version):
                continue
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
        _publish(path, partial(_lengthen, size), version)


def _lengthen(size: int, temporary: Any) -> None:
    temporary.truncate(size)


def _version(facts: Mapping[str, Any]) -> int:
    """A time before 2001 that stands for the version of a file."""
    known = {name.lower(): value for name, value in facts.items()}
    found = next(([name, str(known[name])] for name in (*_VERSIONS, *_TIMES) if known.get(name)), [])
    return int(hashlib.sha256("\n".join(found).encode()).hexdigest()[:12], 16) % 10**9


def _prune(folder: Path, files: Mapping[Path, object]) -> None:
    """Remove files of the mirror that are not there any more."""
    listed = {str(path) for path in files}
    for entry in _entries(folder):
        if entry.path not in listed and not _is_new(entry.name):
            with suppress(FileNotFoundError):
                os.unlink(entry.path)


def _is_new(name: str) -> bool:
    return name.startswith(".mcis-new-")


def _publish(file: Path, fill: Callable[[Any], object], version: int | None = None) -> None:
    """Write a file under a temporary name, and give it its own in one step."""
    with NamedTemporaryFile(dir=file.parent, prefix=".mcis-new-", delete=False) as temporary:
        try:
            fill(temporary)
            temporary.flush()
            if version is not None:
                os.utime(temporary.name, (version, version))
            os.replace(temporary.name, file)
        except BaseException:
            os.unlink(temporary.name)
            raise


# fsspec


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        UsageError: It is not installed, or there is none.
    """
    try:
        from fsspec.core import url_to_fs

        files, place = url_to_fs(quote(url, safe="/:@?&=+,;~!$'()*[]%") if _is_http(url) else url)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        is_ours = url.startswith(("http", "s3", "gs:", "gcs:"))
        package = "pip install 'mcis[remote]'" if is_ours else "install the package that it needs"
        raise UsageError(f"{url} cannot be opened ({reason:.200}); {package}, or correct the URL") from error
    except Exception as error:
        raise _fault(url, error) from error
    return files, str(place)


def _asked(url: str, request: Callable[[], Found]) -> Found:
    """The answer to a request, which is repeated if the server does not answer; clients of object stores do so by
    themselves."""
    for pause in (*(() if url.startswith(FLAT) else PAUSES), None):
        try:
            return request()
        except McisError:
            raise
        except Exception as error:  # each file system raises its own
            fault = _fault(url, error)
            if pause is None or isinstance(fault, DataError):
                raise fault from error
            time.sleep(pause)
    raise AssertionError


def _fault(url: str, error: Exception) -> McisError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return DataError(f"{url} does not exist ({reason}); correct the URL, or list the files again")
    if isinstance(error, PermissionError) or "credentials" in type(error).__name__.lower():
        return DataError(f"{url} cannot be read: access is denied ({reason}); give credentials, or correct the URL")
    return StorageError(f"{url} cannot be reached ({reason}); check the network, then run the same command again")


@contextmanager
def _written(file: Path) -> Iterator[None]:
    """Turn an OSError of writing into one line."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {file} in the cache of remote files: {error.strerror or error}; free some space, lower "
            f"data.remote_mb, or name another folder with {CACHE_VARIABLE}"
        ) from error
