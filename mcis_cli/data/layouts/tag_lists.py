"""A list of images with their tags: lines `path tag …`, paths relative to the list, or absolute."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mcis_cli.data.formats import PHOTO_SUFFIXES, id_fault
from mcis_cli.data.layouts.listing import Finding, Found, image_id_of, image_path, locate_image, read_text

SUFFIX = ".txt"
ListTags = Literal["one", "first", "all"]
_PHOTO = "|".join(re.escape(suffix) for suffix in sorted(PHOTO_SUFFIXES))
_PATH = re.compile(rf".+?(?:{_PHOTO})(?=[\s,;:]|$)|\S+", re.I)  # may have blanks, up to its extension


def names_list(root: Path) -> bool:
    """Whether a path is that of a list, by its extension."""
    return root.suffix.lower() == SUFFIX and not root.is_dir()


def read_tag_list(file: Path, list_tags: ListTags) -> Found:
    """Read a list of tags; an id is the path of an image without its extension. An image may have several lines.

    Args:
        file: The list; relative paths are relative to its folder.
        list_tags: "one": more than one tag on a line is a fault, since further columns of such lists are often
            something else (the true class, a score); "first": they are not read; "all": each is a tag.

    Raises:
        DataError: The list cannot be read.
    """
    listed = Listed(file)
    for where, image_id, text in listed.lines():
        tags = text.split()
        if not tags:
            listed.fault(
                "no-tag", image_id, f"{where}: no tag after {listed.images[image_id]!r}; expected `path tag`; add it"
            )
        elif len(tags) > 1 and list_tags == "one":
            shown = " ".join(map(repr, tags[:3]))
            expected = "expected one; --list-tags first reads no more than that, --list-tags all takes each for a tag"
            listed.fault("several-tags", image_id, f"{where}: {len(tags)} tags ({shown}); {expected}")
        else:
            listed.tags.setdefault(image_id, set()).update(tags[:1] if list_tags == "first" else tags)
    return listed.found()


def _parted(line: str) -> tuple[str, str]:
    """The path that a line begins with, and the text after it."""
    match = _PATH.match(line)
    path = line if match is None else match[0]
    return path, line[len(path) :]


@dataclass
class Listed:
    """Lines as they come in; faults are kept by kind, each with the image it concerns."""

    file: Path
    images: dict[str, str] = field(default_factory=dict)
    tags: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """The place, the id and the text after the path of each line whose image exists."""
        for number, line in enumerate(read_text(self.file).split("\n"), start=1):
            if line := line.strip():
                path, text = line.split("\t", 1) if "\t" in line else _parted(line)
                where = f"{self.file} line {number}"
                image_id = self._image(where, image_path(path))
                if image_id is not None:
                    yield where, image_id, text.strip().lstrip(",;: ")

    def _image(self, where: str, path: str) -> str | None:
        """The id of the image at a path; None for a fault."""
        image_id = image_id_of(path).removeprefix("/")
        if fault := id_fault(image_id):
            self.fault("bad-id", image_id, f"{where}: {fault}; correct the path")
        elif (found_at := locate_image(self.file.parent, path, image_id_of(path))) is None:
            missing = f"no image {path!r} in {self.file.parent}; add it or drop the line"
            self.fault("missing-image", image_id, f"{where}: {missing}")
        elif self.images.setdefault(image_id, found_at) != found_at:
            self.fault("same-id", image_id, f"{where}: two files for {image_id!r}, by extension only; rename one")
        else:
            return image_id
        return None

    def found(self) -> Found:
        """The result, with one finding for each kind of fault: the first in words, the ids of all."""
        findings = []
        for code, faults in sorted(self.faults.items()):
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            findings.append(Finding("error", code, faults[0][1] + more, tuple(image_id for image_id, _ in faults)))
        tags = {image_id: frozenset(of_image) for image_id, of_image in self.tags.items()}
        return Found(images=self.images, tags=tags, tag_source=str(self.file), findings=tuple(findings))

    def fault(self, code: str, image_id: str, message: str) -> None:
        """Keep a fault."""
        self.faults.setdefault(code, []).append((image_id, message))
