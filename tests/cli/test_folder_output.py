"""Nothing is written outside the folder that the user names, whatever the names and whatever links lie in it."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
from image_sets import encode, photo, write, write_voc
from sizes import size

from mcis_cli.cli.session import photographs
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.config import DataConfig
from mcis_cli.data.formats import id_fault
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import McisError, StorageError
from mcis_cli.store import Recipe, open_store

pytestmark = pytest.mark.promise

PIECES = (*"ab.é☃ -~%\\:*?[]", "..", "/", "//", "\0", "\n", "\x1b[31m", "\u202e", "c" * 90, "con", ".png", "\udcff")


def some_name(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(1, 6)))


def listed(folder: Path) -> set[str]:
    """Everything below a folder, links not followed."""
    return {os.path.join(at, name) for at, below, names in os.walk(folder) for name in (*below, *names)}


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path: Path(path).read_bytes() if os.path.isfile(path) else None for path in listed(folder)}


@pytest.mark.parametrize("seed", range(size(200, 2_000)))
def test_no_id_leads_out_of_the_folder(tmp_path: Path, seed: int) -> None:
    """What is accepted as an id is written below the folder; what would not be is no id."""
    rng = random.Random(seed)
    image_id = "/".join(some_name(rng) for _ in range(rng.randint(1, 3)))
    root = tmp_path / "a/b/masks"
    if id_fault(image_id):
        return
    before = listed(tmp_path)
    try:
        written = OutputFolder(root, "--output").write(Path(image_id), b"mask")
    except StorageError:  # a name that is too long for the file system
        assert any(len(part.encode()) > 255 for part in image_id.split("/"))
        return
    new = {path for path in listed(tmp_path) - before if os.path.isfile(path)}
    assert new == {str(written)}
    assert written.resolve().is_relative_to(root.resolve())
    assert written.read_bytes() == b"mask"


def hostile_layout(rng: random.Random, root: Path, outside: Path) -> None:
    """Links of every kind at some of the places that are going to be written."""
    targets = [outside, outside / "victim.png", outside / "new", Path("../outside"), root / "loop", Path("/nowhere/at")]
    for place in rng.sample(["a", "a.png", "a/b", "a/b.png", "a/b/c.png", "loop"], k=rng.randint(1, 4)):
        link = root / place
        if link.parent.is_dir() and not os.path.lexists(link):
            kind = rng.randrange(4)
            if kind == 0 and "." not in place:
                link.mkdir()
            elif kind == 1 and link.parent.resolve().is_relative_to(root) and (outside / "victim.png").exists():
                os.link(outside / "victim.png", link)
            else:
                link.symlink_to(rng.choice(targets))


@pytest.mark.parametrize("seed", range(size(200, 2_000)))
def test_no_link_in_the_folder_leads_out_of_it(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root, outside = tmp_path / "masks", tmp_path / "outside"
    root.mkdir()
    write(outside / "victim.png", b"precious")
    hostile_layout(rng, root, outside)
    before = contents(outside)
    folder = OutputFolder(root, "--output")
    for inside in ("a.png", "a/b.png", "a/b/c.png"):
        try:
            written = folder.write(Path(inside), b"mask")
        except StorageError:
            continue
        assert written.read_bytes() == b"mask"
        assert not written.is_symlink()
    assert contents(outside) == before
    assert not [name for name in listed(root) if Path(name).name.startswith(".")]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "masks").symlink_to("disk")
    OutputFolder(tmp_path / "masks", "--output").write(Path("a/b.png"), b"mask")
    assert (tmp_path / "disk/a/b.png").read_bytes() == b"mask"


def test_photographs_with_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for name in ("a\nb.png", "a\x1b[31m.png", os.fsdecode(b"a\xff.png")):
        write(tmp_path / "photos" / name, encode(photo(0)))
        with pytest.raises(McisError, match="characters that are no text; rename the photograph"):
            photographs.find([tmp_path / "photos" / name], tmp_path / "masks")


@pytest.mark.parametrize("dangling", [True, False])
def test_init_replaces_a_link_and_does_not_follow_it(call, tmp_path: Path, dangling: bool) -> None:
    work = tmp_path / "work"
    write_voc(work / "set")
    if not dangling:
        write(tmp_path / "mine", "precious")
    (work / "mcis.toml").symlink_to(tmp_path / "mine")
    answer = call("init", "set", cwd=work)
    assert answer.code == 2
    assert " already exists: give --force to overwrite it" in answer.err
    assert call("init", "set", "--force", cwd=work).code == 0
    assert not (work / "mcis.toml").is_symlink()
    assert (tmp_path / "mine").exists() != dangling
    if not dangling:
        assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.slow
def test_predict_follows_no_link_in_the_folder_of_masks(call, chain, tmp_path: Path) -> None:
    write(tmp_path / "photos/a.png", encode(photo(1, 40, 50)))
    write(tmp_path / "photos/below/b.png", encode(photo(2, 40, 50)))
    write(tmp_path / "victim.png", b"precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/a.png").symlink_to("../victim.png")
    (tmp_path / "masks/below").symlink_to("../elsewhere")
    answer = call("predict", chain.made["train-seg"].path, "photos", "-q", cwd=tmp_path)
    assert answer.code == 6
    assert answer.lines == ["masks/a.png"]
    assert answer.err.count("\n") == 1
    assert "masks/below/b.png cannot be written: a folder on its way is a file, or a link" in answer.err
    assert (tmp_path / "victim.png").read_bytes() == b"precious"
    assert not list((tmp_path / "elsewhere").iterdir())


LINKED = ("artifacts", "keys", "keys/dataset", "partial", "refs", "locations", "locks", "tmp")


@pytest.mark.parametrize("place", LINKED)
def test_a_store_with_a_link_in_it_writes_nothing_where_that_leads(call, tmp_path: Path, place: str) -> None:
    """A store that came from elsewhere may hold links; `.mcis` itself may be one, to a larger disk, say."""
    work, outside = tmp_path / "work", tmp_path / "outside"
    write_voc(work / "set")
    write(outside / "precious", "mine")
    open_store(work / ".mcis")
    linked = work / ".mcis" / place
    if linked.is_dir():
        linked.rmdir()
    linked.symlink_to(outside)
    before = contents(outside)
    answer = call(
        "train-cls", "set", "--backbone", "lite0", "--set", "train-cls.image_size=32", "--epochs", "1", cwd=work
    )
    assert answer.code == 6
    assert answer.err.count("\n") == 1
    assert f"{place} is a link" in answer.err
    assert contents(outside) == before


def test_the_store_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / ".mcis").symlink_to("disk")
    store = open_store(tmp_path / ".mcis")
    recipe = Recipe(stage="dataset", version=1, config={}, inputs={})
    with store.begin(recipe) as partial:
        partial.seal_tensors({"a": np.zeros(3)}, {}, {})
    assert store.find(recipe) is not None
    assert list((tmp_path / "disk/artifacts").glob("dataset-*.h5"))


@pytest.mark.parametrize("seed", range(size(20, 200)))
def test_no_name_in_a_table_reads_a_file_outside_the_set(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    write(tmp_path / "secret.png", encode(photo(0)))
    write(tmp_path / "set/a.png", encode(photo(1)))
    climbing = "/".join(rng.choices(["..", ".", "", "set", "a"], k=rng.randint(0, 3)))
    name = rng.choice(
        [f"{climbing}/../secret.png", "../secret.png", f"{tmp_path}/secret.png", "./../secret", "..\\secret.png"]
    )
    write(tmp_path / "set/tags.csv", f'image,tags\na.png,cat\n"{name}",cat\n')
    with pytest.raises(McisError, match=r"leaves its folder|no image"):
        read_catalogue(DataConfig(root=str(tmp_path / "set")))
