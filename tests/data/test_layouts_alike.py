"""The same set in any layout is the same set: images, tags, negatives, splits and masks."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_writers import WRITERS, Drawn, DrawnSet, Writer, write_folders

from mcis_cli.config import DataConfig
from mcis_cli.config.sections.data import LayoutName
from mcis_cli.data.check import check
from mcis_cli.data.formats import id_fault
from mcis_cli.data.layouts.known import LAYOUTS
from mcis_cli.data.reading import layout_of, read_catalogue
from mcis_cli.interop.coco_masks import outline_masks

CLASSES = ("horse", "cat", "potted plant", "10", "2")


def names() -> st.SearchStrategy[list[str]]:
    """Names of files that every system and layout can hold, with letters beyond ASCII among them."""
    letters = st.sampled_from("abcXYZ019-éü")
    one = st.text(letters, min_size=1, max_size=6).filter(lambda name: id_fault(name) is None and name[0] != "-")
    return st.lists(one, min_size=4, max_size=7, unique_by=str.casefold)


@st.composite
def drawn_sets(draw: st.DrawFn, most: int = 2) -> DrawnSet:
    """Sets in which every class is in a tag, with a train and a val split, and negatives."""
    classes = tuple(draw(st.permutations(CLASSES)))[: draw(st.integers(2, 4))]
    images: list[Drawn] = []
    for number, name in enumerate(draw(names())):
        width, height = draw(st.integers(8, 14)), draw(st.integers(5, 9))
        shown = draw(st.lists(st.sampled_from(classes), max_size=most, unique=True))
        if number < len(classes) and classes[number] not in shown:
            shown = [classes[number], *shown][:most]
        boxes = {one: (4 * place, 1, 4 * place + 3, height - 1) for place, one in enumerate(shown)}
        images.append(Drawn(name, "val" if number % 3 == 2 else "train", boxes, height, width))
    return DrawnSet(tuple(images), classes)


def meaning(root: Path) -> dict[str, object]:
    """What a set says, by the content of its images: names, tags, splits and masks."""
    config = DataConfig(root=str(root))
    catalogue = read_catalogue(config)
    outlines = layout_of(config, root).outlines
    is_drawn = outlines is not None and not any(entry.mask for entry in catalogue.entries)
    masks = dict(outline_masks(outlines(config, root), catalogue)) if outlines is not None and is_drawn else {}
    found: dict[str, object] = {}
    for entry in catalogue.entries:
        mask = masks.get(entry.id) if entry.mask is None else catalogue.read_mask(entry.id)
        assert mask is not None, entry.id
        values = {0: "background", **{k + 1: name for k, name in enumerate(catalogue.class_names)}}
        found[entry.digest] = {
            "name": entry.id.rpartition("/")[2],
            "tags": {catalogue.class_names[label] for label in entry.labels},
            "negative": entry.is_negative,
            "splits": set(entry.splits),
            "mask": {values[value]: (mask == value).tolist() for value in np.unique(mask).tolist()},
        }
    return found


def expected(drawn: DrawnSet, *, with_splits: bool = True) -> list[dict[str, object]]:
    """What was drawn, in the same words."""
    values = {0: "background", **{k + 1: name for k, name in enumerate(drawn.classes)}}
    return [
        {
            "name": image.name,
            "tags": set(image.boxes),
            "negative": not image.boxes,
            "splits": {image.split if with_splits else "train"},
            "mask": {
                values[v]: (image.mask(drawn.classes) == v).tolist() for v in np.unique(image.mask(drawn.classes))
            },
        }
        for image in drawn.images
    ]


def root_of(folder: Path) -> Path:
    """The path to name: the list, if that is the layout."""
    return next(folder.glob("list.txt"), folder)


def by_name(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(found, key=lambda one: str(one["name"]))


def assert_read(writer: Writer, layout: str, drawn: DrawnSet) -> None:
    with TemporaryDirectory() as folder:
        writer(Path(folder), drawn)
        root = root_of(Path(folder))
        assert read_catalogue(DataConfig(root=str(root))).layout == layout
        found = meaning(root)
    wanted = expected(drawn, with_splits=layout not in ("label-studio", "list"))
    assert by_name(list(found.values())) == by_name(wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12, deadline=None)
@given(drawn=drawn_sets())
def test_a_set_is_read_as_it_was_written_in_any_layout(name: str, drawn: DrawnSet) -> None:
    layout, writer = WRITERS[name]
    assert_read(writer, layout, drawn)


@settings(max_examples=12, deadline=None)
@given(drawn=drawn_sets(most=1))
def test_folders_of_classes_are_read_as_they_were_written(drawn: DrawnSet) -> None:
    assert_read(write_folders, "folders", drawn)


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_that_is_right_has_no_warning_of_its_meaning(name: str, tmp_path: Path) -> None:
    boxes = (("horse", "cat"), ("cat",), ("horse",), (), ("cat", "horse"), ("horse",), ("cat",), ())
    drawn = DrawnSet(
        tuple(
            Drawn(
                f"x{n}", "val" if n > 4 else "train", {c: (4 * k, 1, 4 * k + 3, 5) for k, c in enumerate(shown)}, 7, 9
            )
            for n, shown in enumerate(boxes)
        ),
        ("horse", "cat"),
    )
    WRITERS[name][1](tmp_path, drawn)
    told = {finding.code for finding in check(DataConfig(root=str(root_of(tmp_path))), num_references=0, workers=0)}
    usual = {"layout", "classes", "splits", "companions", "no-saliency", "negatives", "no-mask", "no-val"}
    assert told - usual <= {"unnamed-column"}  # which that table has


def test_every_layout_has_a_writer_and_is_listed_once() -> None:
    listed = [layout.name for layout in LAYOUTS]
    assert {"auto", *listed} == set(LayoutName.__args__)
    assert len(set(listed)) == len(listed)
    assert set(listed) == {layout for layout, _ in WRITERS.values()} | {"folders"}
