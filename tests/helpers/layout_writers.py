"""One image set in every layout that can be written by hand: for the test that all of them read as the same set."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from image_sets import encode, write
from numpy import ndarray

from mcis_cli.data.palette import voc_palette, write_mask_png


@dataclass(frozen=True)
class Drawn:
    """An image: its name, split, boxes by class (left, top, right, bottom), and its size."""

    name: str
    split: str
    boxes: Mapping[str, tuple[int, int, int, int]]
    height: int
    width: int

    def pixels(self) -> ndarray:
        """Pixels that no other image of the set has."""
        return np.random.default_rng(list(self.name.encode())).integers(
            0, 256, (self.height, self.width, 3), dtype=np.uint8
        )

    def mask(self, classes: tuple[str, ...]) -> ndarray:
        """Boxes do not overlap."""
        mask = np.zeros((self.height, self.width), np.uint8)
        for name, (left, top, right, bottom) in self.boxes.items():
            mask[top:bottom, left:right] = classes.index(name) + 1
        return mask


@dataclass(frozen=True)
class DrawnSet:
    """Images, and the classes in the order of the mask values."""

    images: tuple[Drawn, ...]
    classes: tuple[str, ...]

    def of(self, split: str) -> list[Drawn]:
        """The images of a split."""
        return [image for image in self.images if image.split == split]

    @property
    def splits(self) -> list[str]:
        """All splits, sorted."""
        return sorted({image.split for image in self.images})


def _rows(*rows: list[object]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def _masks(root: Path, drawn: DrawnSet, folder: str, prefix: Callable[[Drawn], str] = lambda image: "") -> None:
    for image in drawn.images:
        write(root / folder / f"{prefix(image)}{image.name}.png", write_mask_png(image.mask(drawn.classes)))


def _classes(root: Path, drawn: DrawnSet, first: str = "background") -> None:
    write(root / "classes.txt", "\n".join([first, *drawn.classes]) + "\n")


def write_voc_tags(root: Path, drawn: DrawnSet) -> None:
    """VOC with a file of tags, separated by commas, and labelmap.txt in place of classes.txt."""
    lines = []
    for image in drawn.images:
        write(root / f"JPEGImages/{image.name}.png", encode(image.pixels()))
        lines.append(f"{image.name} {', '.join(image.boxes)}{',' if image.boxes else ''}\n")
    write(root / "image_tags.txt", "".join(lines))
    for split in drawn.splits:
        ids = "".join(f"{image.name} 1\n" for image in drawn.of(split))
        write(root / f"ImageSets/Segmentation/{split}.txt", ids)
    palette = voc_palette().tolist()
    colours = [f"{name}:{','.join(map(str, palette[k + 1]))}::\n" for k, name in enumerate(drawn.classes)]
    write(root / "labelmap.txt", "".join(["# label:color_rgb:parts:actions\n", "background:0,0,0::\n", *colours]))
    _masks(root, drawn, "SegmentationClass")


def write_voc_annotations(root: Path, drawn: DrawnSet) -> None:
    """VOC with annotations in XML and masks in colours, as CVAT exports them."""
    palette, colours = voc_palette(), []
    for k, name in enumerate(drawn.classes):
        colours.append(f"{name}:{','.join(map(str, palette[k + 40].tolist()))}::\n")
    table = np.zeros((256, 3), np.uint8)
    table[1 : len(drawn.classes) + 1] = palette[40 : 40 + len(drawn.classes)]
    for image in drawn.images:
        write(root / f"JPEGImages/{image.name}.png", encode(image.pixels()))
        objects = "".join(f"<object><name>{name}</name></object>" for name in image.boxes)
        write(root / f"Annotations/{image.name}.xml", f"<annotation>{objects}</annotation>")
        write(root / f"SegmentationClass/{image.name}.png", encode(table[image.mask(drawn.classes)]))
    for split in drawn.splits:
        write(root / f"ImageSets/Main/{split}.txt", "".join(f"{image.name}.png\n" for image in drawn.of(split)))
    write(root / "labelmap.txt", "".join(["background:0,0,0::\n", *colours]))


def write_table(root: Path, drawn: DrawnSet) -> None:
    """A table with a column of tags."""
    rows: list[list[object]] = [["image", "tags", "split"]]
    for image in drawn.images:
        write(root / f"images/{image.name}.png", encode(image.pixels()))
        rows.append([f"images/{image.name}.png", ";".join(image.boxes), image.split])
    write(root / "tags.csv", _rows(*rows))
    _classes(root, drawn)
    _masks(root, drawn, "masks/images")


def write_lists(root: Path, drawn: DrawnSet) -> None:
    """A table with tags as Python writes lists, tabs, and labelme's name of the background."""
    lines = ["filename\twidth\tclass\tsplit"]
    for image in drawn.images:
        write(root / f"images/{image.name}.png", encode(image.pixels()))
        lines.append(f"images/{image.name}.png\t{image.width}\t{[*image.boxes]}\t{image.split}")
    write(root / "tags.csv", "\n".join(lines) + "\n")
    _classes(root, drawn, "_background_")
    _masks(root, drawn, "masks/images")


def write_list(root: Path, drawn: DrawnSet) -> None:
    """A list of paths, with tags after them; it has no splits."""
    lines = []
    for image in drawn.images:
        write(root / f"images/{image.name}.png", encode(image.pixels()))
        lines.append(f"images/{image.name}.png\t{', '.join(image.boxes)}{',' if image.boxes else ''}\n")
    write(root / "list.txt", "".join(lines))
    _classes(root, drawn)
    _masks(root, drawn, "masks/images")


def add_member(archive: tarfile.TarFile, name: str, content: bytes | str) -> None:
    """Add a file to an archive."""
    content = content.encode() if isinstance(content, str) else content
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def pack(file: Path, members: Mapping[str, bytes | str]) -> Path:
    """Make an archive of files by name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            add_member(archive, name, content)
    return file


def write_shards(root: Path, drawn: DrawnSet) -> None:
    """Tar shards of WebDataset, with numbers of classes, masks, and the split in the name."""
    for split in drawn.splits:
        with tarfile.open(root / f"set-{split}-000.tar", "w", format=tarfile.GNU_FORMAT) as archive:
            for image in drawn.of(split):
                add_member(archive, f"./{image.name}.png", encode(image.pixels()))
                add_member(archive, f"./{image.name}.cls", " ".join(str(drawn.classes.index(b)) for b in image.boxes))
                add_member(archive, f"./{image.name}.seg.png", write_mask_png(image.mask(drawn.classes)))
    _classes(root, drawn)


def write_shards_with_names(root: Path, drawn: DrawnSet) -> None:
    """A shard in another folder for each split, with names of classes in JSON."""
    for split in drawn.splits:
        (root / split).mkdir(exist_ok=True)
        with tarfile.open(root / split / "0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            add_member(archive, "images/.DS_Store", "")
            for image in drawn.of(split):
                add_member(archive, f"images/{image.name}.json", json.dumps({"tags": [*image.boxes]}))
                add_member(archive, f"images/{image.name}.bmp", encode(image.pixels(), "BMP"))
                add_member(archive, f"images/{image.name}.png", write_mask_png(image.mask(drawn.classes)))
    _classes(root, drawn)


def write_multi_hot(root: Path, drawn: DrawnSet) -> None:
    """A table with a column of 0 and 1 for each class, and the index that pandas writes."""
    rows: list[list[object]] = [["", "image", *drawn.classes, "split"]]
    for number, image in enumerate(drawn.images):
        write(root / f"images/{image.name}.png", encode(image.pixels()))
        flags = [int(name in image.boxes) for name in drawn.classes]
        rows.append([number, f"images/{image.name}.png", *flags, image.split])
    write(root / "tags.csv", _rows(*rows))
    _masks(root, drawn, "masks")


def _coco(drawn: DrawnSet, images: list[Drawn], *, polygons: bool) -> str:
    listed, annotations = [], []
    for number, image in enumerate(images):
        listed.append({"id": number, "file_name": f"{image.name}.png", "width": image.width, "height": image.height})
        for name, (left, top, right, bottom) in image.boxes.items():
            outline = [[left, top, right, top, right, bottom, left, bottom]]
            one = {"id": len(annotations), "image_id": float(number), "category_id": drawn.classes.index(name) + 1}
            annotations.append({**one, "bbox": [left, top], "iscrowd": 0, "segmentation": outline if polygons else []})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(drawn.classes)]
    group = {"id": 0, "name": "things", "supercategory": "none"}
    return json.dumps({"images": listed, "categories": [group, *categories], "annotations": annotations})


def write_coco(root: Path, drawn: DrawnSet) -> None:
    """COCO, a file for each split."""
    for image in drawn.images:
        write(root / f"images/{image.name}.png", encode(image.pixels()))
    for split in drawn.splits:
        write(root / f"annotations/instances_{split}2017.json", _coco(drawn, drawn.of(split), polygons=True))


def write_coco_by_content(root: Path, drawn: DrawnSet) -> None:
    """COCO in files of other names, with photographs in a folder of FiftyOne."""
    for image in drawn.images:
        write(root / f"data/{image.name}.png", encode(image.pixels()))
    for split in drawn.splits:
        write(root / f"annotations/{split}_annotations.json", _coco(drawn, drawn.of(split), polygons=True))


def write_voc_lists(root: Path, drawn: DrawnSet) -> None:
    """VOC with tags as lists, lists of paths beside the images, and names of files in capitals."""
    lines = []
    for image in drawn.images:
        write(root / f"JPEGImages/{image.name}.png", encode(image.pixels()))
        lines.append(f"JPEGImages/{image.name}.png {[*image.boxes]}\n")
    write(root / "Image_Tags.txt", "# image, tags\n" + "".join(lines))
    for split in drawn.splits:
        write(root / f"{split}.txt", "".join(f"C:\\set\\JPEGImages\\{image.name}.png,1\n" for image in drawn.of(split)))
    write(root / "Classes.txt", "\n".join(["BG", *drawn.classes]) + "\n")
    _masks(root, drawn, "SegmentationClass")


def write_table_of_fastai(root: Path, drawn: DrawnSet) -> None:
    """A table of true and false, with `is_valid`, and a name for the column that numbers the rows."""
    rows: list[list[object]] = [["index", "image", *drawn.classes, "is_valid"]]
    for number, image in enumerate(drawn.images, start=1):
        write(root / f"images/{image.name}.png", encode(image.pixels()))
        flags = [str(name in image.boxes) for name in drawn.classes]
        rows.append([number, f"images\\{image.name}.png", *flags, image.split == "val"])
    write(root / "tags.csv", _rows(*rows))
    _masks(root, drawn, "masks/images")


def write_roboflow(root: Path, drawn: DrawnSet) -> None:
    """Roboflow's COCO: a folder for each split, `valid` for val."""
    for split in drawn.splits:
        folder = root / {"val": "valid"}.get(split, split)
        for image in drawn.of(split):
            write(folder / f"{image.name}.png", encode(image.pixels()))
        write(folder / "_annotations.coco.json", _coco(drawn, drawn.of(split), polygons=True))


def write_roboflow_csv(root: Path, drawn: DrawnSet) -> None:
    """Roboflow's table of 0 and 1, a folder for each split."""
    for split in drawn.splits:
        folder = {"val": "valid"}.get(split, split)
        rows: list[list[object]] = [["filename", *(f" {name}" for name in drawn.classes)]]
        for image in drawn.of(split):
            write(root / folder / f"{image.name}.png", encode(image.pixels()))
            rows.append([f"{image.name}.png", *(f" {int(name in image.boxes)}" for name in drawn.classes)])
        write(root / folder / "_classes.csv", _rows(*rows))
    _masks(root, drawn, "masks", lambda image: f"{ {'val': 'valid'}.get(image.split, image.split) }/")


def write_labelme(root: Path, drawn: DrawnSet) -> None:
    """labelme: a JSON file beside each image, a folder for each split."""
    for image in drawn.images:
        write(root / f"{image.split}/{image.name}.png", encode(image.pixels()))
        shapes = [
            {"label": name, "shape_type": "rectangle", "points": [[left, top], [right, bottom]]}
            for name, (left, top, right, bottom) in image.boxes.items()
        ]
        size = {"imageHeight": image.height, "imageWidth": image.width}
        table = {"version": "5", "flags": {}, "shapes": shapes, "imagePath": f"{image.name}.png", **size}
        write(root / f"{image.split}/{image.name}.json", json.dumps({**table, "imageData": None}))
    write(root / "class_names.txt", "\n".join(["__ignore__", "_background_", *drawn.classes]) + "\n")


def write_label_studio(root: Path, drawn: DrawnSet) -> None:
    """Label Studio's JSON, with polygons in percent; it has no splits."""
    tasks = []
    for number, image in enumerate(drawn.images):
        write(root / f"images/{image.name}.png", encode(image.pixels()))
        result = []
        for name, (left, top, right, bottom) in image.boxes.items():
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            points = [[100 * x / image.width, 100 * y / image.height] for x, y in corners]
            size = {"original_width": image.width, "original_height": image.height}
            result.append({"type": "polygonlabels", **size, "value": {"points": points, "polygonlabels": [name]}})
        reference = f"/data/upload/1/0123abcd-{image.name}.png"
        tasks.append({"id": number, "data": {"image": reference}, "annotations": [{"result": result}]})
    write(root / "project-1.json", json.dumps(tasks))
    _classes(root, drawn)


def write_folders(root: Path, drawn: DrawnSet) -> None:
    """A folder for each class in one for each split; images of one class or none."""
    for image in drawn.images:
        (name,) = image.boxes or ("background",)
        write(root / f"{image.split}/{name}/{image.name}.png", encode(image.pixels()))
    _classes(root, drawn, "Background")
    for image in drawn.images:
        (name,) = image.boxes or ("background",)
        write(root / f"masks/{image.split}/{name}/{image.name}.png", write_mask_png(image.mask(drawn.classes)))


Writer = Callable[[Path, DrawnSet], None]
WRITERS: Mapping[str, tuple[str, Writer]] = {
    "voc, tags": ("voc", write_voc_tags),
    "voc, annotations": ("voc", write_voc_annotations),
    "table": ("table", write_table),
    "table, lists": ("table", write_lists),
    "table, 0 and 1": ("table", write_multi_hot),
    "list": ("list", write_list),
    "shards": ("shards", write_shards),
    "shards, names": ("shards", write_shards_with_names),
    "table, is_valid": ("table", write_table_of_fastai),
    "voc, lists": ("voc", write_voc_lists),
    "coco": ("coco", write_coco),
    "coco, by content": ("coco", write_coco_by_content),
    "roboflow, coco": ("roboflow", write_roboflow),
    "roboflow, csv": ("roboflow", write_roboflow_csv),
    "labelme": ("labelme", write_labelme),
    "label-studio": ("label-studio", write_label_studio),
}
