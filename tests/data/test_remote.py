"""Files behind URLs: the same content as the same files here, bounded and shared caching, and errors of one line."""

import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from image_sets import encode, photo, write, write_voc
from layout_writers import pack

from mcis_cli.cli import app
from mcis_cli.config import DataConfig
from mcis_cli.data import remote
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import ordered_map
from mcis_cli.data.places import may_exist, mirrored, mirrors, resolved, url_of, with_urls
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError, McisError, StorageError, UsageError
from mcis_cli.store import StatCache

TAGS = {"a/1": "cat", "a/2 b": "dog", "c": "cat"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of small blocks, which lists a place each time."""
    monkeypatch.setenv("MCIS_REMOTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "BLOCK", 700)
    monkeypatch.setattr(remote, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr(remote, "PAUSES", (0.0,))
    monkeypatch.setattr(remote._cache, "written", 2**62)
    return tmp_path / "cache"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A set as shards, as a list, as a table, and in the layout of VOC."""
    root = tmp_path / "here"
    contents = {image_id: encode(photo(seed, 15, 20)) for seed, image_id in enumerate(TAGS)}
    members: dict[str, bytes | str] = {}
    for image_id, tag in TAGS.items():
        write(root / f"files/{image_id}.png", contents[image_id])
        members |= {f"{image_id}.png": contents[image_id], f"{image_id}.cls": tag}
    pack(root / "shards/x-0.tar", dict([*members.items()][:4]))
    pack(root / "shards/x-1.tar", dict([*members.items()][4:]))
    write(root / "files/list.txt", "".join(f"{image_id}.png {tag}\n" for image_id, tag in TAGS.items()))
    table = "".join(f"{image_id}.png,{tag}\n" for image_id, tag in TAGS.items())
    write(root / "files/tags.csv", f"image,tags\n{table}")
    write_voc(root / "voc")
    return root


PLACES = ("shards", "shards/x-0.tar", "files", "files/list.txt", "files/tags.csv", "voc")


def read(root: Path | str, cache: StatCache | None = None) -> Catalogue:
    return read_catalogue(DataConfig(root=str(root)), cache)


def assert_same(url: str, root: Path) -> None:
    there, same = read(url), read(root)
    assert there.id == same.id
    assert there.layout == same.layout
    for image_id in same.ids:
        assert there.read_file(image_id) == same.read_file(image_id)


def blocks(cache: Path) -> list[Path]:
    return [path for path in cache.glob("blocks/*/*") if path.is_file()]


def forget(cache: Path) -> None:
    """Empty the cache, and this thread's memory of the last block."""
    shutil.rmtree(cache / "blocks")
    remote._state.block = "", b""


@pytest.mark.parametrize("place", PLACES)
def test_a_set_at_a_url_is_the_set_of_the_same_files_here(place: str, here: Path) -> None:
    assert_same(f"file://{here}/{place}", here / place)


# A server of another machine's memory, as far as the code can see


@pytest.fixture
def memory(here: Path) -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    files.put(str(here), "/set", recursive=True)
    yield files
    files.store.clear()


def test_every_byte_is_read_once_and_then_kept(memory: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int | None]] = []
    original = type(memory).cat_file

    def counted(self: Any, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        asked.append((path, start))
        return original(self, path, start=start, end=end, **more)  # type: ignore[no-any-return]

    monkeypatch.setattr(type(memory), "cat_file", counted)
    images = read("memory://set/shards")
    assert len(asked) == len(set(asked)) == len(blocks(cache))
    assert sum(path.stat().st_size for path in blocks(cache)) <= memory.du("/set/shards")
    before = len(asked)
    assert [images.read_file(image_id) for image_id in images.ids]
    assert read("memory://set/shards") == images
    assert len(asked) == before


def test_what_is_new_changed_or_gone_is_noticed(memory: Any) -> None:
    assert read("memory://set/files/tags.csv").ids == ("a/1", "a/2 b", "c")
    memory.pipe("/set/files/tags.csv", b"image,tags\nc.png,cat\nd.png,dog\n")
    memory.pipe("/set/files/d.png", encode(photo(9)))
    memory.rm("/set/files/a/1.png")
    images = read("memory://set/files/tags.csv")
    assert images.ids == ("c", "d")
    assert not (images.root / "a/1.png").exists()
    memory.pipe("/set/files/d.png", encode(photo(10)))
    images = read("memory://set/files/tags.csv")
    assert images.read_image("d").tolist() == photo(10).tolist()
    memory.pipe("/set/files/d.png", encode(photo(11)))
    forget(mirrors().parent)
    with pytest.raises(DataError, match=r"has changed since it was listed"):
        images.read_file("d")


def test_an_object_that_vanishes_is_named_with_its_url(memory: Any, cache: Path) -> None:
    images = read("memory://set/shards")
    memory.rm("/set/shards/x-1.tar")
    forget(cache)
    with pytest.raises(DataError, match=r"^memory://set/shards/x-1\.tar does not exist .*; correct the URL"):
        images.read_file("c")


def test_facts_of_images_are_remembered_longer_than_their_bytes(
    memory: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcis_cli.store.stat_cache.RACY_NS", 0)
    (tmp_path / "tmp").mkdir()
    with StatCache(tmp_path / "index") as facts:
        images = read("memory://set/voc", facts)
    forget(cache)
    monkeypatch.setattr("mcis_cli.data.facts.read_regular", lambda *_: pytest.fail("read again"))
    with StatCache(tmp_path / "index") as facts:
        assert read("memory://set/voc", facts) == images


def test_the_cache_keeps_its_limit_and_what_was_used_last(
    memory: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read("memory://set/shards")
    size = sum(path.stat().st_size for path in blocks(cache))
    monkeypatch.setattr(remote._cache, "limit", limit := size // 2)
    for number, path in enumerate(sorted(blocks(cache))):
        os.utime(path, (number, number))
    for _ in range(3):
        for image_id in images.ids:
            assert images.read_file(image_id)
            remote._make_room()
            assert sum(path.stat().st_size for path in blocks(cache)) <= limit
    kept = {path.name for path in blocks(cache)}
    last = images.root / images[images.ids[-1]].image.partition("/")[0]
    assert images.ids[-1] == "c"
    assert remote._name(last, last.stat().st_size, int(last.stat().st_mtime), 1) in kept


def test_a_limit_below_the_size_of_the_set_holds_while_it_is_read(
    memory: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote._Cache, "limit", property(lambda _: 10_000, lambda *_: None))
    most = 0
    keep = remote._keep

    def watched(name: str, content: bytes) -> None:
        nonlocal most
        keep(name, content)
        total = 0
        for path in blocks(cache):
            with suppress(FileNotFoundError):  # another thread has removed it
                total += path.stat().st_size
        most = max(most, total)

    monkeypatch.setattr(remote, "_keep", watched)
    assert_size = memory.du("/set/shards")
    assert assert_size > 10_000 // 2
    read("memory://set/shards")
    read("memory://set/voc")
    assert 0 < most <= 10_000


@pytest.mark.parametrize(("url", "tries"), [("https://h/x", 2), ("s3://b/x", 1), ("gs://b/x", 1)])
def test_requests_are_repeated_where_clients_do_not(url: str, tries: int) -> None:
    asked = []

    def request() -> None:
        asked.append(url)
        raise ConnectionError("refused")

    with pytest.raises(StorageError, match="cannot be reached"):
        remote._asked(url, request)
    assert len(asked) == tries


def test_a_damaged_block_is_fetched_again(memory: Any, cache: Path) -> None:
    images = read("memory://set/shards")
    expected = images.read_file("c")
    for path in blocks(cache):
        path.write_bytes(path.read_bytes()[:-1])
    remote._state.block = "", b""
    assert images.read_file("c") == expected


@pytest.mark.parametrize("key", ["/set/evil/../../../x.png", "/set/evil/a/../x.png"])
def test_a_name_that_leaves_the_mirror_is_refused(key: str, memory: Any, cache: Path) -> None:
    memory.pipe("/set/evil/1.png", encode(photo(1)))
    memory.store[key] = memory.store["/set/evil/1.png"]
    with pytest.raises(DataError, match=r"expected a name that does not leave its folder"):
        read("memory://set/evil")
    assert not list(cache.rglob("x.png"))


def test_places_without_files_are_named(memory: Any) -> None:
    for url, message in (
        ("memory://set/none", "memory://set/none does not exist"),
        ("memory://set/none.tar", "memory://set/none.tar does not exist"),
        ("memory://set/files/none.txt", "no such folder: memory://set/files/none.txt"),
        ("memory://nowhere/none.txt", "memory://nowhere does not exist"),
    ):
        with pytest.raises(DataError) as error:
            read(url)
        assert message in with_urls(str(error.value))


def test_faults_of_a_set_are_told_by_url(memory: Any) -> None:
    memory.pipe("/set/files/list.txt", b"a/1.png cat\na/9.png cat\n")
    assert memory.exists("/set/files/a/1.png")
    with pytest.raises(DataError) as error:
        read("memory://set/files/list.txt")
    assert with_urls(str(error.value)).startswith("memory://set/files/list.txt line 2: no image 'a/9.png' in memory://")


def test_a_scheme_without_a_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match=r"nope://x/y cannot be opened \(Protocol not known: nope.*install the package that it needs"
    ):
        read("nope://x/y")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(UsageError, match=r"s3://x/y cannot be opened .*pip install 'mcis\[remote\]'"):
        read("s3://x/y")


def test_what_clients_log_is_not_printed() -> None:
    script = "import logging, mcis_cli.data.remote; logging.getLogger('gcsfs.retry').error('out of retries')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_cache_that_cannot_be_written_is_one_line(memory: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cache, "a file is in the way")
    with pytest.raises(
        StorageError, match=r"cannot write .* in the cache of remote files: Not a directory; .*MCIS_REMOTE"
    ):
        read("memory://set/shards")
    cache.unlink()
    images = read("memory://set/shards")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    forget(cache)
    monkeypatch.setattr(remote, "NamedTemporaryFile", full)
    with pytest.raises(StorageError, match=r"No space left on device; free some space, lower data\.remote_mb"):
        images.read_file("c")


def test_a_full_or_read_only_cache_still_serves_what_it_has(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read("memory://set/shards")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(remote, "NamedTemporaryFile", read_only)
    monkeypatch.setattr(remote.os, "utime", read_only)
    assert read("memory://set/shards") == images


# Servers


@pytest.fixture
def web(here: Path) -> Iterator[ThreadingHTTPServer]:
    """Python's own server, which knows no ranges."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp: pip install 'mcis[remote]'")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(here))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(web: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{web.server_address[1]}"


@pytest.mark.parametrize("place", PLACES)
def test_a_set_on_a_web_server_is_the_set_here(place: str, here: Path, web: ThreadingHTTPServer) -> None:
    assert_same(f"{address(web)}/{place}", here / place)


def test_without_network_what_is_cached_is_read(
    here: Path, web: ThreadingHTTPServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{address(web)}/shards"
    images = read(url)
    web.shutdown()
    web.server_close()
    assert app.run(["check", url], lambda: False) == 0
    warned = rf"mcis: warning: {url} cannot be reached \(.*\); .*; the files that were listed before are used"
    assert re.fullmatch(warned, capsys.readouterr().err.splitlines()[0])
    assert read(url) == images
    assert [images.read_file(image_id) for image_id in images.ids]
    with pytest.raises(StorageError, match=rf"^{url}2 cannot be reached \(.*\); check the network") as error:
        read(f"{url}2")
    assert error.value.exit_code == 6
    forget(cache)
    with pytest.raises(StorageError, match=rf"^{url}/x-1\.tar cannot be reached"):
        images.read_file("c")


def test_a_missing_page_is_named(web: ThreadingHTTPServer) -> None:
    with pytest.raises(DataError, match=r"/none\.tar does not exist"):
        read(f"{address(web)}/none.tar")


@pytest.fixture
def bucket(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of an object store on this machine, with the sets."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'mcis[remote]'")
    server = pytest.importorskip("moto.server", reason="needs a server of buckets: pip install 'moto[server]'")
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    started.start()
    host, port = started.get_host_and_port()
    for name, value in (
        ("ENDPOINT_URL", f"http://{host}:{port}"),
        ("ACCESS_KEY_ID", "x"),
        ("SECRET_ACCESS_KEY", "x"),
        ("DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    files = s3fs.S3FileSystem()
    files.mkdir("pictures")
    files.put(str(here), "pictures/", recursive=True)
    yield files
    s3fs.S3FileSystem.clear_instance_cache()
    started.stop()


OF_BOTO = pytest.mark.filterwarnings("ignore")  # its own, and those of servers that end


@OF_BOTO
@pytest.mark.parametrize("place", PLACES)
def test_a_set_in_a_bucket_is_the_set_here(place: str, here: Path, bucket: Any) -> None:
    assert_same(f"s3://pictures/here/{place}", here / place)


@OF_BOTO
def test_a_bucket_or_an_object_that_is_not_there_is_named(bucket: Any, cache: Path) -> None:
    with pytest.raises(DataError, match=r"^s3://none/x does not exist \(.*bucket does not exist\)"):
        read("s3://none/x")
    images = read("s3://pictures/here/shards")
    bucket.rm("pictures/here/shards/x-1.tar")
    forget(cache)
    with pytest.raises(DataError, match=r"^s3://pictures/here/shards/x-1\.tar does not exist"):
        images.read_file("c")


@pytest.fixture
def google(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server that answers as Google Cloud Storage does, with the sets."""
    gcsfs = pytest.importorskip("gcsfs", reason="needs gcsfs: pip install 'mcis[remote]'")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="pip install gcp-storage-emulator")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    host, port = server._api._httpd.server_address
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks a server of another kind first
    gcsfs.GCSFileSystem.clear_instance_cache()
    files = gcsfs.GCSFileSystem(project="x")
    files.mkdir("pictures")
    files.put(str(here), "pictures/", recursive=True)
    yield "gs://pictures/here"
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@OF_BOTO
@pytest.mark.parametrize("place", PLACES)
def test_a_set_in_a_bucket_of_google_is_the_set_here(place: str, here: Path, google: str) -> None:
    assert_same(f"{google}/{place}", here / place)


def read_all(url: str) -> str:
    images = read(url)
    assert [images.read_image(image_id) for image_id in images.ids]
    return images.id


@OF_BOTO
def test_processes_and_threads_share_the_cache(here: Path, bucket: Any, cache: Path) -> None:
    url = "s3://pictures/here/shards"
    assert set(ordered_map(read_all, [url] * 6, workers=3, processes=True)) == {read(here / "shards").id}
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read_all, [url] * 8)) == {read(here / "shards").id}
    assert not list(cache.rglob(".mcis-new-*"))


# Names of places


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://b/x", "s3://b/x"),
        ("s3:/b/x", "s3://b/x"),
        ("S3://Bucket/x", "s3://Bucket/x"),
        ("https:/h:1/x y", "https://h:1/x y"),
        ("file:///a/b", "file:///a/b"),
        ("file:/a/b", "file:///a/b"),
        ("photos", None),
        ("/a:/b", None),
        ("c:/x", None),
        ("s3:x", None),
        ("simplecache::s3://b/x", None),
    ],
)
def test_urls_are_known_also_after_pathlib(text: str, url: str | None) -> None:
    assert url_of(text) == url_of(Path(text)) == url


def test_a_folder_called_like_a_scheme_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3:/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert url_of("s3:/b") is None
    assert resolved("s3:/b") == str(tmp_path / "s3:/b")


def test_paths_of_mirrors_and_urls_are_each_others_inverse(cache: Path) -> None:
    for url, path in (("s3://b/x y.tar", "s3/b/x y.tar"), ("file:///a/b", "file/a/b")):
        assert mirrored(cache / "mirror" / path) == url
        assert with_urls(f"{cache}/mirror/{path}: faulty") == f"{url}: faulty"
    assert mirrored(cache / "mirror2/s3/b") is None
    assert resolved("x", Path("/a")) == "/a/x"
    assert may_exist("s3://b/x")
    assert not may_exist("/none/x")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match=r"the URL of https://…@host/x has a password: expected one without") as found:
        read_catalogue(DataConfig(root="https://ada:secret@host/x"))
    assert "secret" not in str(found.value)


def test_dots_in_a_url_are_refused() -> None:
    with pytest.raises(UsageError, match=r"has '\.\.': expected a plain URL"):
        read("memory://set/../x")


def test_a_server_that_gives_no_size_is_refused(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizeless: Mapping[str, Any] = {"name": "/set/shards/x-0.tar", "size": None, "type": "file"}
    monkeypatch.setattr(type(memory), "info", lambda *_, **__: sizeless)
    with pytest.raises(McisError, match=re.escape("x-0.tar: the server does not give its size")):
        read("memory://set/shards/x-0.tar")


def test_a_block_that_is_being_written_is_not_removed(
    memory: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are removed to make room; one that a stopped process left is, too."""
    folder = cache / "blocks/00"
    folder.mkdir(parents=True)
    new, old = folder / ".mcis-new-1", folder / ".mcis-new-2"
    for file in (new, old):
        file.write_bytes(bytes(100))
    os.utime(old, (1, 1))
    monkeypatch.setattr(remote._Cache, "limit", property(lambda _: 10, lambda *_: None))
    read("memory://set/shards")
    assert new.exists()
    assert not old.exists()
