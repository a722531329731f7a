"""Maps of other tools: which file is whose, and what is taken from it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mcis_cli.data.catalogue import ImageEntry
from mcis_cli.errors import DataError
from mcis_cli.interop.imports.map_files import MapFile, find_maps, stack_maps

CLASSES = ("cat", "dining_table", "dog")
MAPS = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)


def entry(*labels, image_id="a"):
    return ImageEntry(image_id, f"{image_id}.jpg", "", 8, 12, labels, frozenset())


def npy(value) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def stacked(folder, labels, content, name="a.npy", class_index=None):
    return stack_maps(entry(*labels), CLASSES, [(MapFile(folder / name, class_index), content)])


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_belong_to_images_by_their_names(tmp_path):
    names = ["x/a.npy", "b.npz", "c/cat.png", "c/2.png", "d_dining_table.png", "d_0.PNG", "2007_000032_dog.png"]
    touch(tmp_path, *names, "strange.npy", "c/cow.png", "readme.txt")
    found = find_maps(tmp_path, ["x/a", "b", "c", "d", "2007_000032", "e"], CLASSES)
    named = {
        image_id: {(file.path.relative_to(tmp_path).as_posix(), file.class_index) for file in files}
        for image_id, files in found.by_image.items()
    }
    assert named == {
        "x/a": {("x/a.npy", None)},
        "b": {("b.npz", None)},
        "c": {("c/cat.png", 0), ("c/2.png", 2)},
        "d": {("d_dining_table.png", 1), ("d_0.PNG", 0)},
        "2007_000032": {("2007_000032_dog.png", 2)},
    }
    assert set(found.strays) == {"strange.npy", "c/cow.png"}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.npy", "a.npz"], "two files for 'a'"),
        (["a.npy", "a_cat.png"], "maps of the same image and class"),
        (["a_cat.png", "a_0.png"], "maps of the same image and class"),
        (["a_cat.png", "a/cat.png"], "maps of the same image and class"),
    ],
)
def test_maps_that_are_there_twice_are_refused(tmp_path, names, found):
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=found):
        find_maps(tmp_path, ["a"], CLASSES)


def test_a_name_that_may_be_of_two_images_is_refused(tmp_path):
    touch(tmp_path, "a_cat_dog.png")
    with pytest.raises(DataError, match="may belong to"):
        find_maps(tmp_path, ["a", "a_cat"], (*CLASSES, "cat_dog"))


def test_no_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="no folder of maps"):
        find_maps(tmp_path / "none", ["a"], CLASSES)


SPELLINGS = {
    "all classes": npy(MAPS),
    "those of the tags": npy(MAPS[[0, 2]]),
    "indices": npy({0: MAPS[0], 2: MAPS[2], 1: MAPS[1]}),
    "names": npy({"dog": MAPS[2], "cat": MAPS[0]}),
    "keys and maps": npy({"keys": np.array([2, 0]), "high_res": MAPS[[2, 0]], "cam": MAPS[:2, ::2]}),
    "keys of torch": npy({"keys": torch.tensor([2, 0]), "high_res": MAPS[[2, 0]], "cam": torch.ones(2, 2, 2)}),
    "maps of torch": npy({"keys": torch.tensor([0, 2]), "cam": torch.from_numpy(MAPS[[0, 2]])}),
    "keys and maps of CLIP-ES": npy({"keys": np.array([2, 0]), "attn_highres": MAPS[[2, 0]].astype(np.float16)}),
    "keys and one other array": npy({"keys": np.array([0, 2], np.uint8), "refined": MAPS[[0, 2]], "threshold": 0.4}),
    "keys of torch beside one array": npy(
        {"keys": torch.tensor([2, 0]), "attn_highres": torch.from_numpy(MAPS[[2, 0]])}
    ),
    "tensors by name": npy({"dog": torch.from_numpy(MAPS[2]), "cat": torch.from_numpy(MAPS[0])}),
    "fortran order": npy(np.asfortranarray(MAPS)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_maps(tmp_path, spelling):
    maps = stacked(tmp_path, (0, 2), SPELLINGS[spelling])
    assert maps.dtype == np.float16
    np.testing.assert_array_equal(maps, MAPS[[0, 2]].astype(np.float16))


def test_archives_give_the_same_maps(tmp_path):
    content = npz(cat=MAPS[0], **{"2": MAPS[2]}, dining_table=MAPS[1])
    np.testing.assert_array_equal(stacked(tmp_path, (0, 2), content, "a.npz"), MAPS[[0, 2]].astype(np.float16))


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 255), (np.uint16, 65535)])
def test_images_give_values_between_0_and_1(tmp_path, dtype, scale):
    grey = (np.arange(24).reshape(4, 6) * (scale // 24)).astype(dtype)
    files = [(MapFile(tmp_path / f"a_{index}.png", index), png(grey)) for index in (2, 0)]
    maps = stack_maps(entry(0, 2), CLASSES, files)
    np.testing.assert_allclose(maps[0], grey / scale, atol=5e-4)


def test_an_image_without_tags_needs_no_map():
    assert stack_maps(entry(), CLASSES, []).shape == (0, 1, 1)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (npy(MAPS[:1]), "an array of the shape"),
        (npy(np.zeros((4, 2, 2))), r"an array of the shape \(4, 2, 2\); expected .* 3 classes"),
        (npy(np.zeros((3, 2))), "an array of the shape"),
        (npy(np.full((3, 2, 2), np.nan)), "values that are not finite"),
        (npy(np.full((3, 2, 2), np.inf)), "values that are not finite"),
        (npy(np.full((3, 2, 2), 7e4)), "a value beyond 65,504"),
        (npy(np.full((3, 2, 2), 2**60)), "a value beyond 65,504"),
        (npy(np.zeros((3, 0, 2))), "a map of the shape"),
        (npy(np.zeros((3, 1, 20_000))), "a map of the shape"),
        (npy({0: MAPS[0]}), "no map of 'dog', which the image is tagged with"),
        (npy({0: MAPS[0], 3: MAPS[1]}), "3 is no class; expected a name as in the data set, or 0 to 2"),
        (npy({0: MAPS[0], "cow": MAPS[1]}), "'cow' is no class"),
        (npy({0: MAPS[0], "cat": MAPS[1]}), "one class has two maps, by its name and by its index"),
        (npy({0: MAPS[0], 2: MAPS[2, :2]}), r"maps of the shapes \(2, 6\) and \(4, 6\)"),
        (npy({0: [[1.0]], 2: MAPS[2]}), "no array of numbers for 'cat'"),
        (npy({0: torch.ones(2, 2), 2: MAPS[2]}), r"maps of the shapes \(2, 2\) and \(4, 6\)"),
        (npy({"keys": np.array([0, 2]), "high_res": MAPS}), "3 maps for 2 keys"),
        (npy({"keys": np.array([0, 7]), "high_res": MAPS[:2]}), "7 is no class"),
        (npy({"keys": np.array([0, 2])}), "no array at 'high_res' or 'cam'"),
        (npy({"keys": torch.tensor([0]), "high_res": MAPS[:1]}), "no map of 'dog'"),
        (npy({"keys": [0, 2], "high_res": MAPS[[0, 2]]}), "no array at 'keys'"),
        (b"no array", "a head that NumPy cannot read"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_that_names_the_file(tmp_path, content, found):
    with pytest.raises(DataError, match=found) as error:
        stacked(tmp_path, (0, 2), content)
    assert str(tmp_path / "a.npy") in str(error.value)
    assert "\n" not in str(error.value)


def test_colours_are_no_map(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    with pytest.raises(DataError, match="colours; expected grey values"):
        stacked(tmp_path, (0,), png(colours), "a_cat.png", 0)
