"""References by similarity: the nearest by the means of features, found by hand; whoever computes them, the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import recipes
import torch
from tiny_chain import NUM_TRAIN, Heard, options
from two_ranks import with_single_label

from mcis_cli.config import CamsConfig
from mcis_cli.data.augment import normalise, warp
from mcis_cli.errors import UnfinishedError
from mcis_cli.report.diagram import draw
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.cams import similarity as likeness
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.mapping import Mapper
from mcis_cli.stages.cams.similarity import Best, Nearest, cosines, products_with
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.engine.networks import backbone_of, stored_classifier
from mcis_cli.stages.plan.lineage import Run
from mcis_cli.store import open_store, segments

SIZE = 64
NEAREST = {"reference_choice": "nearest", "refs": 3}


@pytest.fixture(scope="module")
def model(chain, one_thread):
    return stored_classifier(chain.made["train-cls"]).eval()


def cache_of(model, images, budget=2**30):
    cpu = torch.device("cpu")
    return FeatureCache(model, images.read_image, image_size=SIZE, device=cpu, precision="fp32", budget=budget)


def nearest_of(model, images, mapped, carriers, count=3):
    return Nearest(cache_of(model, images), mapped, carriers, num_references=count, options=options())


@torch.inference_mode()
def likeness_of(model, images, ids):
    """By hand: one image at a time through the backbone, the mean of each channel, cosines of all pairs."""
    backbone = backbone_of(model)
    views = [normalise(warp(images.read_image(one), SIZE), backbone.mean, backbone.std)[None] for one in ids]
    means = np.stack([model.features(view)[0].double().mean((1, 2)).numpy() for view in views])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    table = means @ means.T
    return {a: dict(zip(ids, row, strict=True)) for a, row in zip(ids, table, strict=True)}


def is_nearest(chosen, pool, alike, *, close=1e-6):
    """Whether the first of a pool by similarity were chosen, in their order: rounding may swap what is equal to it."""
    found = [alike[one] for one in chosen]
    best = sorted((alike[one] for one in pool), reverse=True)[: len(chosen)]
    return np.allclose(found, best, rtol=0, atol=close) and len(set(chosen)) == len(chosen) and set(chosen) <= set(pool)


def make(chain, *, run=None, store=None, **config):
    inputs = Inputs(upstream=chain.made["train-cls"], data=chain.data)
    return cams.run(chain.settings(cams=config).cams, inputs, store or chain.store, run or options())


def references_of(artifact):
    return {i: json.loads(fields["references"].tobytes()) for i, fields in artifact.records()}


def test_cosines_are_those_of_each_pair_in_blocks_of_any_size(monkeypatch):
    units = np.random.default_rng(0).normal(size=(13, 40)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    queries = [3, 0, 12, 7]
    expected = [[float(units[a].astype(np.float64) @ units[b]) for b in range(13)] for a in queries]
    for query, of_query in zip(queries, expected, strict=True):
        np.testing.assert_allclose(cosines(units, query, np.arange(13)), of_query, rtol=0, atol=1e-11)
    for block in (1, 3, 50):
        monkeypatch.setattr(likeness, "OTHERS", block)
        starts, tables, margins = zip(*products_with(units, queries), strict=True)
        assert starts == tuple(range(0, 13, block))
        error = np.abs(np.concatenate(tables, axis=1) - expected)
        assert error.max() <= margins[0] < 1e-5


@pytest.mark.parametrize("block", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_best_in_blocks_are_those_of_a_full_sort(block, count):
    """With many equal ones, of which the first count."""
    random = np.random.default_rng(block * count)
    similarity = random.integers(0, 6, 60) / 5
    rows = np.sort(random.choice(1000, 60, replace=False))
    best = Best(count)
    for start in range(0, 60, block):
        some, margin = similarity[start : start + block], 0.1
        near = best.candidates((some + random.uniform(-margin, margin, len(some))).astype(np.float32), 1.001 * margin)
        best.add(some[near], rows[start : start + block][near])
    expected = sorted(range(60), key=lambda place: (-similarity[place], rows[place]))[:count]
    assert best.rows.tolist() == sorted(rows[expected].tolist())
    assert sorted(best.similarity.tolist()) == sorted(similarity[expected].tolist())


def test_blocks_and_segments_of_any_size_choose_the_same(model, chain, monkeypatch):
    images = chain.images().split("train")
    whole = Nearest(cache_of(model, images), images, images, num_references=3, num_without=4, options=options())
    whole.compare(images.ids)
    expected = dict(whole._found)
    for block in (1, 5):
        monkeypatch.setattr(likeness, "OTHERS", block)
        found = Nearest(cache_of(model, images), images, images, num_references=3, num_without=4, options=options())
        for ids in (images.ids[:7], images.ids[7:8], images.ids[8:]):
            found.compare(ids)
            assert found._found == {one: chosen for one, chosen in expected.items() if one[0] in ids}


def test_equal_images_are_equally_alike_and_come_by_id(model, chain):
    """Two images under many names, each: the products of matrices differ by place, the choice does not."""
    images = chain.images().split("train")
    first, second, third = images.carriers(0)[:3]
    names = [f"copy-{number:02}" for number in range(21)]
    copies = [replace(images[(first, second)[number % 2]], id=name) for number, name in enumerate(names)]
    pool = replace(images, entries=tuple(sorted([*copies, images[third]], key=lambda entry: entry.id)))
    found = nearest_of(model, pool, pool, pool, count=30)
    for name, entry in zip(names, copies, strict=True):
        same = [one for one, other in zip(names, copies, strict=True) if other.image == entry.image and one != name]
        assert found(name, 0)[: len(same)] == tuple(same)
    order = [names.index(one) for one in found(third, 0)]
    halves = [order[: len(order) // 2 + 1], order[: len(order) // 2]]
    assert any(half == sorted(half) and len({number % 2 for number in half}) == 1 for half in halves)


def test_a_class_with_too_few_images_gives_what_there_is_and_none_where_there_is_no_other(model, chain):
    images = chain.images().split("train")
    first, second, third = images.carriers(0)[:3]
    few = images.only([first, second, third])
    found = nearest_of(model, images, few, few, count=5)
    for one in (first, second, third):
        assert sorted(found(one, 0)) == sorted({first, second, third} - {one})
    assert nearest_of(model, images, images.only([first]), images.only([first]))(first, 0) == ()
    others = [entry.id for entry in images.entries if 0 not in entry.labels]
    assert nearest_of(model, images, images.only([first]), images.only(others))(first, 0) == ()


def test_the_nearest_without_a_class_are_labelled_images_that_lack_it(model, chain):
    images = chain.images().split("train")
    unlabelled = replace(images.entries[-1], labels=())
    pool = replace(images, entries=(*images.entries[:-1], unlabelled))
    mapped = pool.labelled()
    found = Nearest(cache_of(model, images), mapped, pool, num_references=3, num_without=4, options=options())
    alike = likeness_of(model, images, images.ids)
    for entry in mapped.entries:
        for k in entry.labels:
            lacking = {one.id for one in mapped.entries if k not in one.labels}
            chosen = found.without(entry.id, k)
            assert len(chosen) == min(4, len(lacking))
            assert is_nearest(chosen, lacking, alike[entry.id])
            assert is_nearest(found(entry.id, k), set(mapped.carriers(k)) - {entry.id}, alike[entry.id])


def test_a_map_is_unchanged_if_no_image_lacks_its_class(model, chain):
    images = chain.images().split("train")
    of_class = images.only(images.carriers(0))
    everyone = replace(of_class, entries=tuple(replace(entry, labels=(0,)) for entry in of_class.entries))
    nearest = Nearest(cache_of(model, images), everyone, everyone, num_references=3, num_without=3, options=options())
    config = CamsConfig(precision="fp32", image_size=SIZE, **NEAREST)
    plain = Mapper(model, cache_of(model, images), config, everyone, nearest)
    with_none = replace(plain, config=config.model_copy(update={"refs_without": 3}))
    entry = everyone.entries[0]
    np.testing.assert_array_equal(plain.record(entry)[1]["maps"], with_none.record(entry)[1]["maps"])


def test_an_image_without_another_of_its_class_has_its_single_round_map(model, chain):
    images = chain.images().split("train")
    entry = images.entries[0]
    alone = images.only([entry.id])
    nearest = nearest_of(model, images, alone, alone)
    config = CamsConfig(precision="fp32", image_size=SIZE, **NEAREST)
    mapper = Mapper(model, cache_of(model, images), config, alone, nearest)
    single = Mapper(model, cache_of(model, images), config.model_copy(update={"refs": 0}), alone)
    np.testing.assert_array_equal(mapper.record(entry)[1]["maps"], single.record(entry)[1]["maps"])


@pytest.mark.parametrize(
    "config",
    [
        {"localization": "released", "reference_replacement": True, "reference_self": True},
        {"flip": True, "scales": (1.0, 1.5), "with_contrastive": True},
    ],
)
def test_every_kind_of_map_is_made_with_the_nearest(model, chain, config):
    images = chain.images().split("train")
    settings = CamsConfig(precision="fp32", image_size=SIZE, **NEAREST, **config)
    cache = cache_of(model, images)
    nearest = Nearest(cache, images, images, num_references=5, options=options())
    mapper = Mapper(model, cache, settings, images, nearest)
    entry = next(one for one in images.entries if len(one.labels) == 2)
    ((_, fields),) = mapper.records([entry], 0)
    named = json.loads(fields["references"].tobytes())
    assert named == {images.class_names[k]: list(nearest(entry.id, k)[:3]) for k in entry.labels}
    expected = mapper.maps(entry, {k: nearest(entry.id, k)[:3] for k in entry.labels})
    np.testing.assert_array_equal(fields["maps"], expected.astype(np.float16))


def test_references_may_be_of_other_domains_than_the_images(model, chain):
    mixed = with_single_label(chain.images().split("train"))
    mapped, carriers = (mixed.only(e.id for e in mixed.entries if e.domain == of) for of in ("target", "single-label"))
    found = nearest_of(model, mixed, mapped, carriers)
    alike = likeness_of(model, mixed, mixed.ids)
    for entry in mapped.entries:
        for k in entry.labels:
            assert is_nearest(found(entry.id, k), carriers.carriers(k), alike[entry.id])


@pytest.mark.slow
def test_the_command_chooses_the_nearest_others_of_each_class(call, chain, model):
    answer = call("cams", "--refs", "3", "--reference-choice", "nearest", cwd=chain.folder)
    assert answer.code == 0, answer.err
    artifact = chain.store.get(answer.lines[0])
    images = chain.images().split("train")
    alike = likeness_of(model, images, images.ids)
    named = references_of(artifact)
    assert set(named) == set(images.ids)
    for image_id, of_classes in named.items():
        assert len(of_classes) == len(images[image_id].labels)
        for name, chosen in of_classes.items():
            pool = set(images.carriers(images.class_names.index(name))) - {image_id}
            assert len(chosen) == min(3, len(pool))
            assert is_nearest(chosen, pool, alike[image_id])
    assert named != references_of(make(chain, refs=3))
    again = call("cams", "--refs", "3", "--reference-choice", "nearest", "--seed", "5", cwd=chain.folder)
    assert again.lines == answer.lines
    assert "mcis: warning: --seed has no effect with --reference-choice nearest" in again.err


def test_a_choice_without_effect_is_told_where_no_map_has_references(call, chain):
    """Of `--refs 0,3`, the maps with three use it; each number is a map of the command that names it alone."""
    choice = ("--reference-choice", "nearest")
    warning = "--reference-choice has no effect with --refs 0"
    both = call("cams", "--refs", "0,3", *choice, cwd=chain.folder)
    none = call("cams", "--refs", "0", *choice, cwd=chain.folder)
    assert warning not in both.err
    assert warning in none.err
    assert both.lines[:1] == none.lines


def test_the_report_says_nearest_in_place_of_a_seed(chain):
    artifact = make(chain, **NEAREST)
    boxes = draw(Run({"maps": artifact}, {}, {}), "").boxes
    assert [box.facts for box in boxes] == [("3 references · nearest",)]


class Bars(Heard):
    """Counts how far each bar goes."""

    def start(self, title, total, done=0, *, images=0):
        self.counts = {**getattr(self, "counts", {}), title: [done, total]}

    def advance(self, count=1, **facts):
        self.counts[next(reversed(self.counts))][0] += count


@pytest.mark.slow
def test_each_phase_fills_its_own_bar_when_maps_are_made_together(chain_copy):
    """The nearest references need the mean features; maps without references, of an earlier key, had begun by then."""
    bars = Bars()
    others = [{"refs": 0, "scales": (1.0, scale)} for scale in (0.5, 0.6, 0.7, 0.8, 0.9, 1.25)]
    configs = [chain_copy.settings(cams={"image_size": 48, **one}).cams for one in (NEAREST, *others)]
    inputs = Inputs(upstream=chain_copy.made["train-cls"], data=chain_copy.data)
    cams.run_all(configs, inputs, chain_copy.store, options(reporter=bars))
    num_maps = len(configs) * NUM_TRAIN
    assert bars.counts == {"mean features": [NUM_TRAIN, NUM_TRAIN], "cams": [num_maps, num_maps]}


def test_another_choice_is_refused(call, chain):
    answer = call("cams", "--reference-choice", "best", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "reference_choice" in answer.err
    assert "nearest" in answer.err


def test_images_of_another_split_are_mapped_with_the_nearest_of_the_training(chain, model):
    artifact, images = make(chain, split="val", **NEAREST), chain.images()
    train = images.split("train")
    alike = likeness_of(model, images, images.ids)
    for image_id, of_classes in references_of(artifact).items():
        for name, chosen in of_classes.items():
            assert is_nearest(chosen, train.carriers(images.class_names.index(name)), alike[image_id])


@pytest.mark.slow
def test_a_pass_with_several_numbers_looks_at_each_image_once(chain, tmp_path, monkeypatch):
    forwards = []
    compute = FeatureCache._compute
    monkeypatch.setattr(FeatureCache, "_compute", lambda *a: forwards.append(1) or compute(*a))
    configs = [chain.settings(cams={**NEAREST, "refs": refs}).cams for refs in range(6)]
    inputs, heard = Inputs(upstream=chain.made["train-cls"], data=chain.data), Heard()
    made = cams.run_all(configs, inputs, open_store(tmp_path / "together"), options(reporter=heard))
    assert len(forwards) == NUM_TRAIN
    assert heard.started == [("mean features", NUM_TRAIN, 0), ("cams", 6 * NUM_TRAIN, 0)]
    assert heard.advanced == 7 * NUM_TRAIN
    named = [references_of(one) for one in made]
    for image_id, of_classes in named[5].items():
        for name, chosen in of_classes.items():
            assert [one[image_id][name] for one in named] == [chosen[:refs] for refs in range(6)]
    assert made[3].id == make(chain, store=open_store(tmp_path / "alone"), **NEAREST).id
    assert made[0].id == make(chain, store=open_store(tmp_path / "alone"), refs=0).id


@pytest.mark.slow
def test_maps_without_references_look_at_no_means(chain, tmp_path, monkeypatch):
    """Neither alone, nor beside maps with references that are done: what is mapped is all that is looked at."""
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    forwards = []
    compute = FeatureCache._compute
    monkeypatch.setattr(FeatureCache, "_compute", lambda *a: forwards.append(1) or compute(*a))
    store = open_store(tmp_path / "store")
    make(chain, store=store, **NEAREST)
    forwards.clear()
    configs = [chain.settings(cams={**NEAREST, "refs": refs}).cams for refs in (0, 3)]
    heard = Heard()
    run = options(reporter=heard, shard=(1, 2))
    with pytest.raises(UnfinishedError):
        cams.run_all(configs, Inputs(upstream=chain.made["train-cls"], data=chain.data), store, run)
    assert heard.started[0][0] == "cams"
    assert len(forwards) == heard.advanced < NUM_TRAIN
    assert len(heard.started) == 1


@pytest.fixture(scope="module")
def whole(chain, tmp_path_factory):
    """The id of what a command makes without a break."""
    return make(chain, store=open_store(tmp_path_factory.mktemp("whole") / "store"), **NEAREST).id


@pytest.mark.slow
def test_shards_make_the_same(chain, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    store = open_store(tmp_path / "store")
    with pytest.raises(UnfinishedError):
        make(chain, store=store, run=options(shard=(2, 2)), **NEAREST)
    assert make(chain, store=store, run=options(shard=(1, 2)), **NEAREST).id == whole


@pytest.mark.slow
def test_neither_the_budget_nor_the_workers_change_a_bit(chain, whole, tmp_path):
    run = options(cache_mb=0, scratch_mb=0, workers=2)
    assert make(chain, store=open_store(tmp_path / "store"), run=run, **NEAREST).id == whole


class Stopped(Heard):
    """A reporter during which the user stops the command."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def advance(self, count=1, **facts):
        super().advance(count)
        if self.advanced == self.stop:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_command_that_was_stopped_goes_on_to_the_same(chain, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    store = open_store(tmp_path / "store")
    for stop in (5, NUM_TRAIN + 7):  # among the means, and in the third segment
        with pytest.raises(KeyboardInterrupt):
            make(chain, store=store, run=options(reporter=Stopped(stop)), **NEAREST)
    heard = Heard()
    assert make(chain, store=store, run=options(reporter=heard), **NEAREST).id == whole
    # Kept were: after the first stop three means; after the second, 13 more means and ten maps, nine of them.
    assert heard.started == [("cams", NUM_TRAIN, 9)]
    assert list((store.root / "partial").iterdir()) == []


def test_what_is_not_drawn_depends_on_nothing_of_drawing(chain):
    images = chain.images().split("train")

    def key(**config):
        return recipes.cams(CamsConfig(precision="fp32", **config), "classifier", images, images).key

    nearest = key(**NEAREST)
    assert nearest != key(refs=3)
    drawing = {"seed": 4, "reference_replacement": True, "reference_self": True}
    assert nearest == key(**NEAREST, **drawing)
    assert key(refs=3) != key(refs=3, seed=4)
    assert key(refs=0) == key(refs=0, reference_choice="nearest") == key(refs=0, **drawing)
    assert "reference_choice" not in recipes.cams(CamsConfig(), "classifier", images, images).config


def test_a_class_that_is_too_small_is_told_whatever_is_said_of_drawing(chain):
    heard = Heard()
    config = {**NEAREST, "refs": 50, "reference_replacement": True, "reference_self": True}
    artifact = make(chain, run=options(reporter=heard), **config)
    images = chain.images().split("train")
    counts = {name: len(images.carriers(k)) for k, name in enumerate(images.class_names)}
    (warning,) = heard.warnings
    assert all(f"{count - 1} for {name}" in warning for name, count in counts.items())
    for named in references_of(artifact).values():
        assert {name: len(ids) for name, ids in named.items()} == {name: counts[name] - 1 for name in named}
