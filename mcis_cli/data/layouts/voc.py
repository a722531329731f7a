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
from mcis_cli.data.layouts.listing import (
    Finding,
    Found,
    by_composition,
    file_of_name,
    image_id_of,
    index_files,
    read_lines,
)
from mcis_cli.data.layouts.multi_hot import SUFFIX, read_multi_hot
from mcis_cli.data.layouts.names import listed_names
from mcis_cli.data.layouts.split_names import split_of_name
from mcis_cli.data.layouts.tag_cells import always_together, broken_list, parted_by_commas, split_cell
from mcis_cli.data.regular_files import other_file
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
    if not images:  # as our exports name images of other layouts
        images, image_findings = index_files(root / IMAGES, root, PHOTO_SUFFIXES)
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
    """Read lines `ID class class …`; an id may be a path, or carry the image's extension. One without a class is a
    negative. Lines that begin with # are left out.

    Classes are separated by blanks, or only by commas and semicolons if the file has one after an id, unless all parts
    between blanks are listed `classes`, whose names may contain such signs. Or they are lists such as `['cat', 'dog']`.

    Raises:
        DataError: The file cannot be read.
    """
    tags: Tags = {}
    lines: list[list[str]] = []
    known = _Known(images)
    parts = [_parted(line, known) for line in read_lines(file) if not _is_comment(line, known)]
    texts = [text for _, text in parts]
    by_comma = parted_by_commas(texts, classes)
    for image_id, text in parts:
        names = split_cell(text, ",;") if by_comma else text.split()
        tags[image_id] = tags.get(image_id, frozenset()) | frozenset(names)
        lines.append(names)
    broken = {name: image_id for image_id, names in tags.items() for name in names if broken_list(name)}
    findings = [] if by_comma else [*_two_words(file, lines)]
    if broken:
        name, image_id = next(iter(sorted(broken.items())))
        message = f"{file}: the tag {name!r:.80} of {image_id!r} begins or ends with a bracket or quote"
        findings.append(
            Finding("error", "bad-tag", f"{message}; expected ID cat, dog; correct it", tuple(broken.values()))
        )
    return tags, tuple(findings)


def _is_comment(line: str, known: "_Known") -> bool:
    return line.startswith("#") and known.find(line.split()[0]) is None


def _parted(line: str, known: "_Known") -> tuple[str, str]:
    """The id that a line begins with, and the text after it, perhaps separated by a comma, semicolon or colon."""
    first, *rest = line.split(maxsplit=1)
    short = re.split("[,;:]", line, maxsplit=1)
    if known.find(first.rstrip(",;:")) is None and known.find(short[0].strip()) is not None:
        first, rest = short[0].strip(), short[1:]
    return known(first.rstrip(",;:")), rest[0].strip() if rest else ""


def _two_words(file: Path, lines: list[list[str]]) -> Iterator[Finding]:
    if pairs := always_together(lines):
        shown = first_few(f"{one} {other}" for one, other in pairs)
        message = (
            f"{file}: tags that always follow each other: {shown}; a blank separates tags here: if these are names of "
            "two words, write potted_plant, or separate tags by commas"
        )
        yield Finding("warning", "two-words", message, tuple(name for pair in pairs for name in pair))


class _Known:
    """Map a written id to that of an image; it may be a path, or have letters composed differently."""

    def __init__(self, images: Mapping[str, str]) -> None:
        self.images = images
        self.composed = by_composition(images)

    def find(self, written: str) -> str | None:
        """The id of the image, or None."""
        for name in (written, written.replace("\\", "/").rpartition("/")[2]):
            stem = image_id_of(name)
            for one in (name, stem, self.composed.get(unicodedata.normalize("NFC", stem))):
                if one in self.images:
                    return one
        return None

    def __call__(self, written: str) -> str:
        """The id of the image, or the one that it would have."""
        return self.find(written) or image_id_of(written)


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
    """Tags from the lists of classes: 1, or 0 if all objects are difficult."""
    tags: dict[str, set[str]] = {}
    for name, _, lines in class_lists(root):
        for image_id, value in lines:
            found = tags.setdefault(image_id, set())
            if value != "-1":
                found.add(name)
    return {image_id: frozenset(names) for image_id, names in tags.items()}


def read_annotation(content: bytes, name: str) -> Facts:
    """Read the object names of one annotation.

    Raises:
        DataError: The file is not well-formed XML, is too large, or has a DOCTYPE.
    """
    tree = parse_xml(content, name, MAX_XML_BYTES)
    if tree.tag != "annotation":
        raise DataError(
            f"{name}: XML of <{tree.tag!s:.60}>; expected <annotation>, as in PASCAL VOC; export that format"
        )
    objects = tree.findall("object")
    if any(one.find("name") is None for one in objects):
        raise DataError(f"{name}: an object without <name>; expected the name of its class, as in PASCAL VOC; add it")
    names = {(node.text or "").strip() for node in tree.findall("object/name")}
    return {"tags": sorted(names - {""})}


def parse_xml(content: bytes, name: str, max_bytes: int) -> ElementTree.Element:
    """The root of an XML file; a DOCTYPE is refused, since it can define entities.

    Raises:
        DataError: The file is not well-formed XML, is too large, or has a DOCTYPE.
    """
    if found := other_file(content):
        raise DataError(f"{name}: {found}")
    if len(content) > max_bytes:
        raise DataError(f"{name}: {len(content):,} bytes of XML; expected at most {max_bytes:,}; replace it")
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
    except _DoctypeError:
        raise DataError(f"{name}: XML with a DOCTYPE; expected none, as in PASCAL VOC; remove that line") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{name}: not well-formed XML ({error}); correct or remove it") from error


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
    named = None if config.tags is None else root / config.tags
    if file := named or next((file for name in TAG_FILES if (file := file_of_name(root, name))), None):
        tags, findings = read_tag_file(file, images, listed_names(config, root) or ())
        return tags, str(file), findings
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
    facts_of_all = file_facts(files, "voc-annotation-2", read_annotation, cache)
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
    if of_classes:
        return {split: frozenset(ids) for split, ids in of_classes.items()}
    beside = (file for file in sorted(root.glob("*.txt")) if split_of_name(file.stem) == file.stem)
    return {file.stem: ids for file in beside if (ids := _split(file, "", known))}


def _split(file: Path, folder: str, known: _Known) -> frozenset[str] | None:
    """Ids of a list, or None for the lists of one class in ImageSets/Main, whose second column is -1, 0 or 1."""
    lines = read_lines(file)
    if folder == MAIN and "_" in file.stem and _is_of_one_class([line.split() for line in lines]):
        return None
    return frozenset(_listed_id(line, known) for line in lines)


def _listed_id(line: str, known: _Known) -> str:
    """The id of a line: the whole line, or its first column if only that is an image.

    Lists of other tools give paths: `/JPEGImages/ID.jpg /SegmentationClass/ID.png`.
    """
    columns = (line, line.split()[0], re.split("[,;\t]", line)[0].strip())
    found = (known.find(column) for column in columns)
    return next((one for one in found if one is not None), known(line if "/" not in line else Path(columns[1]).name))


def _matches(config: DataConfig, root: Path) -> bool:
    return (root / IMAGES).is_dir()


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected a folder for the layout voc; correct the path")
    return read_voc(config, root, cache)


LAYOUT = Layout("voc", f"{IMAGES}/ of the VOC layout", _matches, _read)
