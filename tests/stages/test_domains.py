"""The settings of the paper with single-label images and with images of the web, from drawn sources to scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recipes
import torch
from plain_features import CPU, SIZE, features_of
from repairs import command_words
from run_commands import mcis
from tiny_chain import TOML, options, training_log
from torch.nn import functional
from two_ranks import torchrun, with_single_label

from mcis_cli.config import CamsConfig, DataConfig, SourceConfig, TrainClsConfig, resolve
from mcis_cli.config.ablations import TABLES
from mcis_cli.data.catalogue import DOMAINS
from mcis_cli.data.pairs import sample_pairs
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.data.synthetic.sources import write_single_label, write_web
from mcis_cli.errors import DataError
from mcis_cli.interop.exports.model_card import card_of, markdown
from mcis_cli.interop.exports.onnx import DeployedPair
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.co_attention import co_attend
from mcis_cli.report.measuring import Ablation
from mcis_cli.stages.cams import attention
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.mapping import Mapper
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.engine.networks import backbone_of, build_classifier
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_cls.pair_batches import Pairing
from mcis_cli.store import open_store
from mcis_cli.training.initial_weights import load_initial_weights

THREE = {"affinity_weight", "affinity_weight_single", "affinity_weight_mixed"}
SOURCES = """
[[data.sources]]
root = "single"
domain = "single-label"

[[data.sources]]
root = "web/found.txt"
domain = "web"
"""


def draw(folder: Path) -> Path:
    """A set of three classes, and a source of each kind beside it."""
    drawn = {"num_classes": 3, "size": (48, 64)}
    write_synthetic(folder / "shapes", num_train=10, num_val=2, **drawn)
    write_single_label(folder / "single", num_images=6, **drawn)
    write_web(folder / "web", num_images=8, **drawn)
    return folder


def data_of(folder: Path) -> DataConfig:
    sources = (
        SourceConfig(root=str(folder / "single"), domain="single-label"),
        SourceConfig(root=str(folder / "web/found.txt"), domain="web"),
    )
    return DataConfig(root=str(folder / "shapes"), sources=sources)


# Which images and which matrices


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = draw(tmp_path_factory.mktemp("drawn"))
    return folder, list_images(data_of(folder), open_store(folder / "store"))


@pytest.mark.parametrize(
    ("domains", "asked", "settled"),
    [
        (("target",), None, "shared"),
        (("target",), "per-domain-pair", "shared"),
        (("target", "web"), None, "shared"),
        (("target", "single-label"), None, "per-domain-pair"),
        (("target", "single-label"), "shared", "shared"),
        (DOMAINS, None, "per-domain-pair"),
    ],
)
def test_three_matrices_are_the_default_as_soon_as_there_is_a_single_label_source(drawn, domains, asked, settled):
    images = drawn[1].split("train", domains)
    config = TrainClsConfig(affinity_weights=asked)
    assert recipes.affinity_weights(config, images) == settled
    recipe = recipes.train_cls(config, images, "weights")
    assert recipe.config.get("affinity_weights") == (settled if "single-label" in domains else None)


def test_the_recipes_of_a_set_without_sources_say_nothing_of_them(drawn):
    images = drawn[1].split("train")
    said = {"affinity_weights", "domains", "reference_domains", "processes"}
    made = [
        recipes.train_cls(TrainClsConfig(), images, "weights"),
        recipes.cams(CamsConfig(), "classifier", images, images),
    ]
    assert all(not said & recipe.config.keys() for recipe in made)
    other = recipes.cams(CamsConfig(reference_domains=("target", "web")), "classifier", images, images)
    assert other.config["reference_domains"] == ["target", "web"]
    single_round = CamsConfig(refs=0, reference_domains=("web",))
    assert (
        recipes.cams(single_round, "classifier", images, images).key
        == recipes.cams(CamsConfig(refs=0), "classifier", images, images).key
    )


def test_domains_are_a_set_in_a_fixed_order():
    settings = resolve({"cams": {"domains": ["web", "target", "web"]}})
    assert settings.cams.domains == ("target", "web")


# What an ablation would score


def scoring(folder, on, split=None, **cams):
    settings = resolve({"cams": {"domains": ["target", "single-label"], **cams}})
    return Ablation(TABLES[5], settings, on, split, data_of(folder))


def test_an_ablation_of_maps_of_sources_asks_for_their_ground_truth_before_any_work(drawn):
    folder, images = drawn
    told = (
        r"ground truth missing for 6 of 16 images of split 'train' \(single-label/.*, …\): .* or images with --split "
        r"\(--split train: those of the target alone\)$"
    )
    for on in (("maps",), ("pseudo", "segmentation")):
        with pytest.raises(DataError, match=told):
            scoring(folder, on).require_ground_truth(images)
        scoring(folder, on, split="train").require_ground_truth(images)
    scoring(folder, ("segmentation",)).require_ground_truth(images)


def test_an_ablation_scores_no_images_that_have_no_maps(drawn):
    folder, images = drawn
    for given in ({"split": "val"}, {"split": "train", "domains": ["single-label"]}):
        told = rf"of split '{given['split']}' would have no maps"
        with pytest.raises(DataError, match=told):
            scoring(folder, ("maps",), **given).require_ground_truth(images)
    scoring(folder, ("segmentation",), split="val").require_ground_truth(images)


# Maps


@pytest.fixture(scope="module")
def model(one_thread):
    torch.manual_seed(4)
    backbone = build_backbone("lite0", output_stride=16)
    backbone.initialise(load_initial_weights("lite0", None).state)
    built = CoAttentionClassifier(backbone, 3, affinity_init="identity", affinity_weights="per-domain-pair")
    with torch.no_grad():
        for weight in built.co_attention.affinity_parameters():
            weight += 1e-4 * torch.randn_like(weight)
    return built.eval()


@pytest.fixture(scope="module")
def mixed(chain):
    return with_single_label(chain.images().split("train"))


@pytest.mark.parametrize("kind", ["target", "single-label"])
def test_maps_over_references_of_both_domains_take_the_matrix_of_each_pair(model, mixed, kind):
    """As the equations are written: all features of each reference are mixed, with the W_P of its domains."""
    cache = FeatureCache(model, mixed.read_image, image_size=SIZE, device=CPU, precision="fp32", budget=2**30)
    mapper = Mapper(model, cache, CamsConfig(precision="fp32", image_size=SIZE, refs=5), mixed)
    entry = next(one for one in mixed.entries if one.domain == kind and one.labels)
    references = mapper.references(entry)
    parts = model.co_attention
    by_hand = {
        ("target", "target"): parts.affinity_weight,
        ("single-label", "single-label"): parts.affinity_weight_single,
        ("target", "single-label"): parts.affinity_weight_mixed,
        ("single-label", "target"): parts.affinity_weight_mixed.T,
    }
    assert {mixed[one].domain for one in references[entry.labels[0]]} == {"target", "single-label"}
    own = features_of(model, mixed, entry.id)
    expected = []
    for k in entry.labels:
        each = []
        for reference in references[k]:
            weight = by_hand[entry.domain, mixed[reference].domain]
            with torch.inference_mode():
                coattentive, _ = co_attend(own, features_of(model, mixed, reference), weight)
                each.append(model.class_head(coattentive)[0, k])
        expected.append(torch.stack(each).mean(0).numpy())
    np.testing.assert_allclose(mapper.maps(entry, references), np.stack(expected), rtol=0, atol=1e-4)


# With SEAM's views


@pytest.fixture(scope="module")
def equivariant(drawn, tmp_path_factory, one_thread):
    """A classifier that learnt from all sources and from second views, and the settings and the store behind it."""
    changes = {"image_size": 107, "batch_pairs": 12, "epochs": 1, "equivariant": True, "weight_decay": 0.0}
    settings = resolve({"train-cls": changes}, "quick")
    store = open_store(tmp_path_factory.mktemp("equivariant") / "store")
    return train_cls.run(settings.train_cls, Inputs(data=data_of(drawn[0])), store, options()), settings, store


@pytest.mark.slow
def test_an_equivariant_training_on_sources_learns_from_the_views_and_by_all_three_matrices(equivariant):
    made, settings, _ = equivariant
    (line,) = training_log(made)
    of_pairs, of_views = {"co_attention", "contrastive"}, {"both_views", "equivariance", "cross_refinement"}
    assert all(line[term] > 0 for term in of_pairs | of_views)
    # Without decay, and with a gradient of zero, a weight stays what it was.
    torch.manual_seed(settings.train_cls.seed)
    before = build_classifier(made.meta["model"]).state_dict()
    moved = {name for name, tensor in made.tensors().items() if not np.array_equal(tensor, before[name].numpy())}
    assert {f"co_attention.{name}" for name in THREE} <= moved
    assert {name for name in before if name.startswith("pixel_correlation.")} <= moved


@pytest.mark.slow
def test_its_refined_maps_are_of_both_domains(equivariant):
    made, settings, store = equivariant
    both = ("target", "single-label")
    refined = {"image_size": 64, "refs": 2, "refine": True, "domains": both, "reference_domains": both}
    maps = cams.run(settings.cams.model_copy(update=refined), Inputs(upstream=made), store, options())
    assert len(maps) == 16


# As ONNX


@torch.inference_mode()
def test_a_deployed_pair_has_the_matrix_of_two_targets(model):
    torch.manual_seed(5)
    pair = DeployedPair(model, model.backbone.mean, model.backbone.std).eval()
    images, references = 255 * torch.rand(1, 3, 64, 64), 255 * torch.rand(1, 3, 64, 96)
    features, features_r = (model.features(pair.normalise(given)) for given in (images, references))
    by_kind = []
    for kind in ((False, False), (False, True), (True, False), (True, True)):
        coattentive, _ = co_attend(features, features_r, model.co_attention.weight_of(*kind))
        maps = model.activation_maps(coattentive, co=True)
        by_kind.append(functional.interpolate(maps, size=(64, 64), mode="bilinear", align_corners=False))
    found = pair(images, references)[0]
    apart = [float((found - maps).abs().max()) for maps in by_kind]
    assert apart[0] < 1e-4
    assert min(apart[1:]) > 1e-3, apart


@pytest.mark.slow
def test_a_card_says_which_pairs_are_in_the_graph(equivariant):
    made, _, store = equivariant
    card = card_of(made, store, scale=((0.5,) * 3,) * 2, on_damaged=print)
    assert json.loads(card.facts()["pair_domains"]) == ["target", "target"]
    assert "three W_P" in markdown(card, []).decode()


# From sources to scores


@pytest.fixture(scope="module")
def command():
    """Runs a command that works."""

    def run(*words, cwd):
        answer = mcis(*words, cwd=cwd)
        assert answer.code == 0, answer.err
        return answer

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory, command):
    """Both settings in one folder: maps with references of all domains, masks of all images, a network, scores."""
    folder = draw(tmp_path_factory.mktemp("made"))
    (folder / "mcis.toml").write_text(TOML + SOURCES)
    answers = {
        "train-cls": command("train-cls", cwd=folder),
        "cams": command("cams", "--domains", "target,single-label", "--reference-domains", "target,web", cwd=folder),
    }
    maps = answers["cams"].lines[-1]
    answers["pseudo"] = command("pseudo", maps, cwd=folder)
    answers["train-seg"] = command("train-seg", answers["pseudo"].lines[-1], cwd=folder)
    answers["eval"] = command("eval", answers["train-seg"].lines[-1], "--json", cwd=folder)
    answers["scored"] = command("eval", maps, "--split", "train", "--json", cwd=folder)
    return folder, answers


@pytest.mark.slow
def test_the_chain_learns_from_all_maps_what_is_asked_for_and_scores_the_target(made):
    folder, answers = made
    store = open_store(folder / ".mcis")
    classifier, maps, masks = (store.get(answers[stage].lines[-1]) for stage in ("train-cls", "cams", "pseudo"))
    assert "learns from images of 10 target, 6 single-label, 8 web; W_P is per-domain-pair" in answers["train-cls"].err
    assert {name.removeprefix("co_attention.") for name in classifier.tensors() if "affinity" in name} == THREE
    domains = {image_id.split("/")[0] for image_id in maps.ids if "/" in image_id}
    assert domains == {"single-label"}
    assert len(maps) == 16
    assert maps.meta["domains"] == ["target", "single-label"]
    assert masks.ids == maps.ids
    drawn_from = {
        "web" if one.startswith("web/") else "target"
        for image_id in maps.ids
        for ids in attention.references_of(maps, image_id).values()
        for one in ids
    }
    assert drawn_from == {"target", "web"}
    scores = {name: json.loads(answers[name].lines[-1])["metrics"] for name in ("eval", "scored")}
    assert scores["eval"]["num_images"] == 2
    assert scores["scored"]["num_images"] == 10
    assert 0 <= scores["eval"]["mean_iou"] <= 1


@pytest.mark.slow
def test_what_was_made_with_sources_is_looked_into_explained_and_made_again(made, command, one_thread):
    folder, answers = made
    store = open_store(folder / ".mcis")
    classifier, maps = (store.get(answers[stage].lines[-1]) for stage in ("train-cls", "cams"))
    images = list_images(data_of(folder), store)
    image_id = next(one for one in maps.ids if one.startswith("single-label/"))
    (looked,) = attention.look(classifier, maps, images, [(image_id, images[image_id].labels[0])], options())
    assert looked.evidence
    for words in (("train-cls",), ("dataset",)):
        assert command("show", "--why", *words, cwd=folder).lines == ["nothing differs: the stage is cached"]
    why = command("show", "--why", "cams", "--set", "cams.refs=2", cwd=folder).lines
    assert any(line.startswith("config.domains: ['target', 'single-label'], now ['target']") for line in why), why
    lines = (folder / "web/found.txt").read_text()
    try:
        (folder / "web/found.txt").write_text("".join(lines.splitlines(keepends=True)[1:]))
        (told,) = command("show", "--why", "train-cls", cwd=folder).lines
        assert told == "inputs.images: other images or tags: 1 removed"
    finally:
        (folder / "web/found.txt").write_text(lines)
    done = {one.recipe.stage: one for one in store.all_done()}
    for stage in ("train-cls", "cams"):
        store.get(done[stage].id).path.unlink()
        answer = command(*command_words(done[stage], store), "--json", cwd=folder)
        assert json.loads(answer.lines[-1])["id"] == done[stage].id, answer.err


@pytest.mark.slow
def test_a_source_by_flags_and_one_in_the_file_are_the_same_and_is_remembered(made, command, tmp_path):
    """So is a set whose folder is named again: its sources stay where they were."""
    folder, answers = made
    store = folder / ".mcis"
    (tmp_path / "mcis.toml").write_text(TOML.replace('root = "shapes"\n', ""))
    flags = ("--single-label", folder / "single", "--web", folder / "web/found.txt", "--store", store, "--json")
    answer = command("train-cls", folder / "shapes", *flags, cwd=tmp_path)
    found = json.loads(answer.lines[-1])
    assert (found["cached"], found["path"]) == (True, answers["train-cls"].lines[-1])
    words = ("--data", folder / "shapes", "--domains", "target,single-label", "--reference-domains", "target,web")
    answer = command("cams", found["path"], *words, "--json", cwd=tmp_path)
    assert json.loads(answer.lines[-1])["path"] == answers["cams"].lines[-1]
    assert "have changed" not in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("web_only", [True, False])
def test_one_matrix_is_what_web_images_and_who_asks_for_it_get(command, tmp_path, one_thread, web_only):
    folder = draw(tmp_path)
    data = data_of(folder)
    data = data.model_copy(update={"sources": data.sources[1:]}) if web_only else data
    weights = {} if web_only else {"affinity_weights": "shared"}
    settings = resolve({"train-cls": {"image_size": 32, "batch_pairs": 8, "epochs": 1, **weights}}, "quick")
    store = open_store(tmp_path / "store")
    made = train_cls.run(settings.train_cls, Inputs(data=data), store, options())
    assert {name for name in made.tensors() if "affinity" in name} == {"co_attention.affinity_weight"}
    assert "affinity_weights" not in made.meta["model"]
    small = settings.cams.model_copy(update={"image_size": 32, "refs": 1})
    maps = cams.run(small, Inputs(upstream=made), store, options())
    assert len(maps) == 10
    if not web_only:
        (done,) = (one for one in store.all_done() if one.recipe.stage == "train-cls")
        made.path.unlink()
        answer = command(*command_words(done, store), "--store", store.root, "--json", cwd=tmp_path)
        assert json.loads(answer.lines[-1])["id"] == made.id, answer.err


@pytest.mark.slow
def test_two_ranks_train_three_matrices_on_sources(made, tmp_path):
    folder, _ = made
    (tmp_path / "mcis.toml").write_text(
        (TOML + SOURCES)
        .replace("image_size = 64", "image_size = 32")
        .replace("shapes", str(folder / "shapes"))
        .replace('"single"', f'"{folder / "single"}"')
        .replace("web/found", str(folder / "web/found"))
    )
    words = ("train-cls", "--set", "train-cls.batch_pairs=2", "--workers", "0")
    answer = torchrun(*words, cwd=tmp_path)
    assert answer.code == 0, answer.err
    made_by_two = open_store(tmp_path / ".mcis").get(answer.out.strip())
    assert {name.removeprefix("co_attention.") for name in made_by_two.tensors() if "affinity" in name} == THREE


def test_domains_that_are_not_there_are_told(chain, call):
    answer = call("cams", chain.made["train-cls"].path, "--domains", "web", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "no web images with" in answer.err
    answer = call("train-cls", "--list-tags", "first", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "--list-tags is about the lists of --single-label and --web" in answer.err


def test_three_matrices_without_single_label_images_are_no_three(chain, call):
    answer = call("train-cls", "--affinity-weights", "per-domain-pair", "--json", cwd=chain.folder)
    assert json.loads(answer.lines[-1])["path"] == str(chain.made["train-cls"].path), answer.err


def test_pairs_are_of_both_domains_and_say_so(mixed, chain):
    """The labels that a step gets for its images are those of the catalogue."""
    config = chain.settings(train_cls={"image_size": 32, "batch_pairs": 64}).train_cls
    tagged = [entry.id for entry in mixed.entries if entry.labels]
    model = CoAttentionClassifier(build_backbone("lite0", output_stride=16), 3)
    (batch,) = Pairing(backbone_of(model), config, mixed, tagged, CPU, 0).batches(0, 0)
    pairs = sample_pairs([mixed[one].labels for one in tagged], tagged, seed=config.seed, epoch=0)
    for side, single in ((0, batch.single_m), (1, batch.single_n)):
        assert single.tolist() == [mixed[tagged[pair[side]]].domain == "single-label" for pair in pairs]
    assert len({*zip(batch.single_m.tolist(), batch.single_n.tolist(), strict=True)}) >= 3
    assert replace(batch, epoch=1).epoch == 1
