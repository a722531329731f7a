"""The table of tools in docs/how-to/own-photographs.md: what each exports is read by the commands that stand there."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from image_sets import encode, write
from layout_writers import Drawn, DrawnSet, pack, write_labelme

from mcis_cli.config import DataConfig
from mcis_cli.data.palette import voc_palette, write_mask_png
from mcis_cli.data.reading import read_catalogue

PAGE = Path(__file__).parents[2] / "docs/how-to/own-photographs.md"
CLASSES = ("horse", "cat", "potted plant")
BOXES = ((1, 1, 4, 5), (5, 1, 8, 5), (2, 2, 6, 6))
SET = DrawnSet(
    tuple(
        Drawn(f"photo {k}", "val" if k % 4 == 3 else "train", {CLASSES[k % 3]: BOXES[k % 3]} if k < 11 else {}, 7, 9)
        for k in range(12)
    ),
    CLASSES,
)


def photographs(root: Path, folder: str, split: str | None = None) -> list[Drawn]:
    """Write the images, those of a split or all."""
    images = [image for image in SET.images if split in (None, image.split)]
    for image in images:
        write(root / folder / f"{image.name}.jpg", encode(np.asarray(image.pixels()), "JPEG"))
    return images


def coco(images: list[Drawn], name: str = "{}.jpg") -> str:
    """COCO with polygons."""
    listed = [
        {"id": k, "file_name": name.format(image.name), "width": image.width, "height": image.height}
        for k, image in enumerate(images)
    ]
    objects = [
        {"id": k, "image_id": k, "category_id": CLASSES.index(name) + 1, "iscrowd": 0, "bbox": [x, y, u - x, v - y]}
        | {"segmentation": [[x, y, u, y, u, v, x, v]]}
        for k, image in enumerate(images)
        for name, (x, y, u, v) in image.boxes.items()
    ]
    categories = [{"id": k + 1, "name": name, "supercategory": ""} for k, name in enumerate(CLASSES)]
    return json.dumps({"licenses": [], "info": {}, "categories": categories, "images": listed, "annotations": objects})


def rows(*lines: list[object], separator: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator).writerows(lines)
    return stream.getvalue()


def excel(root: Path) -> None:
    images = photographs(root, ".")
    lines = [[f"{image.name}.jpg", "; ".join(image.boxes), image.split] for image in images]
    write(root / "tags.csv", "\ufeff" + rows(["Image", "Tags", "Split"], *lines, separator=";"))


def roboflow(root: Path, table: Callable[[list[Drawn]], str], name: str) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        write(root / folder / name, table(photographs(root, folder, split)))
    write(root / "README.roboflow.txt", "exported")


def roboflow_tags(images: list[Drawn]) -> str:
    lines = [[f"{image.name}.jpg", *(f" {int(name in image.boxes)}" for name in CLASSES)] for image in images]
    return rows(["filename", *(f" {name}" for name in CLASSES)], *lines)


def roboflow_masks(root: Path) -> None:
    values = rows(
        ["Pixel Value", " Class"], [0, " background"], *([k + 1, f" {name}"] for k, name in enumerate(CLASSES))
    )
    roboflow(root, lambda images: values, "_classes.csv")
    for image in SET.images:
        folder = "train" if image.split == "train" else "valid"
        write(root / folder / f"{image.name}_mask.png", encode(image.mask(CLASSES)))


def label_map() -> str:
    palette = voc_palette().tolist()
    lines = [f"{name}:{','.join(map(str, palette[k + 7]))}::\n" for k, name in enumerate(CLASSES)]
    return "".join(["# label:color_rgb:parts:actions\n", "background:0,0,0::\n", *lines])


def cvat_boxes(root: Path) -> None:
    for image in photographs(root, "JPEGImages"):
        objects = "".join(
            f"<object><name>{name}</name><occluded>0</occluded><bndbox><xmin>1.0</xmin></bndbox></object>"
            for name in image.boxes
        )
        head = f"<folder></folder><filename>{image.name}.jpg</filename>"
        write(root / f"Annotations/{image.name}.xml", f"<annotation>{head}{objects}</annotation>")
    write(root / "ImageSets/Main/default.txt", "".join(f"{image.name}\n" for image in SET.images))
    write(root / "labelmap.txt", label_map())


def cvat_masks(root: Path) -> None:
    table = np.zeros((256, 3), np.uint8)
    table[1 : len(CLASSES) + 1] = voc_palette()[7 : 7 + len(CLASSES)]
    for image in photographs(root, "JPEGImages"):
        for folder in ("SegmentationClass", "SegmentationObject"):
            write(root / folder / f"{image.name}.png", encode(table[image.mask(CLASSES)]))
    write(root / "ImageSets/Segmentation/default.txt", "".join(f"{image.name}\n" for image in SET.images))
    write(root / "labelmap.txt", label_map())


def cvat_outlines(root: Path) -> None:
    write(root / "annotations/instances_default.json", coco(photographs(root, "images/default")))


def tasks(root: Path, result: Callable[[Drawn], list[dict[str, object]]]) -> None:
    images = photographs(root, "images")
    whole = [
        {
            "id": k,
            "data": {"image": f"/data/upload/1/0a1b2c3d-{image.name}.jpg"},
            "annotations": [{"result": result(image)}],
        }
        for k, image in enumerate(images)
    ]
    write(root / "project-1-at-2024-01-01.json", json.dumps(whole))


def label_studio_outlines(root: Path) -> None:
    def result(image: Drawn) -> list[dict[str, object]]:
        return [
            {"type": "polygonlabels", "original_width": image.width, "original_height": image.height}
            | {"value": {"points": corners(image, box), "polygonlabels": [name]}}
            for name, box in image.boxes.items()
        ]

    tasks(root, result)


def corners(image: Drawn, box: tuple[int, int, int, int]) -> list[list[float]]:
    """In percent."""
    x, y, u, v = box
    return [[100 * a / image.width, 100 * b / image.height] for a, b in ((x, y), (u, y), (u, v), (x, v))]


def label_studio_choices(root: Path) -> None:
    lines = [
        [k, 1, next(iter(image.boxes), ""), k, f"/data/upload/1/0a1b2c3d-{image.name}.jpg", 2.5]
        for k, image in enumerate(photographs(root, "images"))
    ]
    write(root / "project.csv", rows(["annotation_id", "annotator", "choice", "id", "image", "lead_time"], *lines))


def fiftyone(root: Path) -> None:
    write(root / "labels.json", coco(photographs(root, "data")))


def voc(root: Path) -> None:
    cvat_boxes(root)
    (root / "labelmap.txt").unlink()
    (root / "ImageSets/Main/default.txt").unlink()
    for split in ("train", "val"):
        write(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{image.name}\n" for image in SET.of(split)))
    for image in SET.images:
        write(root / f"SegmentationClass/{image.name}.png", write_mask_png(image.mask(tuple(sorted(CLASSES)))))


def plain_coco(root: Path) -> None:
    for split in ("train", "val"):
        write(root / f"annotations/instances_{split}2017.json", coco(photographs(root, f"{split}2017", split)))


def list_of_paths(file: Path) -> None:
    lines = [f"images/{image.name}.jpg\t{', '.join(image.boxes)}," for image in photographs(file.parent, "images")]
    write(file, "".join(line.replace("\t,", "\t") + "\n" for line in lines))


def shards(root: Path) -> None:
    for split in SET.splits:
        members: dict[str, bytes | str] = {}
        for image in SET.of(split):
            members[f"{image.name}.jpg"] = encode(np.asarray(image.pixels()), "JPEG")
            members[f"{image.name}.json"] = json.dumps({"tags": [*image.boxes]})
        pack(root / f"{split}-000.tar", members)


MAKERS: Mapping[str, Callable[[Path], object]] = {
    "Excel, LibreOffice": excel,
    "Roboflow, outlines": lambda root: roboflow(root, coco, "_annotations.coco.json"),
    "Roboflow, tags": lambda root: roboflow(root, roboflow_tags, "_classes.csv"),
    "Roboflow, masks": roboflow_masks,
    "CVAT, boxes": cvat_boxes,
    "CVAT, masks": cvat_masks,
    "CVAT, outlines": cvat_outlines,
    "Label Studio, brushes or polygons": label_studio_outlines,
    "Label Studio, choices": label_studio_choices,
    "labelme": lambda root: write_labelme(root, SET),
    "FiftyOne": fiftyone,
    "a list of paths, from a script": list_of_paths,
    "WebDataset": shards,
    "PASCAL VOC": voc,
    "COCO": plain_coco,
}


def lines_of_the_page() -> dict[str, list[str]]:
    """The commands of each line of the table."""
    lines = re.findall(r"^\| (.+?) \| .+ \| (`mcis .+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {tool: re.findall(r"`mcis (.+?)`", commands) for tool, commands in lines}


def test_every_line_of_the_table_is_tried():
    assert list(lines_of_the_page()) == list(MAKERS)


@pytest.mark.parametrize("tool", MAKERS)
def test_what_a_tool_exports_is_read_as_the_page_says(call, tmp_path, tool):
    commands = [command.split() for command in lines_of_the_page()[tool]]
    root = tmp_path / commands[-1][1]
    MAKERS[tool](root)
    for command in commands:
        answer = call(*command, cwd=tmp_path)
        assert answer.code == 0, answer.err
    from_masks = "--tags-from-masks" in commands[-1]
    back = read_catalogue(DataConfig(root=str(root), tags_from_masks=from_masks))
    by_name = {entry.id.rpartition("/")[2]: entry for entry in back.entries}
    assert set(back.class_names) == {*CLASSES}
    has_splits = len(back.split_names) > 1 and "default" not in back.split_names
    for image in SET.images:
        entry = by_name[image.name]
        assert {back.class_names[k] for k in entry.labels} == {*image.boxes}
        assert entry.is_negative == (not image.boxes)
        assert ("train" in entry.splits) == (image.split == "train" or not has_splits)
        if entry.mask is not None:
            np.testing.assert_array_equal(back.read_mask(entry.id), image.mask(back.class_names))
    has_masks = all(entry.mask is not None for entry in back.split("val" if tool == "COCO" else "all").entries)
    assert has_masks == (commands[0][0] == "coco-masks" or from_masks or tool == "PASCAL VOC")
