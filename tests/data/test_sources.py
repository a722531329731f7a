"""A set of several sources: ids, domains, splits, what is left out, and what a source does to the identity of a set."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import recipes
from image_sets import encode, mask_of, photo, write, write_voc

from mcis_cli import stages
from mcis_cli.config import DataConfig, SourceConfig, resolve
from mcis_cli.data.catalogue import DOMAINS, Catalogue
from mcis_cli.data.check import check
from mcis_cli.data.layouts.sources import names_of
from mcis_cli.data.palette import write_mask_png
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.records import as_records, meta, schema_of
from mcis_cli.errors import DataError, UsageError
from mcis_cli.stages.engine.inputs import list_images
from mcis_cli.store import open_store

NUM_TARGET = 6  # images of `write_voc`, of the classes bird, cat and dog


def write_single(root: Path) -> Path:
    """A folder for each class, one of which the target does not have; one image with a saliency map."""
    for seed, name in enumerate(("cat/1", "cat/2", "dog/1", "fish/1")):
        write(root / f"{name}.png", encode(photo(20 + seed)))
    write(root / "saliency/cat/1.png", encode(photo(20)[:, :, 0]))
    write(root / "masks/cat/1.png", write_mask_png(mask_of("cat")))
    return root


def write_web(root: Path, text: str = "a.png bird\nb.png cat\n") -> Path:
    for seed, name in enumerate("ab"):
        write(root / f"{name}.png", encode(photo(30 + seed)))
    return write(root / "found.txt", text)


def config_of(folder: Path, *sources: dict[str, Any]) -> DataConfig:
    return DataConfig(root=str(folder / "voc"), sources=tuple(SourceConfig(**source) for source in sources))


@pytest.fixture
def places(tmp_path: Path) -> Path:
    write_voc(tmp_path / "voc")
    write_single(tmp_path / "single")
    write_web(tmp_path / "web")
    return tmp_path


def single(places: Path, **more: Any) -> dict[str, Any]:
    return {"root": str(places / "single"), "domain": "single-label", **more}


def web(places: Path, **more: Any) -> dict[str, Any]:
    return {"root": str(places / "web/found.txt"), "domain": "web", **more}


def both(places: Path) -> Catalogue:
    return read_catalogue(config_of(places, single(places), web(places)))


def test_every_image_has_the_domain_of_its_source_and_an_id_that_begins_with_its_name(places: Path) -> None:
    catalogue = both(places)
    extra = {entry.id: (entry.domain, entry.labels) for entry in catalogue.entries if entry.domain != "target"}
    assert extra == {
        "single-label/cat/1": ("single-label", (1,)),
        "single-label/cat/2": ("single-label", (1,)),
        "single-label/dog/1": ("single-label", (2,)),
        "web/a": ("web", (0,)),
        "web/b": ("web", (1,)),
    }
    assert len(catalogue) == NUM_TARGET + 5
    assert catalogue.ids == tuple(sorted(catalogue.ids))
    assert catalogue.read_image("single-label/dog/1").shape == photo(0).shape
    assert catalogue["single-label/cat/1"].mask is None
    assert catalogue.read_saliency("single-label/cat/1").shape == photo(0).shape[:2]


def test_splits_are_the_targets_alone_unless_other_domains_are_asked_for(places: Path) -> None:
    catalogue, alone = both(places), read_catalogue(config_of(places))
    for split in ("train", "val", "all"):
        assert catalogue.split(split).ids == alone.split(split).ids
        assert catalogue.split(split).digest("images", "labels") == alone.split(split).digest("images", "labels")
    extra = {image_id for image_id in catalogue.ids if catalogue[image_id].domain != "target"}
    assert set(catalogue.split("train", DOMAINS).ids) == {*alone.split("train").ids, *extra}
    assert catalogue.split("val", ("web",)).ids == ("web/a", "web/b")
    assert catalogue.split("train", ("web",)).split_name == "train"


def test_a_domain_that_is_asked_for_by_name_has_to_be_there(places: Path) -> None:
    with pytest.raises(DataError, match=r"no web images with .*; name them with --web PATH"):
        read_catalogue(config_of(places)).split("train", ("target", "web"))
    assert read_catalogue(config_of(places)).split("train", DOMAINS).ids


def test_what_a_set_is_depends_on_content_and_domain_not_on_where_a_source_lies(places: Path) -> None:
    before = both(places).id
    (places / "single").rename(places / "moved")
    moved = read_catalogue(config_of(places, single(places, root=str(places / "moved")), web(places)))
    assert moved.id == before
    assert moved.id != read_catalogue(config_of(places, web(places))).id


def test_the_same_image_in_another_domain_is_another_set(places: Path) -> None:
    one, other = (
        read_catalogue(config_of(places, {"root": str(places / "single"), "domain": domain, "name": "x"}))
        for domain in ("single-label", "web")
    )
    assert one.ids == other.ids
    assert one.digest("images") == other.digest("images")
    assert one.digest("labels") != other.digest("labels")


def test_records_tell_the_domain_where_there_are_sources_and_are_as_ever_where_there_are_none(
    places: Path, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    for config, has_domain in ((config_of(places), False), (config_of(places, single(places), web(places)), True)):
        catalogue = list_images(config, store)
        assert ("domain" in schema_of(catalogue)) == has_domain
        assert ("domains" in meta(catalogue)) == has_domain
        artifact = store.find(recipes.dataset(catalogue))
        assert artifact is not None
        stages.check(artifact)
        for image_id, fields in artifact.records():
            told = fields["domain"].tobytes().decode() if has_domain else "target"
            assert told == catalogue[image_id].domain
    plain = read_catalogue(config_of(places))
    assert all("domain" not in fields for _, fields in as_records(plain))


def test_images_without_a_class_of_the_set_are_left_out_and_told(places: Path) -> None:
    findings = {finding.code: finding for finding in check(config_of(places, single(places), web(places)))}
    assert findings["no-class-of-the-set"].severity == "warning"
    assert "left out of source 'single-label': 1 image" in findings["no-class-of-the-set"].message
    assert findings["no-class-of-the-set"].ids == ("fish",)


def test_check_tells_of_each_source(places: Path) -> None:
    findings = check(config_of(places, single(places), web(places)))
    told = [finding.message for finding in findings if finding.code == "source"]
    assert len(told) == 2
    assert "source 'single-label': domain single-label, layout folders, 3 images of 2 classes" in told[0]
    assert told[0].endswith("1 saliency map")
    assert "source 'web': domain web, layout list, 2 images of 2 classes" in told[1]
    assert not [finding for finding in findings if finding.severity == "error"]
    assert "11 images (target 6, single-label 3, web 2)" in next(f.message for f in findings if f.code == "layout")


def test_an_image_of_val_among_those_of_a_source_is_a_leak(places: Path) -> None:
    shutil.copy(places / "voc/JPEGImages/b1.png", places / "web/a.png")
    findings = {finding.code: finding for finding in check(config_of(places, web(places)))}
    assert findings["train-val-same-content"].severity == "error"
    assert set(findings["train-val-same-content"].ids) == {"b1", "web/a"}


def test_more_of_the_target_has_splits_and_masks(places: Path) -> None:
    write(places / "more/images/x.png", encode(photo(40)))
    write(places / "more/images/y.png", encode(photo(41)))
    write(places / "more/masks/images/x.png", write_mask_png(mask_of("dog")))
    write(places / "more/set.csv", "image,tags,split\nimages/x.png,dog,val\nimages/y.png,cat,train\n")
    catalogue = read_catalogue(config_of(places, {"root": str(places / "more"), "domain": "target"}))
    assert "target/images/x" in catalogue.split("val").ids
    assert "target/images/y" in catalogue.split("train").ids
    assert catalogue.read_mask("target/images/x").max() == 255
    assert schema_of(catalogue) == recipes.SCHEMAS["dataset"]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["web", "single-label"], ["web", "single-label"]),
        (["web", "web", "web"], ["web", "web-2", "web-3"]),
        (["web", ("web", "web")], ["web-2", "web"]),
        ([("web", "bing"), "web"], ["bing", "web"]),
    ],
)
def test_names_are_those_that_are_given_else_the_domain(sources: list[Any], names: list[str]) -> None:
    given = [(one, None) if isinstance(one, str) else one for one in sources]
    assert names_of([SourceConfig(root="x", domain=domain, name=name) for domain, name in given]) == names


def refused(config: DataConfig) -> str:
    with pytest.raises(DataError) as refusal:
        read_catalogue(config)
    return str(refusal.value)


def test_faults_of_sources_are_one_line(places: Path) -> None:
    assert "source 'web': no such folder" in refused(config_of(places, web(places, root=str(places / "none"))))
    write_web(places / "web", "a.png fish\n")
    assert "no image of a class of the set in" in refused(config_of(places, web(places)))
    write_web(places / "web", "a.png cat\na.png dog\n")
    assert read_catalogue(config_of(places, web(places)))["web/a"].labels == (1, 2)
    message = refused(config_of(places, web(places, domain="single-label")))
    assert "1 image of 'single-label' with more than one class ('single-label/a' has cat, dog)" in message
    write_web(places / "web", "a.png cat tabby\n")
    assert "--list-tags first reads no more than that" in refused(config_of(places, web(places)))
    assert read_catalogue(config_of(places, web(places, list_tags="first")))["web/a"].labels == (1,)


def test_one_id_of_two_sources_is_a_fault(places: Path) -> None:
    for name in ("a/b/1", "b/1"):
        write(places / "nested" / f"{name}.png", encode(photo(50)))
    write(places / "nested/list.txt", "a/b/1.png cat\n")
    write(places / "nested/a/list.txt", "b/1.png cat\n")
    sources = [{"root": str(places / "nested/list.txt"), "domain": "web", "name": "x"}]
    write(places / "voc/JPEGImages/y.png", encode(photo(51)))
    catalogue = read_catalogue(config_of(places, *sources))
    assert "x/a/b/1" in catalogue
    with pytest.raises(UsageError, match="sources of different names, found two called 'x'"):
        resolve({"data": {"sources": [{**sources[0]}, {**sources[0]}]}})


def test_unknown_settings_of_a_source_are_told(places: Path) -> None:
    with pytest.raises(UsageError, match=r"setting data\.sources\.0\.domian is not known; did you mean domain\?"):
        resolve({"data": {"sources": [{"root": "x", "domian": "web"}]}})
    with pytest.raises(UsageError, match=r"setting data\.sources\.0\.domain is missing"):
        resolve({"data": {"sources": [{"root": "x"}]}})
    with pytest.raises(UsageError, match=r"data\.sources\.0\.domain = 'bing' is not accepted: expected 'target'"):
        resolve({"data": {"sources": [{"root": "x", "domain": "bing"}]}})
