"""A list of images with their tags: lines `path tag …`, paths relative to the list."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mcis_cli.data.layouts.listing import Finding, Found, id_fault, image_id_of, image_path, locate_image, read_text

SUFFIX = ".txt"
ListTags = Literal["one", "first", "all"]


def read_tag_list(file: Path, list_tags: ListTags) -> Found:
    """Read a list of tags; an id is the path of an image without its extension. An image may have several lines.

    Args:
        file: The list; images are below its folder.
        list_tags: "one": more than one tag on a line is a fault, since further columns of such lists are often
            something else (the true class, a score); "first": they are not read; "all": each is a tag.

    Raises:
        DataError: The list cannot be read.
    """
    listed = _Listed(file, list_tags)
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if words := line.split():
            listed.add(number, words)
    return Found(
        images=listed.images,
        tags={image_id: frozenset(tags) for image_id, tags in listed.tags.items()},
        tag_source=str(file),
        findings=tuple(listed.findings()),
    )


@dataclass
class _Listed:
    """Lines as they come in; faults are kept by kind, each with the image it concerns."""

    file: Path
    list_tags: ListTags
    images: dict[str, str] = field(default_factory=dict)
    tags: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, number: int, words: Sequence[str]) -> None:
        """Add one line."""
        where = f"{self.file} line {number}"
        path, *tags = words
        path = image_path(path)
        image_id = image_id_of(path)
        if fault := id_fault(image_id):
            self._fault("bad-id", image_id, f"{where}: {fault}; correct the path")
        elif (found_at := locate_image(self.file.parent, path, image_id)) is None:
            missing = f"no image {path!r} in {self.file.parent}; add it or drop the line"
            self._fault("missing-image", image_id, f"{where}: {missing}")
        elif self.images.setdefault(image_id, found_at) != found_at:
            self._fault("same-id", image_id, f"{where}: two files for {image_id!r}, by extension only; rename one")
        elif not tags:
            self._fault("no-tag", image_id, f"{where}: no tag after {path!r}; expected `path tag`; add it")
        elif len(tags) > 1 and self.list_tags == "one":
            shown = " ".join(map(repr, tags[:3]))
            expected = "expected one; --list-tags first reads no more than that, --list-tags all takes each for a tag"
            self._fault("several-tags", image_id, f"{where}: {len(tags)} tags ({shown}); {expected}")
        else:
            self.tags.setdefault(image_id, set()).update(tags[:1] if self.list_tags == "first" else tags)

    def findings(self) -> Iterator[Finding]:
        """One finding for each kind of fault: the first in words, the ids of all."""
        for code, faults in sorted(self.faults.items()):
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            yield Finding("error", code, faults[0][1] + more, tuple(image_id for image_id, _ in faults))

    def _fault(self, code: str, image_id: str, message: str) -> None:
        self.faults.setdefault(code, []).append((image_id, message))
