"""A list of images: `path tag …` on each line, or paths alone, with the tags in another file."""

from dataclasses import replace
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.layout import Layout
from mcis_cli.data.layouts.listing import Found
from mcis_cli.data.layouts.rows import TABLE_SUFFIXES
from mcis_cli.data.layouts.table import read_table
from mcis_cli.data.layouts.tag_cells import parted_by_commas, split_cell
from mcis_cli.data.layouts.tag_lists import Listed, names_list
from mcis_cli.data.layouts.voc import read_tag_file
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache


def read_list(config: DataConfig, file: Path) -> Found:
    """Read a list of images. Tags are on its lines, or in the file that `config.tags` names: a table, or lines
    `ID class class …`.

    Tags on lines are separated as in such a file. If the list has any, a line without a tag is a negative.

    Raises:
        DataError: A list or the table cannot be read.
    """
    listed = Listed(file)
    lines = list(listed.lines())
    if config.tags is not None:
        return _with_tags(listed.found(), file.parent / config.tags, file.parent)
    texts = [text for _, _, text in lines]
    by_comma = parted_by_commas(texts, config.classes or ())
    for _, image_id, text in lines if any(texts) else ():
        listed.tags.setdefault(image_id, set()).update(split_cell(text, ",;") if by_comma else text.split())
    return listed.found()


def _with_tags(found: Found, file: Path, root: Path) -> Found:
    """A list with the tags of its images, and their splits, from another file."""
    if file.suffix.lower() in TABLE_SUFFIXES:
        table = read_table(file, root)
        tags, splits = dict(table.tags), {name: ids & found.images.keys() for name, ids in table.splits.items()}
        findings, order = table.findings, table.class_order
    else:
        tags, findings = read_tag_file(file, found.images)
        splits, order = {}, None
    tags = {image_id: tags[image_id] for image_id in found.images if image_id in tags}
    findings = (*found.findings, *findings)
    return replace(found, tags=tags, tag_source=str(file), splits=splits, class_order=order, findings=findings)


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    if not root.is_file():
        raise DataError(f"{root} is no file; expected a list of images in .txt for the layout list; correct the path")
    return replace(read_list(config, root), root=root.parent)


LAYOUT = Layout("list", "a list of images in .txt", lambda _, root: names_list(root), _read)
