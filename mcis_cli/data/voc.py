"""The layout of PASCAL VOC: JPEGImages, ImageSets, Annotations or a tag file, SegmentationClass."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.facts import Facts, file_facts
from mcis_cli.data.images import PHOTO_SUFFIXES
from mcis_cli.data.listing import Finding, Found, index_files, read_lines
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

IMAGES = "JPEGImages"
TAG_FILES = ("image_tags.txt", "tags.txt")
SPLIT_FOLDERS = ("ImageSets/Segmentation", "ImageSets/Main", "ImageSets")
MAX_XML_BYTES = 4 << 20

Tags = dict[str, frozenset[str]]


def read_voc(config: DataConfig, root: Path, cache: StatCache | None = None) -> Found:
    """Read a folder in the layout of PASCAL VOC.

    Every list of ImageSets/Segmentation (or else ImageSets/Main) is a split. Tags come from `config.tags`, or
    image_tags.txt or tags.txt, or else from Annotations, where difficult objects count.

    Raises:
        DataError: A list, the tag file or a folder cannot be read.
    """
    images, image_findings = index_files(root / IMAGES, root, PHOTO_SUFFIXES, recursive=False)
    tags, source, tag_findings = _tags(config, root, images, cache)
    return Found(
        images=images,
        tags=tags,
        tag_source=source,
        splits=_splits(root),
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
        image_id, *names = line.split()
        stem, dot, suffix = image_id.rpartition(".")
        if image_id not in images and f"{dot}{suffix}".lower() in PHOTO_SUFFIXES:
            image_id = stem
        tags[image_id] = tags.get(image_id, frozenset()) | frozenset(names)
    return tags


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
    for name in (config.tags,) if config.tags is not None else TAG_FILES:
        if config.tags is not None or (root / name).is_file():
            return read_tag_file(root / name, images), str(root / name), ()
    folder = root / "Annotations"
    if not folder.is_dir():
        return {}, None, ()
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
        if lists:
            splits = {file.stem: _split(file) for file in lists}
            return {name: ids for name, ids in splits.items() if ids is not None}
    return {}


def _split(file: Path) -> frozenset[str] | None:
    """Ids of a list, or None for the lists of one class in ImageSets/Main, whose second column is -1, 0 or 1."""
    lines = read_lines(file)
    if lines and all(line.split()[1:] in (["-1"], ["0"], ["1"]) for line in lines):
        return None
    # Lists of other tools give paths: `/JPEGImages/ID.jpg /SegmentationClass/ID.png`.
    return frozenset(Path(line.split()[0]).stem if "/" in line else line for line in lines)
