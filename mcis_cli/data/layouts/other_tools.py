"""Files of other tools and formats that are not read, and what to export instead."""

from pathlib import Path

from mcis_cli.data.formats import JUNK_FOLDERS

_KINDS: tuple[tuple[str, str], ...] = (
    ("*.xls", "a spreadsheet; save it as CSV UTF-8"),
    ("*.xlsx", "a spreadsheet; save it as CSV UTF-8"),
    ("*.ods", "a spreadsheet; save it as CSV UTF-8"),
    ("*.zip", "an archive; unpack it"),
    ("*/*.csv", "a table; name its folder, if the images are there"),
    ("tags.txt", "a list; save it as tags.csv with columns image,tags"),
    ("labels.txt", "a list; save it as tags.csv with columns image,tags"),
    ("data.yaml", "of YOLO, whose numbers of classes are not read; export COCO"),
    ("*/labels/*.txt", "of YOLO, whose numbers of classes are not read; export COCO"),
    ("labels/*.txt", "of YOLO, whose numbers of classes are not read; export COCO"),
    ("labels/*/*.txt", "of YOLO, whose numbers of classes are not read; export COCO"),
    ("_darknet.labels", "of YOLO, whose numbers of classes are not read; export COCO"),
    ("*/_darknet.labels", "of YOLO, whose numbers of classes are not read; export COCO"),
    ("*/_annotations.createml.json", "of CreateML; export COCO"),
    ("*/*.tfrecord", "of TensorFlow; export COCO"),
    ("annotations.xml", "CVAT for images; export PASCAL VOC 1.1 or COCO 1.0"),
    ("*.xml", "XML; in the layout of VOC it is in Annotations/, and the images in JPEGImages/"),
    ("*/*.xml", "XML; in the layout of VOC it is in Annotations/, and the images in JPEGImages/"),
    ("*.json", "JSON of a kind that is not known; export COCO"),
    ("*/*.json", "JSON of a kind that is not known; export COCO"),
    ("*/ann/*.json", "of Supervisely; export COCO"),
)


def other_export(root: Path) -> str | None:
    """The first file of another tool in a folder, with what to do; or None."""
    for pattern, meaning in _KINDS:
        for file in sorted(root.glob(pattern)):
            below = file.relative_to(root)
            if JUNK_FOLDERS.isdisjoint(below.parts) and not any(part.startswith(".") for part in below.parts):
                return f"{below.as_posix()!r} there is {meaning}"
    return None
