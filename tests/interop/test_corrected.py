"""`mcis import --corrected`: masks that people corrected, from every tool to the same artifact; and what is refused."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_commands import Answer

from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.palette import voc_palette, write_mask_png
from mcis_cli.errors import DataError
from mcis_cli.interop.imports.corrected_files import ImageNames

CLASSES = ("disc", "star", "square")
RUNS = "0,3,1,2"  # of a box of 2 x 3 pixels: three of the object, one of the background, two of the object


@pytest.fixture(scope="module")
def corrected(chain) -> dict[str, np.ndarray]:
    """Two corrected masks: a square in one, a disc in the other."""
    masks = chain.made["pseudo"]
    found = {image_id: np.zeros_like(masks.read(image_id)["mask"]) for image_id in masks.ids[:2]}
    first, second = found.values()
    assert min(*first.shape, *second.shape) >= 48
    first[8:40, 10:46] = 3
    second[10:20, 30:44] = 1
    return found


def framed(image_id: str, mask: np.ndarray, content: str) -> str:
    """An image of CVAT's XML."""
    height, width = mask.shape
    return f'<image name="{image_id}.jpg" width="{width}" height="{height}">{content}</image>'


def rectangle(mask: np.ndarray) -> tuple[int, int, int, int, str]:
    """Left, top, right and bottom of the object of a mask, and its class."""
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, CLASSES[mask.max() - 1]


def corners(mask: np.ndarray) -> list[tuple[int, int]]:
    left, top, right, bottom, _ = rectangle(mask)
    return [(int(x), int(y)) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]


def palette_pngs(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for image_id, mask in masks.items():
        (folder / f"{image_id}.png").write_bytes(write_mask_png(mask))
    return folder


def grey_pngs(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for image_id, mask in masks.items():
        Image.fromarray(mask).save(folder / f"{image_id}.png")
    return folder


def coloured_pngs(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for image_id, mask in masks.items():
        Image.fromarray(voc_palette()[mask]).save(folder / f"{image_id}.png")
    return folder


def cvat_masks(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """CVAT's "Segmentation mask 1.1": its own colours, in an archive, with a label that nothing has."""
    colours = {
        "background": (0, 0, 0),
        "star": (9, 8, 7),
        "disc": (250, 50, 83),
        "other": (5, 5, 5),
        "square": (1, 2, 3),
    }
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in colours.items()]
        archive.writestr("labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
        for image_id, mask in masks.items():
            table = np.array([colours[name] for name in ("background", *CLASSES)], np.uint8)
            Image.fromarray(table[mask]).save(folder.with_suffix(".png"))
            archive.write(folder.with_suffix(".png"), f"SegmentationClass/{image_id}.png")
            archive.write(folder.with_suffix(".png"), f"SegmentationObject/{image_id}.png")
    return path


def cvat_images(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """CVAT's "CVAT for images 1.1": a polygon, and the same as run lengths; an image without a region is left out."""
    parts = ['<image name="nobody-annotated-it.jpg" width="72" height="48"></image>']
    for number, (image_id, mask) in enumerate(masks.items()):
        left, top, right, bottom, label = rectangle(mask)
        points = ";".join(f"{x}.00,{y}.00" for x, y in corners(mask))
        region = f'<polygon label="{label}" points="{points}" z_order="0"></polygon>'
        if number:
            box = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
            region = f'<mask label="{label}" rle="0, {(right - left) * (bottom - top)}" {box}></mask>'
        parts.append(framed(image_id, mask, region))
    path = folder.with_suffix(".xml")
    path.write_text(f"<annotations><version>1.1</version>{''.join(parts)}</annotations>")
    return path


def coco(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    images = [{"id": 7, "file_name": "nobody-annotated-it.jpg", "height": 48, "width": 72}]
    annotations = []
    for number, (image_id, mask) in enumerate(masks.items(), start=1):
        height, width = mask.shape
        images.append({"id": number, "file_name": f"{image_id}.jpg", "height": height, "width": width})
        outline = [value for corner in corners(mask) for value in corner]
        annotations.append(
            {"id": number, "image_id": number, "category_id": int(mask.max()), "segmentation": [outline], "iscrowd": 0}
        )
    categories = [{"id": 1 + place, "name": name} for place, name in enumerate(CLASSES)]
    path = folder.with_suffix(".json")
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def label_studio(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """Label Studio's JSON; a task that nobody submitted is left out."""
    tasks = [{"id": 9, "data": {"image": "nobody-annotated-it.jpg"}, "annotations": []}]
    for image_id, mask in masks.items():
        height, width = mask.shape
        points = [[100 * x / width, 100 * y / height] for x, y in corners(mask)]
        value = {"points": points, "polygonlabels": [rectangle(mask)[-1]]}
        region = {"type": "polygonlabels", "value": value, "original_width": width, "original_height": height}
        image = f"/data/upload/1/0a1b2c3d-{image_id}.jpg"
        tasks.append({"id": 1, "data": {"image": image}, "annotations": [{"result": [region]}]})
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(tasks))
    return path


WRITERS = (palette_pngs, grey_pngs, coloured_pngs, cvat_masks, cvat_images, coco, label_studio)


def take(call, chain, path: Path, *given: str) -> Answer:
    answer: Answer = call("import", "--corrected", path, chain.made["pseudo"].id, *given, cwd=chain.folder)
    return answer


@pytest.mark.parametrize("write", WRITERS)
def test_the_files_of_every_tool_become_the_same_masks(call, chain, corrected, tmp_path, write):
    answer = take(call, chain, write(tmp_path / "export", corrected), "--note", "by Ada", "--json")
    assert answer.code == 0, answer.err
    made = chain.store.get(json.loads(answer.out)["id"])
    assert (made.stage, made.ids) == ("corrected", tuple(corrected))
    for image_id, mask in corrected.items():
        np.testing.assert_array_equal(made.read(image_id)["mask"], mask)
    assert made.inputs["masks"] == chain.made["pseudo"].id
    assert (made.meta["note"], made.meta["class_names"]) == ("by Ada", list(CLASSES))
    again = take(call, chain, write(tmp_path / "again", corrected), "--note", "by Ada", "--json")
    assert json.loads(again.out) | {"seconds": 0} == json.loads(again.out) | {
        "seconds": 0,
        "id": made.id,
        "cached": True,
    }


def test_runs_of_a_box_are_rows_of_background_and_object_in_turn(call, chain, corrected, tmp_path):
    (image_id, _), *_ = corrected.items()
    region = f'<mask label="star" rle="{RUNS}" left="4" top="6" width="3" height="2"></mask>'
    path = tmp_path / "annotations.xml"
    path.write_text(f"<annotations>{framed(image_id, corrected[image_id], region)}</annotations>")
    made = chain.store.get(take(call, chain, tmp_path).lines[0])  # the folder that holds the file
    expected = np.zeros_like(corrected[image_id])
    expected[6:8, 4:7] = [[2, 2, 2], [0, 2, 2]]
    np.testing.assert_array_equal(made.read(image_id)["mask"], expected)


def test_images_in_folders_are_found_by_the_end_of_an_address():
    images = Catalogue(
        Path("here"), "table", ("cat",), tuple(entry_of(name) for name in ("left/a", "right/a", "right/b"))
    )
    names = ImageNames(images, "masks")
    assert names.find("/data/local-files/?d=images/right/a.jpg", "task 0") == "right/a"
    assert names.find("elsewhere/b.jpg", "task 1") == "right/b"
    with pytest.raises(DataError, match="may be 'left/a' or 'right/a'"):
        names.find("elsewhere/a.jpg", "task 2")


def entry_of(name: str) -> ImageEntry:
    return ImageEntry(
        id=name, image=f"{name}.jpg", digest="1" * 64, height=4, width=4, labels=(0,), splits=frozenset({"train"})
    )


def test_masks_that_nobody_touched_are_left_out(call, chain, corrected, tmp_path):
    masks = chain.made["pseudo"]
    same = {image_id: masks.read(image_id)["mask"] for image_id in masks.ids[2:5]}
    answer = take(call, chain, palette_pngs(tmp_path / "all", {**corrected, **same}))
    assert chain.store.get(answer.lines[0]).ids == tuple(corrected)
    assert f"mcis: left out: 3 masks as in {masks.path.stem}\n" in answer.err
    answer = take(call, chain, palette_pngs(tmp_path / "same", same))
    assert (answer.code, answer.out) == (2, "")
    assert f"every mask is as in {masks.path.stem}; expected corrected ones" in answer.err


def test_a_submitted_task_without_a_region_is_all_background(call, chain, corrected, tmp_path):
    (image_id, _), *_ = corrected.items()
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"id": 1, "data": {"image": f"{image_id}.jpg"}, "annotations": [{"result": []}]}]))
    made = chain.store.get(take(call, chain, path).lines[0])
    assert not made.read(image_id)["mask"].any()


def spoiled(folder: Path, image_id: str, plane: np.ndarray, fault: str) -> Path:
    """A folder or a file with one fault; `plane` is a mask without objects."""
    folder.mkdir()
    if fault == "unknown image":
        (folder / "elsewhere.png").write_bytes(write_mask_png(plane))
    elif fault == "wrong size":
        (folder / f"{image_id}.png").write_bytes(write_mask_png(plane[:-1]))
    elif fault == "unknown value":
        (folder / f"{image_id}.png").write_bytes(write_mask_png(plane + 4))
    elif fault == "unknown label":
        (folder / "labelmap.txt").write_text("background:0,0,0::\nhorse:1,1,1::\n")
        Image.fromarray(np.ones((*plane.shape, 3), np.uint8)).save(folder / f"{image_id}.png")
    elif fault == "unknown category":
        disc = plane.copy()
        disc[4:9, 4:9] = 1
        return replaced(coco(folder / "a", {image_id: disc}), '"disc"', '"horse"')
    elif fault == "an archive that leaves its folder":
        with zipfile.ZipFile(folder / "a.zip", "w") as archive:
            archive.writestr("../a.png", write_mask_png(plane))
        return folder / "a.zip"
    elif fault == "no archive":
        (folder / "a.zip").write_bytes(b"PK")
        return folder / "a.zip"
    elif fault == "a box":
        box = framed(image_id, plane, '<box label="disc" xtl="1"></box>')
        (folder / "annotations.xml").write_text(f"<annotations>{box}</annotations>")
    elif fault == "a torn run":
        mask = '<mask label="disc" rle="0,3,9" left="4" top="6" width="3" height="2"></mask>'
        (folder / "annotations.xml").write_text(f"<annotations>{framed(image_id, plane, mask)}</annotations>")
    elif fault == "absent":
        return folder / "nowhere"
    return folder


def replaced(file: Path, old: str, new: str) -> Path:
    file.write_text(file.read_text().replace(old, new))
    return file


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unknown image", "no image 'elsewhere' among the 16 of pseudo-"),
        ("wrong size", "; expected equal sizes; correct it, or export again"),
        ("unknown value", "mask value 4; expected 0 to 3 (3 classes) or 255"),
        ("unknown label", "is of 'horse' of labelmap.txt, which is no class; expected one of disc, square, star"),
        ("unknown category", "is of 'horse', which is no class; expected one of disc, square, star"),
        ("an archive that leaves its folder", "leaves its folder, expected a plain relative path; export again"),
        ("no archive", "found no archive"),
        ("a box", "is a <box>, which outlines nothing; expected a polygon or a mask"),
        ("a torn run", "has run lengths that do not fill its box in the image"),
        ("absent", "found nothing; expected a folder of PNG masks"),
        ("empty", "no masks; expected a folder of PNG masks"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(call, chain, tmp_path, fault, message):
    image_id, *_ = chain.made["pseudo"].ids
    plane = np.zeros_like(chain.made["pseudo"].read(image_id)["mask"])
    answer = take(call, chain, spoiled(tmp_path / "export", image_id, plane, fault))
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1), answer.err
    assert message in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--note", "by Ada", "--weights", "w.pth", "--backbone", "lite0"), "--note cannot be used with --weights"),
        (("--corrected", "a", "--saliency", "b"), "found --saliency and --corrected"),
        (("--corrected", "a", "MAPS"), "expected the pseudo masks that were corrected"),
        (("--corrected", "a", "MASKS", "MASKS"), "found 2, expected one of pseudo masks"),
        (("--corrected", "a", "MASKS", "--note", "x" * 1001), "--note has 1,001 characters"),
    ],
)
def test_flags_that_do_not_fit_are_refused(call, chain, arguments, message):
    ids = {"MAPS": chain.made["cams"].id, "MASKS": chain.made["pseudo"].id}
    answer = call("import", *(ids.get(word, word) for word in arguments), cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
