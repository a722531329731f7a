"""The photographs for `mcis predict`: files, folders, patterns, a list on stdin; and where each mask goes."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from mcis_cli.errors import DataError, UsageError, counted, first_few

STDIN = Path("-")


@dataclass
class Photographs:
    """What was found.

    Attributes:
        masks: of each photograph, the path of its mask below the folder of the output.
        left_out: images of formats that are not read, in the folders that were searched.
    """

    masks: dict[Path, Path] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)

    @property
    def note_of_left_out(self) -> str | None:
        """A note about them; None if there are none."""
        if not self.left_out:
            return None
        some = first_few(map(str, self.left_out))
        return (
            f"left out: {counted(len(self.left_out), 'file')} ({some}) of a format that is not read; save them as "
            "JPEG or PNG"
        )


def find(images: Sequence[Path], output: Path) -> Photographs:
    """Find the photographs that arguments name, and a mask file for each.

    Folders are searched, and keep their structure; so do patterns below the folder that they begin with, and a list
    below the folder that all of it share. Files in `output`, if that is a folder within, are not photographs. A
    file of the list that does not exist is reported when its turn comes, and does not stop the rest.

    Raises:
        UsageError: a path does not exist, there is no photograph, two of them would have the same mask file, or masks
            would overwrite photographs, or lie among those of a folder.
        DataError: the name of a photograph is no text, so that its mask could not be named in a line.
    """
    from mcis_cli.data.formats import id_fault

    found = Photographs()
    taken: dict[Path, Path] = {}
    for path, place in _named(images, output, found.left_out):
        inside = place.with_suffix(".png")
        if fault := id_fault(inside.as_posix()):
            raise DataError(f"{path}: {fault}; rename the photograph")
        if taken.setdefault(inside, path) != path:
            both = f"{taken[inside]} and {path}"
            raise UsageError(f"{both} would both be written to {output / inside}; predict them separately")
        found.masks[path] = inside
    sources = {path.resolve() for path in found.masks}
    if over := next((inside for inside in taken if (output / inside).resolve() in sources), None):
        raise UsageError(
            f"{output / over} is a photograph and would be overwritten; choose another folder with --output"
        )
    if amid := next((given for given in images if given.is_dir() and given.resolve() == output.resolve()), None):
        raise UsageError(
            f"masks would lie among the photographs of {amid} and be treated as photographs; choose another folder "
            "with --output"
        )
    return found


def _named(images: Sequence[Path], output: Path, left_out: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Each photograph, and its path below the folder that the argument begins with."""
    for given in images:
        if given == STDIN:
            yield from _listed()
        elif given.is_dir():
            yield from _some(given, _photographs(given.rglob("*"), given, output, left_out), left_out)
        elif given.exists():
            yield given, Path(given.name)
        elif glob.has_magic(str(given)):
            yield from _some(given, _photographs(_matches(given), _fixed(given), output, left_out), left_out)
        else:
            raise UsageError(f"{given} does not exist: expected a photograph, a folder of them, or a pattern")


def _some(
    given: Path, photographs: Iterator[tuple[Path, Path]], left_out: Sequence[Path]
) -> Iterator[tuple[Path, Path]]:
    """The photographs.

    Raises:
        UsageError: there are none.
    """
    num_before = len(left_out)
    first = next(photographs, None)
    if first is None:
        from mcis_cli.data.formats import PHOTO_SUFFIXES
        from mcis_cli.data.layouts.listing import suffix_list

        others = f", found {left_out[num_before]}" if len(left_out) > num_before else ""
        raise UsageError(f"no photograph in {given}: expected files named {suffix_list(PHOTO_SUFFIXES)}{others}")
    yield first
    yield from photographs


def _photographs(
    paths: Iterable[Path], folder: Path, output: Path, left_out: list[Path]
) -> Iterator[tuple[Path, Path]]:
    """The files below a folder that are photographs and not masks of this command."""
    from mcis_cli.data.formats import PHOTO_SUFFIXES
    from mcis_cli.data.layouts.left_out import OTHER_IMAGE_SUFFIXES

    masks = output.resolve()
    is_inside = folder.resolve() in masks.parents
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if suffix in PHOTO_SUFFIXES and not (is_inside and masks in path.resolve().parents):
            yield path, path.relative_to(folder)
        elif suffix in OTHER_IMAGE_SUFFIXES:
            left_out.append(path)


def _fixed(pattern: Path) -> Path:
    """The folder that a pattern begins with, before its first sign."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _matches(pattern: Path) -> Iterator[Path]:
    """The files that a pattern matches; a folder stands for its files."""
    for path in map(Path, glob.iglob(str(pattern), recursive=True)):
        yield from path.rglob("*") if path.is_dir() else (path,)


def _listed() -> Iterator[tuple[Path, Path]]:
    """The paths of a list on stdin: one a line, or separated by NUL as `find -print0` writes them."""
    text = os.fsdecode(sys.stdin.buffer.read())
    paths = [Path(line) for line in text.split("\0" if "\0" in text else "\n") if line.strip()]
    if not paths:
        raise UsageError("the list on stdin names no photograph: expected a path on each line, as `find` prints them")
    shared = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    for path in paths:
        yield path, Path(os.path.abspath(path)).relative_to(shared)
