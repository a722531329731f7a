"""Names of classes: the source of their order, and names that mean background, nothing, or pixels to ignore.

Mask value k + 1 is class k, so the order of the names gives the masks their meaning.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.listing import BACKGROUND, MAX_CLASSES, Found, file_of_name, read_lines
from mcis_cli.errors import DataError

CLASS_FILES = ("classes.txt", "class_names.txt")  # the second is labelme's
LABEL_MAP = "labelmap.txt"  # CVAT, Datumaro, and our own export
_IGNORED = frozenset({"__ignore__", "_ignore_"})
_VOID = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled"})  # in a label map, where the colour decides
_NEGATIVE = frozenset({"negative", "negatives", "none"})

Colour = tuple[int, int, int]


def is_background(name: str) -> bool:
    """Whether a name means the background: `background`, `_background_`, `__background__`, `bg`, in any capitals."""
    return name.strip().strip("_").casefold() in (BACKGROUND, "bg")


def is_ignored(name: str) -> bool:
    """Whether a name means pixels to ignore, as labelme's `__ignore__`."""
    return name.strip().casefold() in _IGNORED


def is_negative(name: str) -> bool:
    """Whether a tag or a folder of this name means that an image shows none of the classes."""
    return is_background(name) or is_ignored(name) or name.strip().casefold() in _NEGATIVE


def same_name(name: str) -> str:
    """A form that is equal for spellings of one name that differ in composition, width, case or invisible letters."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    visible = "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).split())


def class_names(config: DataConfig, root: Path, found: Found) -> tuple[str, ...]:
    """The foreground classes in the order of their mask values.

    They come from the first of these that exists: `config.classes`, `classes.txt` or `class_names.txt`, `labelmap.txt`,
    the layout, the tags. Tags are ordered as numbers if all are numbers, otherwise by the alphabet.

    Raises:
        DataError: There are none, too many, or one cannot be used; a fault of the layout is reported before these.
    """
    names, source = _listed(config, root)
    if names is None and (label_map := read_label_map(root)):
        names, source = list(label_map), str(root / LABEL_MAP)
    if names is None:
        tags: Iterable[str] = set().union(*found.tags.values())
        if found.class_order is not None:
            tags, source = found.class_order, str(found.tag_source)
        else:
            tags, source = _in_order(tags), f"the tags of {found.tag_source or root}"
        names = [name for name in tags if not is_negative(name)]
    if not names and (fault := next((one.message for one in found.findings if one.severity == "error"), None)):
        raise DataError(fault)
    _refuse(names, source)
    return tuple(names)


def listed_names(config: DataConfig, root: Path) -> list[str] | None:
    """The names of `config.classes` or of a list of classes in the folder, without the background; or None."""
    return _listed(config, root)[0]


def _listed(config: DataConfig, root: Path) -> tuple[list[str] | None, str]:
    names, source = None, ""
    if config.classes is not None:
        names, source = list(config.classes), "the setting data.classes"
    else:
        file = next((file for name in CLASS_FILES if (file := file_of_name(root, name))), None)
        if file is not None:
            names, source = read_lines(file), str(file)
    if names is None:
        return None, ""
    names = [name for name in names if not is_ignored(name)]
    return names[1:] if names and is_background(names[0]) else names, source


def read_label_map(root: Path) -> dict[str, Colour]:
    """Names of the classes in `labelmap.txt`, in order, with their colours; empty if there is no such file.

    Raises:
        DataError: A line of it is not `name:red,green,blue:parts:actions`.
    """
    return {name: colour for name, colour in _label_lines(root) if not (is_background(name) or _is_void(name, colour))}


def mask_colours(root: Path, names: Sequence[str]) -> dict[Colour, int]:
    """The mask value of each colour that `labelmap.txt` names, including background and void."""
    values = {name: k + 1 for k, name in enumerate(names)}
    colours: dict[Colour, int] = {}
    for name, colour in _label_lines(root):
        value = 0 if is_background(name) else values.get(name, 255 if _is_void(name, colour) else None)
        if value is not None and colours.setdefault(colour, value) != value:
            raise DataError(
                f"{root / LABEL_MAP}: two names with the colour {','.join(map(str, colour))}, the second {name!r:.80}; "
                "expected a colour for each class; correct it"
            )
    return colours


def _label_lines(root: Path) -> list[tuple[str, Colour]]:
    file = file_of_name(root, LABEL_MAP)
    lines: list[tuple[str, Colour]] = []
    for line in read_lines(file) if file is not None else ():
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if len(numbers) != 3 or not all(number.strip().isdecimal() and int(number) < 256 for number in numbers):
            raise DataError(
                f"{file}: the line {line!r:.80}; expected name:red,green,blue::, as CVAT writes it; correct it"
            )
        red, green, blue = map(int, numbers)
        lines.append((name.strip(), (red, green, blue)))
    return lines


def _is_void(name: str, colour: Colour) -> bool:
    return is_ignored(name) or (name.strip("_").casefold() in _VOID and colour == (224, 224, 192))


def _in_order(tags: Iterable[str]) -> list[str]:
    names = sorted(tags)
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=int)
    return names


def _refuse(names: Sequence[str], source: str) -> None:
    if not names:
        raise DataError(f"no class names in {source}; expected tags, or one class a line in classes.txt")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{len(names)} classes in {source}; expected at most {MAX_CLASSES}: masks are 8-bit")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"the class {twice[0]!r} is named twice in {source}; remove one")
    if late := [name for name in names if is_background(name)]:
        raise DataError(f"{late[0]!r} is among the classes in {source}; expected it first, or not at all")
    for name in names:
        if not name.strip() or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise DataError(f"the class name {name!r} in {source} is no plain text; rename it")
