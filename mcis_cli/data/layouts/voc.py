"""The layout of PASCAL VOC: JPEGImages, ImageSets, Annotations or a tag file, SegmentationClass."""

import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.facts import Facts, file_facts
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.layouts.layout import Layout
from mcis_cli.data.layouts.listing import Finding, Found, by_composition, image_id_of, index_files, read_lines
from mcis_cli.data.layouts.multi_hot import SUFFIX, read_multi_hot
from mcis_cli.data.layouts.names import listed_names
from mcis_cli.data.layouts.tag_cells import always_together
from mcis_cli.errors import DataError, first_few
from mcis_cli.store import StatCache

IMAGES = "JPEGImages"
TAG_FILES = ("image_tags.txt", "tags.txt")
MAIN = "ImageSets/Main"
SPLIT_FOLDERS = ("ImageSets/Segmentation", MAIN, "ImageSets")
MAX_XML_BYTES = 4 << 20

Tags = dict[str, frozenset[str]]


def read_voc(config: DataConfig, root: Path, cache: StatCache | None = None) -> Found:
    """Read a folder in the layout of PASCAL VOC.

    Every list of ImageSets/Segmentation (or else ImageSets/Main) is a split, of the ids in its first column. Tags come
    from `config.tags`, or image_tags.txt or tags.txt, or else from Annotations, or else from the lists CLASS_SPLIT.txt
    of ImageSets/Main; in both, difficult objects count.

    Raises:
        DataError: A list, the tag file or a folder cannot be read.
    """
    images, image_findings = index_files(root / IMAGES, root, PHOTO_SUFFIXES, recursive=False)
    tags, source, tag_findings = _tags(config, root, images, cache)
    class_order = tuple(sorted({name for name, _, _ in class_lists(root)})) if source == str(root / MAIN) else None
    return Found(
        images=images,
        tags=tags,
        tag_source=source,
        splits=_splits(root, images),
        class_order=class_order,
        default_masks="SegmentationClass",
        findings=(*image_findings, *tag_findings),
    )


def read_tag_file(
    file: Path, images: Mapping[str, str], classes: Collection[str] = ()
) -> tuple[Tags, tuple[Finding, ...]]:
    """Read lines `ID class class …`; an id may carry the image's extension. An id without a class is a negative.

    Classes are separated by blanks, or, where the file has a comma or a semicolon after an id, by those alone; unless
    the parts between blanks are all among the listed `classes`, whose names may have such signs.

    Raises:
        DataError: The file cannot be read.
    """
    tags: Tags = {}
    lines: list[list[str]] = []
    parts = [line.split(maxsplit=1) for line in read_lines(file)]
    texts = [text for _, *rest in parts for text in rest]
    by_blanks = bool(classes) and all(name in classes for text in texts for name in text.split())
    by_comma = not by_blanks and any("," in text or ";" in text for text in texts)
    known = _Known(images)
    for written, *rest in parts:
        text = rest[0] if rest else ""
        names = [name.strip() for name in re.split("[,;]", text) if name.strip()] if by_comma else text.split()
        image_id = known(written.rstrip(",;"))
        tags[image_id] = tags.get(image_id, frozenset()) | frozenset(names)
        lines.append(names)
    return tags, () if by_comma else tuple(_two_words(file, lines))


def _two_words(file: Path, lines: list[list[str]]) -> Iterator[Finding]:
    if pairs := always_together(lines):
        shown = first_few(f"{one} {other}" for one, other in pairs)
        message = (
            f"{file}: tags that always follow each other: {shown}; a blank separates tags here: if these are names of "
            "two words, write potted_plant, or separate tags by commas"
        )
        yield Finding("warning", "two-words", message, tuple(name for pair in pairs for name in pair))


class _Known:
    """From an id as it was written to that of an image: perhaps with its extension, or letters composed otherwise."""

    def __init__(self, images: Mapping[str, str]) -> None:
        self.images = images
        self.composed = by_composition(images)

    def __call__(self, written: str) -> str:
        if written in self.images:
            return written
        stem = image_id_of(written)
        return stem if stem in self.images else self.composed.get(unicodedata.normalize("NFC", stem), stem)


def class_lists(root: Path) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Class, split and lines of the lists of one class, `CLASS_SPLIT.txt`, each line an id and -1, 0 or 1.

    Raises:
        DataError: A list cannot be read.
    """
    for file in sorted((root / MAIN).glob("*_*.txt")):
        lines = [line.split() for line in read_lines(file)]
        if _is_of_one_class(lines):
            name, _, split = file.stem.rpartition("_")
            yield name, split, lines


def _is_of_one_class(lines: list[list[str]]) -> bool:
    return bool(lines) and all(line[1:] in (["-1"], ["0"], ["1"]) for line in lines)


def _tags_of_lists(root: Path) -> Tags:
    """Tags from the lists of classes: 1, or 0, where all its objects are difficult."""
    tags: dict[str, set[str]] = {}
    for name, _, lines in class_lists(root):
        for image_id, value in lines:
            found = tags.setdefault(image_id, set())
            if value != "-1":
                found.add(name)
    return {image_id: frozenset(names) for image_id, names in tags.items()}


def read_annotation(content: bytes, name: str) -> Facts:
    """Read the object names of one annotation; a DOCTYPE is refused, since it can define entities.

    Raises:
        DataError: The file is no well-formed XML, is too large, or has a DOCTYPE.
    """
    if len(content) > MAX_XML_BYTES:
        raise DataError(f"{name}: {len(content):,} bytes of XML; expected at most {MAX_XML_BYTES:,}; replace it")
    try:
        tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
    except _DoctypeError:
        raise DataError(f"{name}: XML with a DOCTYPE; expected none, as in PASCAL VOC; remove that line") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{name}: not well-formed XML ({error}); correct or remove it") from error
    names = {(node.text or "").strip() for node in tree.findall("object/name")}
    return {"tags": sorted(names - {""})}


class _DoctypeError(Exception):
    """A DOCTYPE was met."""


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _DoctypeError


def _tags(
    config: DataConfig, root: Path, images: Mapping[str, str], cache: StatCache | None
) -> tuple[Tags, str | None, tuple[Finding, ...]]:
    if config.tags is not None and config.tags.lower().endswith(SUFFIX):
        lines, known = read_multi_hot(root / config.tags, config, root), _Known(images)
        return {known(line): names for line, names in lines.items()}, str(root / config.tags), ()
    for name in (config.tags,) if config.tags is not None else TAG_FILES:
        if config.tags is not None or (root / name).is_file():
            tags, findings = read_tag_file(root / name, images, listed_names(config, root) or ())
            return tags, str(root / name), findings
    folder = root / "Annotations"
    if not folder.is_dir():
        tags = _tags_of_lists(root)
        return tags, str(root / MAIN) if tags else None, ()
    tags, findings = _annotations(folder, root, images, cache)
    return tags, str(folder), findings


def _annotations(
    folder: Path, root: Path, images: Mapping[str, str], cache: StatCache | None
) -> tuple[Tags, tuple[Finding, ...]]:
    paths, _ = index_files(folder, root, frozenset({".xml"}), recursive=False)
    known = _Known(images)
    wanted = {image_id: path for name, path in paths.items() if (image_id := known(name)) in images}
    files = [root / path for path in wanted.values()]
    tags: Tags = {}
    findings: list[Finding] = []
    facts_of_all = file_facts(files, "voc-annotation-1", read_annotation, cache)
    for image_id, facts in zip(wanted, facts_of_all, strict=True):
        if isinstance(facts, DataError):
            findings.append(Finding("error", "bad-annotation", str(facts), (image_id,)))
        else:
            tags[image_id] = frozenset(facts["tags"])
    return tags, tuple(findings)


def _splits(root: Path, images: Mapping[str, str]) -> dict[str, frozenset[str]]:
    known = _Known(images)
    for folder in SPLIT_FOLDERS:
        lists = sorted((root / folder).glob("*.txt"))
        splits = {file.stem: ids for file in lists if (ids := _split(file, folder, known)) is not None}
        if splits:
            return splits
    of_classes: dict[str, set[str]] = {}
    for _, split, lines in class_lists(root):
        of_classes.setdefault(split, set()).update(image_id for image_id, _ in lines)
    return {split: frozenset(ids) for split, ids in of_classes.items()}


def _split(file: Path, folder: str, known: _Known) -> frozenset[str] | None:
    """Ids of a list, or None for the lists of one class in ImageSets/Main, whose second column is -1, 0 or 1."""
    lines = read_lines(file)
    if folder == MAIN and "_" in file.stem and _is_of_one_class([line.split() for line in lines]):
        return None
    return frozenset(_listed_id(line, known) for line in lines)


def _listed_id(line: str, known: _Known) -> str:
    """The id of a line: the whole line, or its first column where the whole is no image and that is one.

    Lists of other tools give paths: `/JPEGImages/ID.jpg /SegmentationClass/ID.png`.
    """
    whole = known(line)
    first = line.split()[0]
    if whole in known.images or len(first) == len(line):
        return whole if "/" not in line else known(Path(line).name)
    return known(Path(first).name)


def _matches(config: DataConfig, root: Path) -> bool:
    return (root / IMAGES).is_dir()


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected a folder for the layout voc; correct the path")
    return read_voc(config, root, cache)


LAYOUT = Layout("voc", f"{IMAGES}/ of the VOC layout", _matches, _read)
