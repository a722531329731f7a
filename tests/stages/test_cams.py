"""The stage of the maps: what an artifact holds, reuse, warnings, and what changes nothing."""

import json

import numpy as np
import pytest
import torch
from tiny_chain import NUM_TRAIN, Heard, done, options

from mcis_cli.data.augment import normalise, warp
from mcis_cli.errors import DamagedError, DataError, MissingError, UsageError
from mcis_cli.models.accumulation import accumulated
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.cams import single_pass
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.engine.networks import backbone_of, build_classifier, load_tensors, stored_classifier
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.store import Partial, open_store
from mcis_cli.training.precision import choose_device, choose_precision


def make(chain, *, run=None, store=None, upstream="train-cls", data=None, **config):
    inputs = Inputs(upstream=chain.made[upstream], data=data or chain.data)
    return cams.run(chain.settings(cams=config).cams, inputs, store or chain.store, run or options())


def references_of(artifact):
    return {i: json.loads(fields["references"].tobytes()) for i, fields in artifact.records()}


def test_every_image_of_the_split_has_a_map_for_each_of_its_tags(chain):
    artifact = chain.made["cams"]
    images = chain.images().split("train")
    assert artifact.ids == images.ids
    assert artifact.meta["split"] == "train"
    assert artifact.meta["num_references"] == 2
    assert artifact.meta["initialisation"] == chain.made["train-cls"].meta["initialisation"]
    for entry in images.entries:
        fields = artifact.read(entry.id)
        assert fields["classes"].tolist() == list(entry.labels)
        assert fields["maps"].shape == (len(entry.labels), 4, 4)  # 64 pixels at output stride 16
        assert fields["maps"].dtype == np.float16
        assert np.isfinite(fields["maps"]).all()


def test_references_are_recorded_for_each_image_and_class(chain):
    images = chain.images().split("train")
    for image_id, named in references_of(chain.made["cams"]).items():
        assert list(named) == [images.class_names[k] for k in images[image_id].labels]
        for name, ids in named.items():
            k = images.class_names.index(name)
            assert len(ids) == len(set(ids)) == 2
            assert image_id not in ids
            assert all(k in images[reference].labels for reference in ids)


def test_a_second_run_finds_the_artifact_and_computes_nothing(chain):
    heard, before = Heard(), done(chain.store, "cams")
    again = make(chain, run=options(reporter=heard))
    assert again.path == chain.made["cams"].path
    assert not heard.started
    assert not heard.warnings
    assert done(chain.store, "cams") == before


@pytest.mark.slow
@torch.inference_mode()
def test_maps_without_references_are_the_activation_maps(chain):
    artifact = make(chain, refs=0)
    model = build_classifier(chain.made["train-cls"].meta["model"])
    load_tensors(model, chain.made["train-cls"])
    model.eval()
    images, backbone = chain.images(), backbone_of(model)
    for image_id in artifact.ids[:3]:
        view = normalise(warp(images.read_image(image_id), 64), backbone.mean, backbone.std)[None]
        wanted = model.class_head(model.features(view))[0, list(images[image_id].labels)]
        np.testing.assert_allclose(artifact.read(image_id)["maps"], wanted.numpy(), rtol=1e-3, atol=1e-4)
    assert set(map(json.dumps, (r for named in references_of(artifact).values() for r in named.values()))) == {"[]"}


@pytest.mark.slow
def test_neither_the_budget_nor_the_workers_change_a_bit(chain, tmp_path):
    found = set()
    for name, budget, workers in (("a", 2048, 0), ("b", 0, 2)):
        store = open_store(tmp_path / name)
        run = options(cache_mb=budget, workers=workers)
        found.add(make(chain, store=store, run=run, flip=True, with_contrastive=True).id)
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"seed": 1},
        {"refs": 1},
        {"with_contrastive": True},
        {"flip": True},
        {"scales": [1.0, 1.5]},
        {"image_size": 96},
        {"localization": "released"},
    ],
)
def test_every_setting_makes_other_maps(chain, config):
    artifact = make(chain, **config)
    assert artifact.id != chain.made["cams"].id
    assert artifact.ids == chain.made["cams"].ids


def test_the_size_is_that_of_the_training_where_none_is_named(chain):
    settings = chain.settings().cams.model_copy(update={"image_size": None})
    inputs = Inputs(upstream=chain.made["train-cls"], data=chain.data)
    assert cams.run(settings, inputs, chain.store, options()).id == chain.made["cams"].id


def test_images_of_another_split_get_references_of_the_training(chain):
    artifact = make(chain, split="val")
    images = chain.images()
    assert artifact.ids == images.split("val").ids
    assert artifact.meta["split"] == "val"
    train = set(images.split("train").ids)
    used = {r for named in references_of(artifact).values() for ids in named.values() for r in ids}
    assert used
    assert used <= train


def test_a_class_with_too_few_images_uses_what_there_is_and_says_so(chain):
    heard = Heard()
    artifact = make(chain, refs=50, run=options(reporter=heard))
    images = chain.images().split("train")
    counts = {name: len(images.carriers(k)) for k, name in enumerate(images.class_names)}
    found = ", ".join(f"{count - 1} for {name}" for name, count in sorted(counts.items(), key=lambda one: one[::-1]))
    assert heard.warnings == [
        f"{len(counts)} classes with few images to take references from: found {found}, expected 50 (--refs)"
    ]
    for named in references_of(artifact).values():
        assert {name: len(ids) for name, ids in named.items()} == {name: counts[name] - 1 for name in named}


def test_an_image_outside_of_the_training_may_use_all_images_of_a_class(chain):
    heard = Heard()
    num_discs = len(chain.images().split("train").carriers(0))
    artifact = make(chain, refs=num_discs, split="val", run=options(reporter=heard))
    assert not any("for disc" in warning for warning in heard.warnings)
    named = next(named for named in references_of(artifact).values() if "disc" in named)
    assert len(named["disc"]) == num_discs


@pytest.mark.slow
def test_drawing_with_replacement_is_never_short(chain):
    heard = Heard()
    config = {"refs": 50, "reference_replacement": True, "reference_self": True, "localization": "released"}
    artifact = make(chain, run=options(reporter=heard), **config)
    assert not heard.warnings
    assert all(len(ids) == 50 for named in references_of(artifact).values() for ids in named.values())


def test_tags_that_have_changed_are_told(chain_copy):
    tags = chain_copy.folder / "shapes/image_tags.txt"
    text = tags.read_text()
    line = next(line for line in text.splitlines() if line.startswith("train") and len(line.split()) == 4)
    tags.write_text(text.replace(line, " ".join(line.split()[:3])))
    heard = Heard()
    artifact = make(chain_copy, run=options(reporter=heard))
    assert artifact.id != chain_copy.made["cams"].id
    assert any("images or tags have changed since train-cls-" in warning for warning in heard.warnings)


def test_an_image_that_breaks_off_is_named_and_nothing_is_sealed(chain_copy):
    image = chain_copy.folder / "shapes/JPEGImages/train-0003.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    before = done(chain_copy.store, "cams")
    with pytest.raises(DataError, match=r"train-0003\.jpg"):
        make(chain_copy)
    assert done(chain_copy.store, "cams") == before
    assert not list((chain_copy.folder / ".mcis/partial").iterdir())


def test_a_damaged_classifier_is_refused(chain_copy):
    path = chain_copy.made["train-cls"].path
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=path.name):
        make(chain_copy, seed=7)  # not among those that other tests have made


def test_the_wrong_artifact_and_none_are_refused(chain):
    with pytest.raises(UsageError, match="was made by pseudo: expected an artifact of train-cls"):
        make(chain, upstream="pseudo")
    with pytest.raises(MissingError, match="run `mcis train-cls` first"):
        cams.run(chain.settings().cams, Inputs(), chain.store, options())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "config", "untrained"),
    [
        ({}, {"refs": 2}, "W_P"),
        ({"heads": "separate"}, {"refs": 0, "localization": "released"}, "W_P and a second head"),
        ({}, {"refs": 0}, None),
        ({"affinity_scale": 45.0}, {"refs": 2}, None),  # similarity of features, as it is meant
    ],
    ids=str,
)
def test_maps_of_weights_that_no_loss_has_trained_are_warned_of(chain, tmp_path, model, config, untrained):
    store, heard = open_store(tmp_path), Heard()
    tiny = {"loss": "basic", "image_size": 32, "batch_pairs": 16, **model}
    classifier = train_cls.run(chain.settings(train_cls=tiny).train_cls, Inputs(data=chain.data), store, options())
    inputs = Inputs(upstream=classifier, data=chain.data)
    cams.run(chain.settings(cams=config).cams, inputs, store, options(reporter=heard))
    told = [line for line in heard.warnings if "--loss basic" in line]
    assert len(told) == (untrained is not None)
    assert all(f"these maps use {untrained} with random weights" in line for line in told)


def test_a_split_that_is_not_there_is_refused(chain):
    with pytest.raises(DataError, match="no split 'test'"):
        make(chain, split="test")


@pytest.mark.slow
def test_several_numbers_of_references_take_one_pass_and_give_the_maps_of_each_alone(chain, tmp_path, monkeypatch):
    forwards = []
    compute = FeatureCache._compute
    monkeypatch.setattr(FeatureCache, "_compute", lambda *a: forwards.append(1) or compute(*a))
    config = chain.settings().cams
    configs = [config.model_copy(update={"refs": refs}) for refs in (3, 0, 1, 3)]
    inputs = Inputs(upstream=chain.made["train-cls"], data=chain.data)
    store, heard = open_store(tmp_path / "together"), Heard()
    made = cams.run_all(configs, inputs, store, options(reporter=heard))
    assert len(forwards) == NUM_TRAIN
    assert [one.meta["num_references"] for one in made] == [3, 0, 1, 3]
    assert made[0].id == made[3].id
    assert heard.started == [("cams", 3 * NUM_TRAIN, 0)]
    assert heard.advanced == 3 * NUM_TRAIN
    alone = [cams.run(one, inputs, open_store(tmp_path / "alone"), options()) for one in configs]
    assert [one.id for one in made] == [one.id for one in alone]
    assert [one.id for one in cams.run_all(configs, inputs, store, options(reporter=heard))] == [one.id for one in made]
    assert heard.advanced == 3 * NUM_TRAIN


def test_maps_that_only_had_to_be_sealed_are_not_told_as_found_done(chain, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    store, heard, again = open_store(tmp_path / "store"), Heard(), Heard()
    list_images(chain.data, store)
    with monkeypatch.context() as stopped:
        stopped.setattr(Partial, "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            make(chain, store=store)
    make(chain, store=store, run=options(reporter=heard))
    make(chain, store=store, run=options(reporter=again))
    assert heard.started == [("cams", NUM_TRAIN, NUM_TRAIN)]
    assert heard.advanced == 0
    assert again.started == []


@pytest.mark.slow
def test_maps_made_together_are_of_one_precision_whatever_is_there(chain, tmp_path):
    """On a machine that would choose bfloat16, or float32: segments of the other are not mixed in."""
    inputs = Inputs(upstream=chain.made["train-cls"], data=chain.data)
    store = open_store(tmp_path / "store")
    own = choose_precision("auto", torch.device("cpu"))
    other = "fp32" if own == "bf16" else "bf16"
    before = make(chain, store=store, refs=0, precision=other)
    auto = [chain.settings(cams={"refs": refs, "precision": "auto"}).cams for refs in (0, 1)]
    assert cams.run_all(auto[:1], inputs, store, options())[0].id == before.id
    both = cams.run_all(auto, inputs, store, options())
    assert [one.manifest["recipe"]["config"]["precision"] for one in both] == [own, own]
    assert [one.id for one in cams.run_all(auto, inputs, store, options())] == [one.id for one in both]


def test_maps_of_a_classifier_that_is_not_equivariant_cannot_be_refined(chain):
    with pytest.raises(
        UsageError, match=r"cannot be refined: found a classifier without pixel correlation, .*refine=f"
    ):
        make(chain, refine=True)


@pytest.mark.slow
def test_accumulated_maps_are_of_all_epochs_of_the_training(chain, tmp_path):
    given = {"new_layers": 1, "frozen_stages": 5, "epochs": 3, "batch_pairs": 8, "image_size": 64, "loss": "basic"}
    settings = chain.settings(train_cls={**given, "keep_epochs": True}).train_cls
    store = open_store(tmp_path)
    classifier = train_cls.run(settings, Inputs(data=chain.data), store, options())
    config = chain.settings(cams={"localization": "accumulated", "flip": True}).cams
    made = cams.run(config, Inputs(upstream=classifier), store, options(workers=2))
    assert made.meta["localization"] == "accumulated"
    assert "references" not in made.manifest["recipe"]["inputs"]
    assert "refs" not in made.manifest["recipe"]["config"]
    model = stored_classifier(classifier).eval()
    backbone, images = backbone_of(model), chain.images().split("train")
    for entry in images.entries[:3]:
        pixels = warp(images.read_image(entry.id), 64)
        views = []
        for shown in (pixels, pixels[:, ::-1]):
            with torch.inference_mode():
                image = normalise(shown, backbone.mean, backbone.std)[None]
                views.append(accumulated([one[0] for one in model.maps_after_epochs(image)], len(entry.labels)))
        expected = (views[0] + views[1].flip(-1)) / 2
        found = made.read(entry.id)["maps"]
        np.testing.assert_allclose(found, expected[list(entry.labels)].numpy(), rtol=0, atol=2e-3)


def test_maps_of_the_last_epoch_alone_cannot_be_accumulated(chain):
    with pytest.raises(
        UsageError, match=r"cannot be accumulated: it kept only .* --set train-cls.keep_epochs=true, or give"
    ):
        make(chain, localization="accumulated")


def test_each_process_of_a_machine_asks_for_a_device_of_its_own(chain, tmp_path, monkeypatch):
    asked = []

    def chosen(name, local=None):
        asked.append((name, local))
        return choose_device(name, local)

    monkeypatch.setattr(single_pass, "choose_device", chosen)
    make(chain, store=open_store(tmp_path), run=options(local=1), refs=0)
    assert asked == [("cpu", 1)]
