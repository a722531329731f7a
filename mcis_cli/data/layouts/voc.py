"""The layout of PASCAL VOC: JPEGImages, ImageSets, Annotations or a tag file, SegmentationClass."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.facts import Facts, file_facts
from mcis_cli.data.formats import PHOTO_SUFFIXES
from mcis_cli.data.layouts.listing import Finding, Found, index_files, read_lines
from mcis_cli.data.layouts.multi_hot import SUFFIX, read_multi_hot
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

IMAGES = "JPEGImages"
TAG_FILES = ("image_tags.txt", "tags.txt")
MAIN = "ImageSets/Main"
SPLIT_FOLDERS = ("ImageSets/Segmentation", MAIN, "ImageSets")
MAX_XML_BYTES = 4 << 20

Tags = dict[str, frozenset[str]]


def read_voc(config: DataConfig, root: Path, cache: StatCache | None = None) -> Found:
    """Read a folder in the layout of PASCAL VOC.

    Every list of ImageSets/Segmentation (or else ImageSets/Main) is a split. Tags come from `config.tags`, or
    image_tags.txt or tags.txt, or else from Annotations, or else from the lists CLASS_SPLIT.txt of ImageSets/Main;
    in both, difficult objects count.

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
        splits=_splits(root),
        class_order=class_order,
        default_masks="SegmentationClass",
        findings=(*image_findings, *tag_findings),
    )


def read_tag_file(file: Path, images: Mapping[str, str]) -> Tags:
    """Read lines `ID class class …`; an id may carry the image's extension.

    Raises:
        DataError: The file cannot be read.
    """
    tags: Tags = {}
    for line in read_lines(file):
        written, *names = line.split()
        image_id = _known(written, images)
        tags[image_id] = tags.get(image_id, frozenset()) | frozenset(names)
    return tags


def _known(written: str, images: Mapping[str, str]) -> str:
    """An id as it was written, perhaps with the image's extension."""
    stem, dot, suffix = written.rpartition(".")
    return stem if written not in images and f"{dot}{suffix}".lower() in PHOTO_SUFFIXES else written


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
        lines = read_multi_hot(root / config.tags, config, root)
        return {_known(line, images): names for line, names in lines.items()}, str(root / config.tags), ()
    for name in (config.tags,) if config.tags is not None else TAG_FILES:
        if config.tags is not None or (root / name).is_file():
            return read_tag_file(root / name, images), str(root / name), ()
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
    wanted = [image_id for image_id in paths if image_id in images]
    files = [root / paths[image_id] for image_id in wanted]
    tags: Tags = {}
    findings: list[Finding] = []
    facts_of_all = file_facts(files, "voc-annotation-1", read_annotation, cache)
    for image_id, facts in zip(wanted, facts_of_all, strict=True):
        if isinstance(facts, DataError):
            findings.append(Finding("error", "bad-annotation", str(facts), (image_id,)))
        else:
            tags[image_id] = frozenset(facts["tags"])
    return tags, tuple(findings)


def _splits(root: Path) -> dict[str, frozenset[str]]:
    for folder in SPLIT_FOLDERS:
        lists = sorted((root / folder).glob("*.txt"))
        splits = {file.stem: ids for file in lists if (ids := _split(file)) is not None}
        if splits:
            return splits
    of_classes: dict[str, set[str]] = {}
    for _, split, lines in class_lists(root):
        of_classes.setdefault(split, set()).update(image_id for image_id, _ in lines)
    return {split: frozenset(ids) for split, ids in of_classes.items()}


def _split(file: Path) -> frozenset[str] | None:
    """Ids of a list, or None for the lists of one class in ImageSets/Main, whose second column is -1, 0 or 1."""
    lines = read_lines(file)
    if _is_of_one_class([line.split() for line in lines]):
        return None
    # Lists of other tools give paths: `/JPEGImages/ID.jpg /SegmentationClass/ID.png`.
    return frozenset(Path(line.split()[0]).stem if "/" in line else line for line in lines)
