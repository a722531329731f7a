"""A layout of data: its name, how a folder is recognised as having it, and how it is read.

A layout is one file in this folder, with a `LAYOUT`, and its name in `config.sections.data.LayoutName`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcis_cli.config import DataConfig
from mcis_cli.data.layouts.listing import Found
from mcis_cli.store import StatCache


@dataclass(frozen=True, slots=True)
class Shape:
    """The outline of one object, in pixels of a frame that may be larger or smaller than the photograph.

    Attributes:
        where: the place in the file, for messages.
        name: of its class; None where its pixels are to be ignored.
        polygons: rings of corners x, y, x, y, …
        run_lengths: those of COCO, `{"size": [height, width], "counts": …}`, in place of polygons.
        pixels: a mask of NumPy, boolean, (height, width), in place of both.
    """

    where: str
    name: str | None
    polygons: Sequence[Any] = ()
    run_lengths: Mapping[str, Any] | None = None
    pixels: Any = None


@dataclass(slots=True)
class Outlines:
    """All objects of one image, with the (height, width) of the image by their file, if given."""

    image_id: str
    size: tuple[int, int] | None
    shapes: list[Shape] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout of data.

    Attributes:
        name: what `data.layout` calls it.
        title: what messages call it, after "looked for".
        matches: whether a folder or a named file has this layout; reads names or the head of a file only.
        read: reads the layout; raises DataError if it cannot.
        outlines: the objects of each image, if the layout has them; ground truth is drawn from them.
    """

    name: str
    title: str
    matches: Callable[[DataConfig, Path], bool]
    read: Callable[[DataConfig, Path, StatCache | None], Found]
    outlines: Callable[[DataConfig, Path], Iterator[Outlines]] | None = None
