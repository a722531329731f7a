"""What a tag, a row and a list say: read as they were meant, or one line that says what to change."""

import unicodedata
from pathlib import Path

import pytest
from image_sets import encode, photo, write

from mcis_cli.config import DataConfig
from mcis_cli.data.check import survey
from mcis_cli.data.layouts.listing import Finding

CLASSES = ("cat", "dog", "horse")
JOINED = ("cat", "dog", "cat dog", "horse", "dog horse", "cat horse")
PLANET = ("clear primary", "cloudy primary", "clear water", "cloudy water", "haze primary water", "haze clear")


def shown(k: int) -> str:
    return CLASSES[k % 3]


def write_images(root: Path, count: int = 12, name: str = "images/{}.png") -> None:
    for k in range(count):
        write(root / name.format(k), encode(photo(k)))


def look(root: Path, **settings: object) -> tuple[dict[str, set[str]], dict[str, Finding]]:
    """Tags by image, and findings by code."""
    config = DataConfig(root=str(root), **settings)  # type: ignore[arg-type]
    catalogue, findings = survey(config, num_references=0, workers=0)
    tags = {} if catalogue is None else {e.id: {catalogue.class_names[k] for k in e.labels} for e in catalogue.entries}
    return tags, {finding.code: finding for finding in findings}


def table(root: Path, cell, header: str = "image,tags", count: int = 12) -> Path:
    """A table with the cell of each image."""
    write_images(root, count)
    write(root / "tags.csv", "\n".join([header, *(f"images/{k}.png,{cell(k)}" for k in range(count))]) + "\n")
    return root


@pytest.mark.parametrize(
    "cell",
    [
        lambda k: f"\"['{shown(k)}', 'horse']\"",
        lambda k: f'"[""{shown(k)}"", ""horse""]"',
        lambda k: f"\"('{shown(k)}', 'horse')\"",
        lambda k: f"['{shown(k)}' 'horse']",  # as NumPy prints it
        lambda k: f"\"{{'{shown(k)}', 'horse',}}\"",
        lambda k: f"{shown(k)};horse;",
        lambda k: f"|{shown(k)} | horse",
        lambda k: f'"{shown(k)}\nhorse"',  # two lines in a cell
        lambda k: f"{shown(k)}；horse",
        lambda k: f"{shown(k)}、 horse",
        lambda k: f"'{shown(k)}';'horse'",
    ],
)
def test_lists_and_separators_are_read(tmp_path, cell):
    tags, found = look(table(tmp_path, cell))
    assert tags == {f"images/{k}": {shown(k), "horse"} for k in range(12)}
    assert {code for code, finding in found.items() if finding.severity == "error"} == set()


@pytest.mark.parametrize("cell", [lambda k: "[]", lambda k: '""', lambda k: "background", lambda k: "None"])
def test_an_empty_list_is_a_negative(tmp_path, cell):
    tags, found = look(table(tmp_path, lambda k: shown(k) if k % 2 else cell(k)))
    assert not tags["images/0"]
    assert len(found["negatives"].ids) == 6


@pytest.mark.parametrize(
    "cell",
    [lambda k: f"[{shown(k)};horse]", lambda k: f"['{shown(k)}'", lambda k: shown(k) + "]", lambda k: f"[{shown(k)}]"],
)
def test_broken_lists_are_an_error(tmp_path, cell):
    _, found = look(table(tmp_path, cell))
    assert "begins or ends with a bracket" in found["bad-tag"].message


@pytest.mark.parametrize("names", [JOINED, PLANET, ("a", "b", "a b", "c", "d", "a c")])
def test_tags_joined_by_blanks_are_told(tmp_path, names):
    _, found = look(table(tmp_path, lambda k: names[k % 6]))
    assert "separate the tags of an image by ';'" in found["tags-joined"].message


@pytest.mark.parametrize(
    "names",
    [
        ("hot dog", "dog", "cat"),
        ("traffic light", "fire hydrant", "stop sign"),
        ("baseball bat", "baseball glove", "cat"),
        ("potted plant", "dining table", "tv"),
    ],
)
def test_names_of_two_words_are_no_joined_tags(tmp_path, names):
    _, found = look(table(tmp_path, lambda k: names[k % 3]))
    assert "tags-joined" not in found


@pytest.mark.parametrize("words", [("0", "1"), ("no", "yes"), ("False", "True"), ("absent", "present")])
def test_present_or_not_is_told_with_how_to_say_it(tmp_path, words):
    _, found = look(table(tmp_path, lambda k: words[k % 2], header="image,label"))
    assert "as in image,cat, with 1 and 0" in found["yes-no-tags"].message


@pytest.mark.parametrize("names", [("0", "1", "2"), ("1", "2"), ("cat", "no")])
def test_other_short_tags_are_fine(tmp_path, names):
    _, found = look(table(tmp_path, lambda k: names[k % len(names)]))
    assert "yes-no-tags" not in found


@pytest.mark.parametrize("tag", ["cat", "cat;", "cat;dog", "1"])
def test_one_tag_on_every_image_is_told(tmp_path, tag):
    _, found = look(table(tmp_path, lambda k: tag))
    assert "so nothing shows how other images differ" in found["one-tag"].message
    _, found = look(table(tmp_path, lambda k: tag if k else ""))
    assert "one-tag" not in found


@pytest.mark.parametrize(
    "twins", [("cat", "Cat"), ("cat", "c\u200bat"), ("caf\u00e9", "cafe\u0301"), ("cat", "\uff43\uff41\uff54")]
)
def test_names_that_look_the_same_are_told(tmp_path, twins):
    _, found = look(table(tmp_path, lambda k: twins[k % 2]))
    assert set(found["names-alike"].ids) == set(twins)


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nimage;tags\nimages/0.png;cat\nimages/1.png;dog\n",
        "image\ttags\nimages/0.png\tcat\nimages/1.png\tdog\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\nimages/0.png,9,6,cat,1,1,2,2\nimages/1.png,9,6,dog,1,1,2,2\n",
        "image,class\nimages/0.png,cat\nimages/1.png,dog\n",
        "image,tags,\nimages/0.png,cat,\nimages/1.png,dog,\n",
        "image,tags\nimages/0.png,cat,,\nimages/1.png,dog\n",
        "\ufeff,image,tags\n0,images/0.png,cat\n1,images/1.png,dog\n",
        "Unnamed: 0,image,cat,dog\n0,images/0.png,1,0\n1,images/1.png,0,1\n",
    ],
)
def test_tables_as_programs_write_them(tmp_path, text):
    write_images(tmp_path, 2)
    write(tmp_path / "tags.csv", text)
    tags, found = look(tmp_path)
    assert tags == {"images/0": {"cat"}, "images/1": {"dog"}}
    assert not [finding for finding in found.values() if finding.severity == "error"]


@pytest.mark.parametrize("header", [",image,cat,dog", "Unnamed: 0,image,cat,dog", " ,image,cat,dog"])
def test_a_column_without_a_name_is_named(tmp_path, header):
    write_images(tmp_path, 4)
    rows = (f"{k},images/{k}.png,{int(k % 2 == 0)},{k % 2}" for k in range(4))
    write(tmp_path / "tags.csv", "\n".join([header, *rows]) + "\n")
    tags, found = look(tmp_path)
    assert tags["images/0"] == {"cat"}
    assert "column 1 has no name and is not read" in found["unnamed-column"].message


@pytest.mark.parametrize(("here", "there"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("layout", ["table", "voc", "coco"])
def test_names_that_differ_by_composition_are_found(tmp_path, here, there, layout):
    names = [f"caf\u00e9{k}" for k in range(4)]
    folder = "JPEGImages" if layout == "voc" else "images"
    for k, name in enumerate(names):
        write(tmp_path / folder / f"{unicodedata.normalize(here, name)}.png", encode(photo(k)))
    listed = [unicodedata.normalize(there, name) for name in names]
    if layout == "table":
        write(
            tmp_path / "tags.csv",
            "image,tags\n" + "".join(f"images/{n}.png,{shown(k)}\n" for k, n in enumerate(listed)),
        )
    elif layout == "voc":
        write(tmp_path / "image_tags.txt", "".join(f"{name} {shown(k)}\n" for k, name in enumerate(listed)))
        write(tmp_path / "ImageSets/Segmentation/train.txt", "\n".join(listed))
    else:
        images = ",".join(f'{{"id": {k}, "file_name": "{name}.png"}}' for k, name in enumerate(listed))
        categories = ",".join(f'{{"id": {k}, "name": "{name}"}}' for k, name in enumerate(CLASSES))
        objects = ",".join(f'{{"image_id": {k}, "category_id": {k % 3}}}' for k in range(4))
        text = f'{{"images": [{images}], "categories": [{categories}], "annotations": [{objects}]}}'
        write(tmp_path / "annotations/instances_train.json", text)
    tags, found = look(tmp_path)
    assert list(tags.values()) == [{shown(k)} for k in range(4)]
    assert found["splits"].message == "splits: train 4"
    assert not [finding for finding in found.values() if finding.severity == "error"]


def voc(root: Path, tags: str | None, **lists: str) -> Path:
    write_images(root, 12, "JPEGImages/{}.png")
    if tags is not None:
        write(root / "image_tags.txt", tags)
    for name, text in lists.items():
        write(root / f"ImageSets/Segmentation/{name}.txt", text)
    return root


TAGS = "".join(f"{k} {shown(k)}\n" for k in range(12))


@pytest.mark.parametrize(
    "line", ["{} 1", "{} -1", "{} 0.5", "{}.png", "{}.jpg 1", "JPEGImages/{}.png SegmentationClass/{}.png"]
)
def test_lists_of_splits_are_lists_of_ids(tmp_path, line):
    lists = {"train": range(8), "val": range(8, 12)}
    voc(
        tmp_path, TAGS, **{name: "".join(line.replace("{}", str(k)) + "\n" for k in ids) for name, ids in lists.items()}
    )
    assert look(tmp_path)[1]["splits"].message == "splits: train 8, val 4"


def test_images_in_no_split_are_counted_and_named(tmp_path):
    voc(tmp_path, TAGS, train="0\n1\n2\n", val="3\n")
    assert look(tmp_path)[1]["in-no-split"].message.startswith("8 images in no split (the first is '10')")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{} potted plant, cat", {"potted plant", "cat"}),
        ("{} potted plant;cat", {"potted plant", "cat"}),
        ("{}, cat, dog", {"cat", "dog"}),
    ],
)
def test_files_of_tags_may_have_commas(tmp_path, line, expected):
    voc(tmp_path, "".join(line.format(k) + "\n" for k in range(11)) + "11 horse\n", train="0\n")
    assert look(tmp_path)[0]["0"] == expected


@pytest.mark.parametrize("name", ["potted plant", "dining table", "ice cream"])
def test_words_that_always_follow_each_other_are_told(tmp_path, name):
    voc(tmp_path, "".join(f"{k} {name if k % 2 else 'cat'}\n" for k in range(12)), train="0\n1\n")
    assert "if these are names of two words" in look(tmp_path)[1]["two-words"].message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('\n<?xml version="1.0"?><annotation/>', "not well-formed XML"),
        ("<annotation><object><name>cat</object></annotation>", "not well-formed XML"),
        ("<html><body>404</html>", "an HTML page"),
        ("<!DOCTYPE html><html></html>", "an HTML page"),
        ("", "not well-formed XML"),
        ("<annotations><image name='0.jpg'/></annotations>", "XML of <annotations>; expected <annotation>"),
        ("<annotation xmlns='x'><object><name>cat</name></object></annotation>", "XML of <{x}annotation>"),
        ("<annotation><object><label>cat</label></object></annotation>", "an object without <name>"),
    ],
)
def test_the_first_fault_of_annotations_is_named_first(tmp_path, text, named):
    voc(tmp_path, None, train="0\n")
    for k in range(12):
        write(tmp_path / f"Annotations/{k}.xml", text)
    assert f"0.xml: {named}" in look(tmp_path)[1]["no-image-set"].message


@pytest.mark.parametrize("joint", [" / ", "/", "+", " & ", " and ", " + "])
def test_tags_joined_by_signs_are_told(tmp_path, joint):
    _, found = look(table(tmp_path, lambda k: f"cat{joint}dog" if k % 3 == 0 else CLASSES[k % 3 - 1]))
    assert repr(f"cat{joint}dog") in found["tags-joined"].message


@pytest.mark.parametrize("name", ["fruit+veg", "salt and pepper", "AC/DC", "t-shirt", "ratio 1:2"])
def test_names_with_signs_are_fine(tmp_path, name):
    _, found = look(table(tmp_path, lambda k: name if k % 3 == 0 else shown(k)))
    assert not {"tags-joined", "yes-no-tags", "tags-of-nothing"} & {*found}


@pytest.mark.parametrize("words", [("0.0", "1.0"), ("-1", "1"), ("N", "Y"), ("False", "True")])
def test_other_answers_are_told_too(tmp_path, words):
    assert "name the column after it" in look(table(tmp_path, lambda k: words[k % 2]))[1]["yes-no-tags"].message


def test_answers_beside_the_names_are_told(tmp_path):
    message = look(table(tmp_path, lambda k: f"cat:{k % 2};dog=1"))[1]["yes-no-tags"].message
    assert message.startswith("tags with an answer in them: 'cat:0', 'cat:1', 'dog=1'")


@pytest.mark.parametrize("word", ["nan", "NULL", "N/A", "-", "unknown", "Unlabelled"])
def test_words_for_no_tag_are_told(tmp_path, word):
    assert repr(word) in look(table(tmp_path, lambda k: word if k < 2 else shown(k)))[1]["tags-of-nothing"].message


@pytest.mark.parametrize(
    ("header", "cell"),
    [
        ("image,labels,is_valid", lambda k: f"{shown(k)},{k > 8}"),
        ("image,labels,is_val", lambda k: f"{shown(k)},{int(k > 8)}"),
        ("image,labels,Subset", lambda k: f"{shown(k)},{'Validation' if k > 8 else 'Training'}"),
        ("image,set,labels", lambda k: f"{'val' if k > 8 else 'train'},{shown(k)}"),
        ("image,cat,dog,phase", lambda k: f"1,0,{'valid' if k > 8 else 'train'}"),
    ],
)
def test_a_column_of_splits_may_have_another_name(tmp_path, header, cell):
    assert look(table(tmp_path, cell, header))[1]["splits"].message == "splits: train 9, val 3"


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_numbers_the_rows_is_no_class(tmp_path, first):
    root = table(tmp_path, lambda k: f"{k + first},{k % 2},{1 - k % 2}", "image,index,cat,dog")
    tags, found = look(root)
    assert tags["images/3"] == {"cat"}
    assert "column 2 only numbers the rows and is not read" in found["unnamed-column"].message


@pytest.mark.parametrize("name", ["confidence", "Value", "score"])
def test_a_column_of_values_beside_the_tags_is_told(tmp_path, name):
    found = look(table(tmp_path, lambda k: f"{shown(k)},{k % 2}", f"image,label,{name}"))[1]
    assert f"the column {name!r} is not read" in found["column-of-values"].message


def test_a_table_of_boxes_without_a_header_is_told_so(tmp_path):
    root = table(tmp_path, lambda k: f"1,1,9,9,{shown(k)}", header="images/0.png,1,1,9,9,cat")
    assert "no header above the first row" in look(root)[1]["no-image-set"].message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "an HTML page, not the file itself"),
        (b"PK\x03\x04\x14\0\xff", "a spreadsheet or an archive by its content"),
    ],
)
@pytest.mark.parametrize("file", ["tags.csv", "annotations/instances_train.json", "classes.txt", "images/3.png"])
def test_what_is_not_the_file_itself_is_named(tmp_path, content, told, file):
    root = table(tmp_path, shown)
    if file.endswith("json"):
        (root / "tags.csv").unlink()
    write(root / file, content)
    found = look(root)[1]
    message = next(finding.message for finding in found.values() if finding.severity == "error")
    if content[:2] == b"PK" and not file.endswith(("csv", "txt")):
        told = "not JSON" if file.endswith("json") else "not a readable image"
    assert f"{Path(file).name}: " in message
    assert told in message


@pytest.mark.parametrize(
    "line", ["{},1", "{};0", "C:\\VOC\\JPEGImages\\{}.jpg", "/data/JPEGImages/{}.jpg", "{}.JPG\t1"]
)
def test_lists_of_other_systems_are_lists_of_ids(tmp_path, line):
    lists = {"train": range(8), "val": range(8, 12)}
    texts = {name: "".join(line.replace("{}", str(k)) + "\n" for k in ids) for name, ids in lists.items()}
    assert look(voc(tmp_path, TAGS, **texts))[1]["splits"].message == "splits: train 8, val 4"


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("trainval", "test")])
def test_lists_may_lie_beside_the_images(tmp_path, train, val):
    voc(tmp_path, TAGS)
    write(tmp_path / f"{train}.txt", "".join(f"{k}\n" for k in range(8)))
    write(tmp_path / f"{val}.txt", "".join(f"{k}.jpg\n" for k in range(8, 12)))
    write(tmp_path / "notes.txt", "not a list\n")
    listed = f"splits: {', '.join(sorted((f'{train} 8', f'{val} 4')))}"
    assert look(tmp_path)[1]["splits"].message == listed


@pytest.mark.parametrize(
    "line", ["{}, {}", "{},{}", "{}: {}", "JPEGImages/{}.png {}", "C:\\a\\{}.jpg {}", "{} ['{}']", '{} ["{}", "dog"]']
)
def test_files_of_tags_as_people_write_them(tmp_path, line):
    names = ("cat", "horse")
    text = "".join(line.replace("{}", str(k), 1).replace("{}", names[k % 2]) + "\n" for k in range(12))
    tags = look(voc(tmp_path, f"# image, tags\n{text}", train="0\n"))[0]
    assert tags == {str(k): {names[k % 2]} | ({"dog"} if "dog" in line else set()) for k in range(12)}


@pytest.mark.parametrize("line", ["{} ['cat', dog]", "{} [cat dog]"])
def test_broken_lists_in_files_of_tags_are_an_error(tmp_path, line):
    root = voc(tmp_path, "".join(line.format(k) + "\n" for k in range(12)), train="0\n")
    assert "begins or ends with a bracket or quote" in look(root)[1]["bad-tag"].message
