"""A folder of images with a CSV or TSV table: `image,tag;tag`, or one column of 0 and 1 for each class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import PHOTO_SUFFIXES, id_fault
from mcis_cli.data.layouts.layout import Layout
from mcis_cli.data.layouts.left_out import OTHER_FOLDERS
from mcis_cli.data.layouts.listing import Finding, Found, image_id_of, image_path, locate_image
from mcis_cli.data.layouts.multi_hot import SUFFIX, find_multi_hot, read_multi_hot_set
from mcis_cli.data.layouts.rows import TABLE_SUFFIXES, Row, read_rows
from mcis_cli.data.layouts.split_names import split_of_name
from mcis_cli.data.layouts.tag_cells import broken_list, split_cell
from mcis_cli.errors import DataError, counted
from mcis_cli.store import StatCache

IMAGE_COLUMNS = ("image", "file", "path", "filename")
MORE_IMAGE_COLUMNS = ("file_name", "filepath", "file_path", "image_path", "image_name")
TAG_COLUMNS = ("tags", "tag", "labels", "label")
MORE_TAG_COLUMNS = ("class", "classes", "category", "categories", "class_name")  # if they hold names, not 0 and 1
SPLIT_COLUMN = "split"
IS_VAL_COLUMNS = ("is_valid", "is_val")
VALUE_COLUMNS = frozenset({"confidence", "score", "value", "present", "presence", "probability", "prob"})
YES = frozenset({"1", "1.0", "true"})
NO = frozenset({"", "0", "0.0", "false"})


def find_table(config: DataConfig, root: Path) -> Path | None:
    """The table of a data set: the root itself, `config.tags`, or the only table in the root; None if there is none.

    Raises:
        DataError: There are several tables.
    """
    if root.is_file():
        return root if root.suffix.lower() in TABLE_SUFFIXES else None
    if config.tags is not None:
        return root / config.tags if Path(config.tags).suffix.lower() in TABLE_SUFFIXES else None
    tables = sorted(file for file in root.glob("*.*") if file.suffix.lower() in TABLE_SUFFIXES and file.is_file())
    if len(tables) > 1:
        names = ", ".join(repr(file.name) for file in tables)
        raise DataError(f"{len(tables)} tables in {root} ({names}); expected one; choose with --set data.tags=NAME")
    return tables[0] if tables else None


def read_table(file: Path, root: Path) -> Found:
    """Read a table of tags; images are relative to the root, and an id is the path without its extension.

    An image may have several rows: its tags and splits are joined. Tags and splits are separated by `;`, `,` or `|`.
    If every class has a column, the columns order the classes. Two columns, images and tags, need no header. An
    image whose row has no tag is a negative.

    Raises:
        DataError: The file is not a table, or has no column of images or of tags.
    """
    rows = read_rows(file)
    if not rows:
        raise DataError(f"{file}: an empty table; expected a header with columns such as image,tags; add one")
    if len(rows[0][1]) == 2 and _names_image(root, rows[0][1][0]):
        rows.insert(0, (0, [IMAGE_COLUMNS[0], TAG_COLUMNS[0]]))
    columns = _Columns.of(file, root, rows)
    table = _Table(file, root, columns)
    for line, cells in rows[1:]:
        table.add(line, cells)
    return Found(
        images=table.images,
        tags={image_id: frozenset(tags) for image_id, tags in table.tags.items()},
        tag_source=str(file),
        splits={name: frozenset(ids) for name, ids in table.splits.items()},
        class_order=tuple(columns.classes) or None,
        findings=tuple(table.findings()),
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    names: tuple[str, ...]
    image: int
    tags: int | None
    split: int | None
    classes: dict[str, int]
    unnamed: tuple[int, ...] = ()
    values: tuple[int, ...] = ()

    @staticmethod
    def of(file: Path, root: Path, rows: Sequence[Row]) -> "_Columns":
        names = tuple(cell.strip() for cell in rows[0][1])
        lower = [name.lower() for name in names]
        image = _column(lower, (*IMAGE_COLUMNS, *MORE_IMAGE_COLUMNS))
        if image is None:
            found = ", ".join(map(repr, names[:10]))
            if any(_names_image(root, name) for name in names):
                raise DataError(
                    f"{file}: no header above the first row ({found}); write one: image over the images, tags over the "
                    "tags"
                )
            raise DataError(f"{file}: no column of images; found {found}; name one of them {', '.join(IMAGE_COLUMNS)}")
        named = [name for name in lower if not _has_no_name(name)]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise DataError(f"{file}: two columns named {twice[0]!r}; expected different names; rename one")
        tags, split = _column(lower, TAG_COLUMNS), _column(lower, (SPLIT_COLUMN,))
        if tags is None:
            tags = _named_tags(lower, rows)
        if split is None:
            split = _column_of_splits(lower, rows, {image, tags})
        counts = _column_of_numbers(rows, {image, tags, split})
        unnamed = tuple(i for i, name in enumerate(lower) if (_has_no_name(name) or i in counts) and i != image)
        others = {n: i for i, n in enumerate(names) if i not in (image, split, *unnamed)}
        classes = {} if tags is not None else others
        if tags is None and not classes:
            raise DataError(
                f"{file}: no column of tags; found {', '.join(map(repr, names))}; add a column named tags, or one of "
                "0 and 1 for each class"
            )
        values = tuple(i for i, name in enumerate(lower) if tags is not None and name in VALUE_COLUMNS)
        return _Columns(names, image, tags, split, classes, () if tags is not None else unnamed, values)


def _has_no_name(name: str) -> bool:
    """Whether a column has no name, or the name that pandas gives to such a column."""
    return not name or name.startswith("unnamed: ")


def _column_of_splits(lower: Sequence[str], rows: Sequence[Row], others: set[int | None]) -> int | None:
    """A column of another name whose cells are all names of splits, or whether the image is in val (fastai).

    Its cells become names of splits.
    """
    for column, name in enumerate(lower):
        cells = {cells[column].strip().lower() for _, cells in rows[1:] if column < len(cells)}
        if column in others or not cells - {""}:
            continue
        spelled = {cell: split_of_name(cell) for cell in cells - {""}}
        if name in IS_VAL_COLUMNS and cells <= YES | NO:
            spelled = {cell: "val" if cell in YES else "train" for cell in cells}
        if not all(spelled.values()):
            continue
        for _, row in rows[1:]:
            if column < len(row):
                row[column] = spelled.get(row[column].strip().lower()) or ""
        return column
    return None


def _column_of_numbers(rows: Sequence[Row], others: set[int | None]) -> set[int]:
    """The columns that only number the rows, from 0 or 1, such as an index that was written with a name."""
    num_columns = min((len(cells) for _, cells in rows), default=0)
    found = set()
    for column in range(num_columns):
        cells = [cells[column].strip() for _, cells in rows[1:]]
        counts = ([str(k + first) for k in range(len(cells))] for first in (0, 1))
        if column not in others and len(cells) > 2 and cells in counts:
            found.add(column)
    return found


def _named_tags(lower: Sequence[str], rows: Sequence[Row]) -> int | None:
    """The column `class` or similar, if a cell of it is neither 0 nor 1; otherwise it is the column of a class."""
    column = _column(lower, MORE_TAG_COLUMNS)
    if column is None:
        return None
    cells = (cells[column].strip().lower() for _, cells in rows[1:] if column < len(cells))
    return column if any(cell not in YES | NO for cell in cells) else None


@dataclass
class _Table:
    """Rows as they come in; faults are kept by kind, each with the image it concerns."""

    file: Path
    root: Path
    columns: _Columns
    images: dict[str, str] = field(default_factory=dict)
    tags: dict[str, set[str]] = field(default_factory=dict)
    splits: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    filled: set[int] = field(default_factory=set)

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Add one row."""
        where = f"{self.file} line {line}"
        num_columns = len(self.columns.names)
        if len(cells) != num_columns and any(cell.strip() for cell in cells[num_columns:]) | (len(cells) < num_columns):
            found = f"{counted(len(cells), 'cell')}; expected {num_columns}, as in the header; correct the row"
            self._fault("bad-row", cells[0] if cells else "", f"{where}: {found}")
            return
        path = image_path(cells[self.columns.image])
        image_id = image_id_of(path)
        fault = id_fault(image_id)
        if fault:
            self._fault("bad-id", image_id, f"{where}: {fault}; correct the path")
            return
        found_at = locate_image(self.root, path, image_id)
        if found_at is None:
            self._fault("missing-image", image_id, f"{where}: no image {path!r} in {self.root}; {self._remedy(path)}")
            return
        if self.images.setdefault(image_id, found_at) != found_at:
            self._fault("same-id", image_id, f"{where}: two files for {image_id!r}, by extension only; rename one")
            return
        self.tags.setdefault(image_id, set()).update(self._tags(where, image_id, cells))
        self.filled.update(column for column in self.columns.unnamed if cells[column].strip())
        if self.columns.split is not None:
            for name in split_cell(cells[self.columns.split]):
                self.splits.setdefault(name, set()).add(image_id)

    def findings(self) -> Iterator[Finding]:
        """One finding for each kind of fault: the first in words, the ids of all."""
        for code, faults in sorted(self.faults.items()):
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            yield Finding("error", code, faults[0][1] + more, tuple(image_id for image_id, _ in faults))
        for column in sorted(self.filled):
            fault = "has no name" if _has_no_name(self.columns.names[column].lower()) else "only numbers the rows"
            message = (
                f"{self.file}: column {column + 1} {fault} and is not read; expected the name of a class; name it, or "
                "remove it (pandas writes such an index unless index=False)"
            )
            yield Finding("warning", "unnamed-column", message)
        for column in self.columns.values:
            message = (
                f"{self.file}: the column {self.columns.names[column]!r} is not read, so each row is a tag, whatever "
                "it says there; remove the rows of what an image does not show"
            )
            yield Finding("warning", "column-of-values", message)

    def _tags(self, where: str, image_id: str, cells: Sequence[str]) -> Iterator[str]:
        if self.columns.tags is not None:
            for tag in split_cell(cells[self.columns.tags]):
                if broken_list(tag):
                    message = (
                        f"the tag {tag!r:.80} begins or ends with a bracket or quote; expected cat;dog; correct it"
                    )
                    self._fault("bad-tag", image_id, f"{where}: {message}")
                yield tag
        for name, index in self.columns.classes.items():
            value = cells[index].strip().lower()
            if value in YES:
                yield name
            elif value not in NO:
                found = f"{cells[index]!r} in column {name!r}; expected 0 or 1, or a column named tags"
                self._fault("bad-cell", image_id, f"{where}: {found}; correct it")

    def _remedy(self, path: str) -> str:
        """How to correct a path that leads nowhere. Only the first such fault is printed, so only it is looked up."""
        near = _similar(self.root, path) if "missing-image" not in self.faults else None
        return f"found {near!r} there; write paths as seen from the folder" if near else "add it or drop the row"

    def _fault(self, code: str, image_id: str, message: str) -> None:
        self.faults.setdefault(code, []).append((image_id, message))


def _names_image(root: Path, cell: str) -> bool:
    """Whether a cell of a first row, which may be the header, names an existing image."""
    path = image_path(cell)
    if path.lower() in IMAGE_COLUMNS or id_fault(path):
        return False
    return locate_image(root, path, image_id_of(path)) is not None


def _similar(root: Path, path: str) -> str | None:
    """An image that may be meant: its name differs in case or extension only, in this or another folder of the root."""
    stem = PurePosixPath(path).stem.casefold()
    folders = [(root / path).parent, root, *sorted(one for one in root.glob("*/") if one.name not in OTHER_FOLDERS)]
    files = (file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir()))
    similar = (file for file in files if file.stem.casefold() == stem and file.suffix.lower() in PHOTO_SUFFIXES)
    return next((file.relative_to(root).as_posix() for file in similar), None)


def _column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _matches(config: DataConfig, root: Path) -> bool:
    return find_table(config, root) is not None or find_multi_hot(config, root) is not None


def _read(config: DataConfig, root: Path, cache: StatCache | None) -> Found:
    """A folder of images with a table, or with an array."""
    file = find_table(config, root) or find_multi_hot(config, root)
    if file is None:
        raise DataError(f"no table in {root}; expected one .csv or .tsv file; name it with --set data.tags=NAME")
    folder = root.parent if root.is_file() else root
    is_array = file.suffix.lower() == SUFFIX
    found = read_multi_hot_set(file, config, folder) if is_array else read_table(file, folder)
    return replace(found, root=folder)


LAYOUT = Layout("table", "one table of tags in .csv or .tsv, or an array of tags in .npy", _matches, _read)
