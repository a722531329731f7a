"""`mcis report`: one page about the tiny chain, without a word of markup that is not its own."""

import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hostile_names import BIDI, some_name
from sizes import size

from mcis_cli.config import DataConfig
from mcis_cli.data.palette import voc_palette
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.maps.localization import enlarge
from mcis_cli.report import figures
from mcis_cli.report.coverage import Coverage, coverage_of
from mcis_cli.report.metrics_log import read_log
from mcis_cli.report.plotting import chart
from mcis_cli.report.scores import image_score, read_scores
from mcis_cli.stages.plan.lineage import SALIENCY_GIVEN

QUICK = ("--no-attention", "--no-predictions", "-q")
VOID = {"meta", "img", "input", "link", "br", "hr", "path", "circle", "rect", "use"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text; what is opened has to be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def skeleton(self) -> list[tuple[str, ...]]:
        """Elements and names of their attributes, without what they say."""
        return [(tag, *attributes) for tag, attributes in self.elements]

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of the elements of a class."""
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]


def asks_for_nothing(text: str) -> None:
    """No address in it is one of elsewhere."""
    page = Page(text)
    policy = next(attributes for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes)
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form") or attributes.get("id") == "filters"
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/webp;base64,")), attributes
    assert set(re.findall(r"url\((.{0,23})", text)) <= {"data:image/webp;base64,", "#arrow)"} | set(
        re.findall(r"url\((#arrow\).{0,16})", text)
    )
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.slow
def test_the_page_of_a_chain_shows_each_part(call, chain_copy, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    answer = call(
        "report", "--device", "cpu", "--images", "6", "--references", "2", "--output", target, cwd=chain_copy.folder
    )
    assert answer.code == 0, answer.err
    assert answer.out == f"{target}\n"
    text = target.read_text(encoding="utf-8")
    asks_for_nothing(text)
    page = Page(text)
    assert not page.open
    for artifact in chain_copy.made.values():
        assert artifact.id[:12] in page.texts
    assert len(page.of_class("card")) == 6
    assert len(page.of_class("attended")) == 2
    assert len(page.of_class("sprite")) == 4  # two references each
    assert len(page.of_class("plot")) == 2  # both trainings; maps were not scored
    assert f"trained on pseudo masks; without CRF; scales 1; without mirror; {SALIENCY_GIVEN}." in text
    shown = {tile["data-title"] for tile in page.of_class("tile") if "data-title" in tile}
    assert shown == {"photograph", "pseudo mask", "prediction", "ground truth", "map"}


def test_images_come_first_and_hashes_last(call, chain) -> None:
    assert call("report", *QUICK, cwd=chain.folder).code == 0
    text = (chain.folder / "report.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([a-z]+)"', text)
    assert sections[0] == "gallery"
    assert sections[-1] == "run"
    before_the_run = text[text.index("<main") : text.index('<section id="run"')]
    for digest in (chain.made["pseudo"].meta["dataset"], *(artifact.id for artifact in chain.made.values())):
        assert digest[:12] not in before_the_run


def test_what_is_empty_is_not_shown(call, chain_copy) -> None:
    assert call("report", chain_copy.made["train-cls"].id, *QUICK, cwd=chain_copy.folder).code == 0
    page = Page((chain_copy.folder / "report.html").read_text(encoding="utf-8"))
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["curves", "run"]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a" and "data-do" not in attributes]
    assert links == ["#main", "#curves", "#run"]
    told = "".join(page.texts)
    assert not re.search(r"\b0 masks", told)
    assert "Scores: this run has none" in told


def test_the_sheet_has_each_photograph_once_and_pictures_of_known_sizes(call, chain) -> None:
    assert call("report", *QUICK, cwd=chain.folder).code == 0
    page = Page((chain.folder / "report.html").read_text(encoding="utf-8"))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(page.of_class("open")) == len(page.of_class("card")) > 0
    for picture in pictures:
        assert int(picture["width"] or 0) * int(picture["height"] or 0) > 0
        assert (picture["loading"], picture["decoding"]) == ("lazy", "async")
    numbers = [picture["data-photo"] for picture in pictures if "data-photo" in picture]
    with_bytes = [picture["data-photo"] for picture in pictures if "data-photo" in picture and "src" in picture]
    assert sorted(with_bytes) == sorted(set(numbers))
    assert len(numbers) > len(with_bytes)


def test_the_smallest_class_of_a_mask_says_how_doubtful_it_is() -> None:
    mask = np.zeros((4, 10), np.uint8)
    mask[0] = 2
    mask[1, :5] = 255
    names = ["cat", "dog"]
    assert coverage_of(mask, (1,)) == Coverage(2, 10 / 40)
    assert coverage_of(mask, (1,)).in_words(names) == "dog covers 25 %"
    assert coverage_of(mask, (0, 1)) == Coverage(1, 0.0)  # a tag without a pixel
    assert coverage_of(mask, (0, 1)).in_words(names) == "no pixel of cat"
    mask[:, 1:] = 2  # 4 of 40 pixels are another class, of which one is the background's
    mask[1:, 0] = (0, 255, 255)
    assert coverage_of(mask, (1,)) == Coverage(0, 1 / 40)
    assert coverage_of(mask, (1,)).in_words(names) == "background covers 2.5 %"
    assert coverage_of(np.zeros((4, 10), np.uint8), ()) == Coverage(0, 1.0)  # a negative


def test_without_scores_the_most_doubtful_masks_are_shown(call, chain_copy) -> None:
    shutil.rmtree(chain_copy.folder / "shapes/SegmentationClass")
    masks, images = chain_copy.made["pseudo"], chain_copy.images()
    shares = {one: coverage_of(masks.read(one)["mask"], images[one].labels).share for one in masks.ids}
    assert call("report", masks.id, *QUICK, "--images", "6", "--data", "shapes", cwd=chain_copy.folder).code == 0
    page = Page((chain_copy.folder / "report.html").read_text(encoding="utf-8"))
    shown = {str(card["data-name"]) for card in page.of_class("card")}
    assert len(shown) == 6
    assert set(sorted(shares, key=lambda one: (shares[one], one))[:2]) <= shown
    assert not any(card["data-score"] for card in page.of_class("card"))


def test_each_image_of_the_sheet_has_a_reason(call, chain) -> None:
    assert call("report", *QUICK, cwd=chain.folder).code == 0
    page = Page((chain.folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.of_class("reason")) == len(page.of_class("card"))
    assert all(card["data-doubt"] and card["data-score"] for card in page.of_class("card"))


def heading_of(path: Path) -> str:
    found = re.search(r"<h1>(.*?)</h1>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())


def test_compared_runs_are_named_by_what_differs(call, chain, tmp_path: Path) -> None:
    other = call("cams", "--refs", "0", "-q", "--workers", "0", cwd=chain.folder)
    assert other.code == 0, other.err
    target = tmp_path / "two.html"
    assert call("report", "--compare", other.lines[0], chain.made["cams"].id, "-o", target, cwd=chain.folder).code == 0
    assert heading_of(target) == "A refs 0 B refs 2"
    rows = re.findall(r"<tr><td>(.*?)</td><th scope=\"row\">(.*?)</th>", target.read_text(encoding="utf-8"))
    assert rows == [("cams", "refs")]  # the list of references follows from it


def test_masks_without_scores_are_compared_by_their_pixels(call, chain_copy, tmp_path: Path) -> None:
    masks = chain_copy.made["pseudo"]
    other = call("pseudo", chain_copy.made["cams"].id, "--background", "constant", "-q", cwd=chain_copy.folder)
    assert other.code == 0, other.err
    target = tmp_path / "two.html"
    assert call("report", "--compare", masks.id, other.lines[0], "-o", target, cwd=chain_copy.folder).code == 0
    assert heading_of(target).startswith("A background saliency")
    page = Page(target.read_text(encoding="utf-8"))
    assert page.of_class("card")
    second = chain_copy.store.get(other.lines[0])
    for card in page.of_class("card"):
        name = card["data-name"]
        differ = (masks.read(name)["mask"] != second.read(name)["mask"]).mean()
        assert float(card["data-score"] or 0) == pytest.approx(-differ, abs=1e-4)


def test_maps_that_were_scored_show_that_ground_truth_chose_the_threshold(call, chain_copy) -> None:
    answer = call("eval", chain_copy.made["cams"].path, "-q", "--workers", "0", cwd=chain_copy.folder)
    assert answer.code == 0
    assert call("report", *QUICK, cwd=chain_copy.folder).code == 0
    text = (chain_copy.folder / "report.html").read_text(encoding="utf-8")
    assert "Chosen with ground truth." in text
    assert len(Page(text).of_class("plot")) == 3


def chain_of(folder: Path) -> tuple[list[str], str]:
    """The facts in the boxes of the diagram of the chain, and the text of the page."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return re.findall(r'<text class="facts"[^>]*>([^<]*)<', text), " ".join("".join(Page(text).texts).split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "beside", "facts", "told"),
    [
        ("cams", True, ["background constant · soft", "asked {}"], "These masks were also made with the network {}"),
        ("train-seg", False, ["of network {}"], "These masks were made with the network {}"),
    ],
)
def test_the_picture_of_a_second_round_names_the_network(call, chain, of, beside, facts, told) -> None:
    network = chain.made["train-seg"].id[:12]
    given = ("--background", "constant", "--fusion", "soft", "--network", network) if beside else ()
    masks = call("pseudo", chain.made[of].id, "--workers", "0", *given, cwd=chain.folder)
    assert masks.code == 0, masks.err
    assert call("report", masks.lines[0], *QUICK, cwd=chain.folder).code == 0
    drawn, text = chain_of(chain.folder)
    assert "\n".join(facts).format(network) in "\n".join(drawn)  # scores of others may have a box behind
    assert f"{told.format(network)}: mcis report {network} shows its run." in text
    assert call("report", *QUICK, cwd=chain.folder).code == 0  # the first round's
    assert "These masks were" not in chain_of(chain.folder)[1]


def test_a_report_writes_one_file_and_is_the_same_twice(call, chain_copy) -> None:
    store = chain_copy.folder / ".mcis"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and "locks" not in path.parts}
    assert call("report", *QUICK, cwd=chain_copy.folder).code == 0
    first = (chain_copy.folder / "report.html").read_bytes()
    assert call("report", *QUICK, cwd=chain_copy.folder).code == 0  # a page of ours may be written anew
    assert (chain_copy.folder / "report.html").read_bytes() == first
    assert {path: path.read_bytes() for path in before} == before
    assert set(before) == {path for path in store.rglob("*") if path.is_file() and "locks" not in path.parts}


def test_other_files_are_not_written_over(call, chain, tmp_path: Path) -> None:
    target = tmp_path / "mine.html"
    target.write_text("<!doctype html><p>mine")
    answer = call("report", *QUICK, "--output", target, cwd=chain.folder)
    assert answer.code == 2
    assert "give --force" in answer.err
    assert call("report", *QUICK, "--output", tmp_path, cwd=chain.folder).code == 2
    assert target.read_text() == "<!doctype html><p>mine"
    assert call("report", *QUICK, "--force", "--output", target, cwd=chain.folder).code == 0
    assert b"mcis" in target.read_bytes()


def test_a_link_is_replaced_not_followed(call, chain, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "report.html").symlink_to(tmp_path / "elsewhere")
    assert call("report", *QUICK, "--force", "--output", tmp_path / "report.html", cwd=chain.folder).code == 0
    assert (tmp_path / "elsewhere").read_text() == "kept"
    assert not (tmp_path / "report.html").is_symlink()


def test_what_is_missing_is_left_out_with_a_sentence(call, chain_copy) -> None:
    shutil.rmtree(chain_copy.folder / "shapes")
    chain_copy.made["train-cls"].path.unlink()
    answer = call("report", chain_copy.made["pseudo"].path, "-q", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    text = (chain_copy.folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    told = " ".join(page.texts)
    assert "The photographs have moved" in told
    assert "Scores: this run has none" in told
    assert "not in this store" in told  # the classifier, as a dashed box
    assert not page.of_class("card")
    assert len(page.of_class("absent")) == 1


def test_artifacts_of_two_runs_are_refused(call, chain) -> None:
    answer = call("cams", "--refs", "0", "-q", "--workers", "0", cwd=chain.folder)
    assert answer.code == 0, answer.err
    answer = call("report", chain.made["cams"].path, answer.lines[0], *QUICK, cwd=chain.folder)
    assert answer.code == 2
    assert "belong to two runs" in answer.err


def test_a_folder_without_results_is_told_what_to_run(call, tmp_path: Path) -> None:
    answer = call("report", cwd=tmp_path)
    assert answer.code == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("seed", range(size(3, 20)))
def test_hostile_names_are_text_on_the_page(call, chain, tmp_path: Path, seed: int) -> None:
    """Item for item, the page has the elements that it has for harmless names."""
    rng = random.Random(seed)
    work = tmp_path / some_name(rng, in_file=True, text_only=True)
    shutil.copytree(chain.folder / "shapes", work / "shapes")
    shutil.copy(chain.folder / "mcis.toml", work)
    ids = [path.stem for path in sorted((work / "shapes/JPEGImages").iterdir())]
    renamed = {old: f"{some_name(rng, in_file=True, text_only=True)}{old}".replace(" ", "_") for old in ids}
    renamed = {old: re.sub(r"\s", "_", new).lstrip(".-_") for old, new in renamed.items()}
    classes = {old: "_".join(some_name(rng, text_only=True).split()) + old for old in ("disc", "star", "square")}
    for path in [path for path in work.rglob("*") if path.is_file() and path.stem in renamed]:
        path.rename(path.with_name(renamed[path.stem] + path.suffix))
    for path in work.rglob("*.txt"):
        lines = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [[renamed.get(words[0], words[0]), *(classes.get(word, word) for word in words[1:])] for words in lines]
        path.write_text("".join(" ".join(words) + "\n" for words in lines), encoding="utf-8")
    (work / "shapes/classes.txt").write_text("".join(f"{name}\n" for name in classes.values()), encoding="utf-8")
    masks = ["train-cls"]
    for words in (masks, ["cams"], ["pseudo"], ["eval"]):
        upstream = [] if words is masks else made.lines[:1]
        made = call(*words, *upstream, "--workers", "0", "-q", cwd=work)
        if made.code == 2 and words is masks:
            pytest.skip(f"no such names are accepted: {made.err}")
        assert made.code == 0, made.err
    assert call("report", made.lines[0], *QUICK, "--images", "99", cwd=work).code == 0
    hostile = (work / "report.html").read_text(encoding="utf-8")
    assert not BIDI & set(hostile)
    page = Page(hostile)
    asks_for_nothing(re.sub(r"https?(_|&#|:)", "", hostile))
    told = " ".join("".join(page.texts).split())
    for name in (*classes.values(), *(new for old, new in renamed.items() if old.startswith("train"))):
        shown = "".join(letter if letter.isprintable() else " " for letter in name)
        assert " ".join(shown.split()) in told
    assert {tag for tag, *_ in page.skeleton} <= {
        *("html", "head", "meta", "title", "style", "body", "a", "div", "p", "svg", "circle", "path", "span", "nav"),
        *("button", "main", "header", "h1", "h2", "h3", "dl", "dt", "dd", "ol", "ul", "li", "b", "small", "section"),
        *("defs", "marker", "text", "g", "rect", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
        *("code", "mark", "figure", "figcaption", "use", "article", "bdi", "i", "form", "fieldset", "legend"),
        *("label", "input", "select", "option", "output", "footer", "kbd", "script", "img", "dialog"),
    }
    assert not [name for _, *names in page.skeleton for name in names if name.startswith("on")]
    assert len([tag for tag, *_ in page.skeleton if tag == "script"]) == 1


def test_scores_of_an_image_are_those_of_a_count_by_hand() -> None:
    # Ground truth: 6 pixels of background, 4 of class 1. The mask has 5 and 3 of them right, 1 of class 1 ignored.
    counts = np.array([[0, 0, 0, 5], [0, 0, 1, 1], [0, 1, 1, 3], [0, 1, 255, 1]])
    assert image_score(counts) == pytest.approx((5 / 6 + 3 / 5) / 2)
    # As maps with two thresholds: what is over none is background.
    counts = np.array([[0, 0, 1, 5], [1, 0, 1, 1], [2, 1, 1, 3], [0, 1, 1, 1]])
    assert image_score(counts, 0) == pytest.approx((5 / 7 + 3 / 5) / 2)
    assert image_score(counts, 1) == pytest.approx((6 / 7 + 3 / 4) / 2)


def test_confusion_sums_to_the_pixels_that_were_scored(chain) -> None:
    scores = read_scores(chain.made["eval"], chain.store)
    pixels = sum(int((chain.images().read_mask(one) != 255).sum()) for one in scores.artifact.ids)
    assert scores.confusion.sum() == pixels
    assert set(scores.images) == set(scores.artifact.ids)


def test_a_torn_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"step":10,"epoch":1,"total":2.0,"lr":0.1}\n[1]\nnull\n{"step":20,"total":1.5}\n{"step":30,"tot')
    found = read_log(log)
    assert found is not None
    assert found.steps == (10, 20)
    assert found.losses == {"total": (2.0, 1.5)}
    assert read_log(tmp_path / "none.jsonl") is None


def test_the_end_of_a_log_is_read_from_its_first_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b"".join(b'{"step":%d,"total":%d.5}\n' % (step, 9 - step) for step in range(9)))
    found = read_log(log, end=60)
    assert found is not None
    assert (found.steps, found.losses) == ((7, 8), {"total": (2.5, 1.5)})
    assert read_log(log, end=2**20) == read_log(log)


def test_a_chart_has_room_for_every_value() -> None:
    drawn = chart("loss", "step", list(range(1000)), {"total": [1 / (1 + step) for step in range(1000)]})
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn.svg).groups()
    (line,) = re.findall(r'<path d="([^"]*)" style="[^"]*var\(--s1\)', drawn.svg)
    points = [tuple(map(float, point.split())) for point in re.findall(r"[ML] (.*)", line)]
    assert 10 < len(points) <= 400
    assert all(0 <= x <= float(width) and 0 <= y <= float(height) for x, y in points)
    assert (drawn.lines[0].name, drawn.lines[0].last) == ("total", "0.001")


def test_a_line_of_one_point_is_a_dot_and_one_of_none_is_nothing() -> None:
    drawn = chart("one", "step", [5], {"total": [0.0], "none": [float("nan")]})
    assert drawn.svg.count("<use ") == 1
    assert [line.last for line in drawn.lines] == ["0", "–"]


def test_a_chart_is_the_same_each_time_and_has_ids_of_its_own() -> None:
    first, again, other = (chart(title, "step", [5], {"a": [1.0]}).svg for title in ("x", "x", "y"))
    assert first == again
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (first, other)]
    assert all(ids)
    assert not ids[0] & ids[1]


def test_a_name_cannot_break_a_chart() -> None:
    name = "<b>&\"'\x1b$_{"
    drawn = chart(name, name, [1, 2], {name: [1.0, 2.0]}, mark=(1, 1.0, name))
    page = Page(str(drawn.svg))
    assert not page.open
    assert "b" not in {tag for tag, _ in page.elements}
    assert str(page.elements[0][1]["aria-label"]).startswith("<b>&\"' $_{: <b>")


@pytest.mark.slow
def test_two_hundred_photographs_are_under_fifteen_megabytes(tmp_path: Path) -> None:
    """Of the size of those of PASCAL VOC, each with three maps of noise and three masks; more than most have."""
    write_synthetic(tmp_path, num_train=6, num_val=1, size=(375, 500), seed=3)
    images = read_catalogue(DataConfig(root=str(tmp_path)), None)
    rng = np.random.default_rng(0)
    total = 0
    for image_id in images.ids:
        total += len(figures.photo(images.read_image(image_id)))
        total += 3 * len(figures.mask_layer(images.read_mask(image_id), voc_palette()))
        total += 3 * len(figures.heat_layer(enlarge(rng.random((1, 24, 24)), 375, 500)[0]))
    assert 200 * total / len(images) < 15e6
