"""Exports of Label Studio in their kinds: what is a label, what was submitted, and which image a task is of."""

import csv
import io
import json
from pathlib import Path

import pytest
from image_sets import encode, photo, write

from mcis_cli.config import DataConfig
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError

CLASSES = ("cat", "dog", "horse")
UPLOADED = "/data/upload/1/0a1b2c3d-{}.png"


def choice(name, control="choice"):
    return {"type": "choices", "from_name": control, "to_name": "image", "value": {"choices": [name]}}


def fill(root: Path, content: str, name: str = "project-1.json") -> Path:
    for k in range(6):
        write(root / f"images/{k}.png", encode(photo(k)))
    write(root / name, content)
    return root


def tags_of(root: Path) -> dict[str, set[str]]:
    """Tags by image; of labelled images alone."""
    images = read_catalogue(DataConfig(root=str(root)))
    return {e.id: {images.class_names[k] for k in e.labels} for e in images.entries if e.is_labelled}


SHOWN = {f"images/{k}": {CLASSES[k % 3]} for k in range(6)}


@pytest.mark.parametrize("reference", [UPLOADED, "s3://bucket/some/{}.png", "/data/local-files/?d=images/{}.png"])
@pytest.mark.parametrize("key", ["annotations", "completions"])  # the second in old versions
def test_choices_are_tags(tmp_path, reference, key):
    tasks = [
        {"id": k, "data": {"photo": reference.format(k)}, key: [{"result": [choice(CLASSES[k % 3])]}]} for k in range(6)
    ]
    assert tags_of(fill(tmp_path, json.dumps(tasks))) == SHOWN


@pytest.mark.parametrize("key", ["choice", "label"])
def test_small_exports_say_the_same(tmp_path, key):
    tasks = [{"id": k, "image": UPLOADED.format(k), key: CLASSES[k % 3], "annotation_id": k} for k in range(6)]
    assert tags_of(fill(tmp_path, json.dumps(tasks))) == SHOWN


@pytest.mark.parametrize(("separator", "suffix"), [(",", "csv"), ("\t", "tsv"), (";", "csv")])
def test_tables_say_the_same(tmp_path, separator, suffix):
    stream = io.StringIO()
    table = csv.writer(stream, delimiter=separator)
    table.writerow(["annotation_id", "annotator", "choice", "id", "image", "lead_time"])
    table.writerows([k, 1, CLASSES[k % 3], k, UPLOADED.format(k), 2.5] for k in range(6))
    assert tags_of(fill(tmp_path, stream.getvalue(), f"project.{suffix}")) == SHOWN


def test_what_was_skipped_is_unlabelled_and_what_was_submitted_empty_a_negative(tmp_path):
    given = [[{"result": [choice("cat")]}], [{"result": []}], [{"result": [choice("dog")], "was_cancelled": True}], []]
    tasks = [{"id": k, "data": {"image": UPLOADED.format(k)}, "annotations": one} for k, one in enumerate(given)]
    assert tags_of(fill(tmp_path, json.dumps(tasks))) == {"images/0": {"cat"}, "images/1": set()}


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (
            [{"id": 0, "data": {"image": UPLOADED.format(0)}, "annotations": [], "predictions": [{"result": []}]}],
            "no task was submitted; expected annotations, not predictions",
        ),
        (
            [{"id": 0, "image": UPLOADED.format(0), "animal": "cat", "annotation_id": 1}],
            "no labels; found 'animal'; expected them at 'choice' or 'label'",
        ),
        ([{"id": 0, "data": {"image": UPLOADED.format(9)}, "annotations": [{"result": [choice("cat")]}]}], "no image"),
    ],
)
def test_what_gives_no_tags_is_one_line(tmp_path, tasks, told):
    root = fill(tmp_path, json.dumps(tasks))
    with pytest.raises(DataError, match=told):
        read_catalogue(DataConfig(root=str(root)))
