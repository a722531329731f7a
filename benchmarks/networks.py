"""Rows about networks: localization maps and training, against plain loops."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import plain
from benchmarks.material import DEVICE, Bench, best_precision, fresh_store, run_cams, shapes, wait
from benchmarks.measuring import Row, Sizes, alternate, at_least, at_most
from mcis_cli.config import CamsConfig, Preset, TrainClsConfig, resolve
from mcis_cli.data.augment import normalise, warp
from mcis_cli.data.references import draw_references
from mcis_cli.maps.localization import enlarge
from mcis_cli.maps.localization import normalise as normalise_maps
from mcis_cli.maps.metrics import ConfusionMatrix
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.cams.mapping import RELEASED_SCALES
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.engine.networks import backbone_of, build_classifier, describe_classifier, place
from mcis_cli.stages.engine.scratch import Scratch
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_cls.pair_batches import PairBatch, Pairing
from mcis_cli.stages.train_cls.published_features import PublishedFeatures
from mcis_cli.store import Artifact
from mcis_cli.training.precision import autocast


def cams_vs_released(sizes: Sizes) -> list[Row]:
    """`cams` against a loop that forwards every pair in full: both protocols, equal and best precision."""
    rows = []
    # The released protocol looks at each image five times, once at twice its size: fewer images do.
    for protocol, num_images, targets in (
        ("references", sizes.images, (8, 30)),
        ("released", max(4, sizes.images // 6), (2.5, 10)),
    ):
        with shapes(num_images) as bench:
            preset: Preset = "paper" if protocol == "references" else "released"
            model, artifact = bench.classifier(
                sizes.backbone, preset, image_size=sizes.image_size, affinity_init="identity"
            )
            config = resolve({"cams": {"refs": 3, "localization": protocol}}, preset).cams
            config = config.model_copy(update={"reference_replacement": False, "reference_self": False})
            ways = {precision: _map_all(bench, artifact, config, precision) for precision in ("fp32", best_precision())}
            taken = alternate(
                sizes.repeats, plain=_plain_maps(bench, model, config, sizes.plain_images, sizes.image_size), **ways
            )
            each_plain = taken["plain"] / sizes.plain_images
            agreement = _agreement(bench, model, artifact, config, sizes.plain_images)
            for kind, precision, target in (("equal", "fp32", targets[0]), ("best", best_precision(), targets[1])):
                each = taken[precision] / num_images
                rows.append(
                    at_least(
                        f"cams-vs-released ({protocol}, {kind} precision)",
                        f"{protocol} protocol, 3 references, {sizes.network}: {precision} against a plain loop in fp32",
                        each_plain / each,
                        target,
                        seconds_per_image=round(each, 4),
                        plain_seconds_per_image=round(each_plain, 3),
                        images=num_images,
                        plain_images=sizes.plain_images,
                        **agreement[precision],
                    )
                )
    return rows


def cams_vs_limit(sizes: Sizes) -> list[Row]:
    """`cams` against the forward passes of the backbone alone, in the best precision."""
    with shapes(sizes.images) as bench:
        model, artifact = bench.classifier(sizes.backbone, image_size=sizes.image_size)
        images = bench.images()
        tensors = [_tensor(model, images.read_image(image_id), sizes.image_size) for image_id in images.ids]
        place(model, DEVICE)

        @torch.inference_mode()
        def bare() -> None:
            with autocast(DEVICE, best_precision()):
                for tensor in tensors:
                    model.features(tensor.contiguous(memory_format=torch.channels_last))
            wait()

        config = resolve({"cams": {"refs": 3}}, "paper").cams
        taken = alternate(sizes.repeats, bare=bare, ours=_map_all(bench, artifact, config, best_precision()))
        return [
            at_most(
                "cams-vs-limit",
                f"the whole stage, 3 references, over the bare backbone in {best_precision()}, {sizes.network}",
                taken["ours"] / taken["bare"],
                1.5,
                seconds_per_image=round(taken["ours"] / sizes.images, 4),
                bare_seconds_per_image=round(taken["bare"] / sizes.images, 4),
            )
        ]


def references_together(sizes: Sizes) -> list[Row]:
    """Maps of 0 to 5 references in one pass against a pass for each."""
    num_images = max(8, sizes.images // 2)
    with shapes(num_images) as bench:
        _, artifact = bench.classifier(sizes.backbone, image_size=sizes.image_size)
        config = resolve({"cams": {"precision": best_precision()}}, "paper").cams
        configs = [config.model_copy(update={"refs": refs}) for refs in range(6)]
        inputs = Inputs(upstream=artifact, data=bench.data)

        def separate() -> None:
            for one in configs:
                run_cams(bench, artifact, one, None)

        taken = alternate(
            sizes.repeats,
            separate=separate,
            together=lambda: cams.run_all(configs, inputs, fresh_store(bench), bench.options()),
            most=lambda: run_cams(bench, artifact, configs[-1], None),
        )
        return [
            at_least(
                "references-together",
                f"one pass for 0, 1, 2, 3, 4 and 5 references over six passes, {sizes.network}",
                taken["separate"] / taken["together"],
                3,
                seconds_per_image=round(taken["together"] / num_images, 4),
                over_five_alone=round(taken["together"] / taken["most"], 2),
            )
        ]


def small_memory(sizes: Sizes) -> list[Row]:
    """`cams` with memory for a tenth of the features: with a scratch file, and computing them again."""
    num_images = max(8, sizes.images // 2)
    with shapes(num_images) as bench:
        _, artifact = bench.classifier(sizes.backbone, image_size=sizes.image_size)
        config = resolve({"cams": {"refs": 3, "precision": best_precision()}}, "paper").cams
        few = max(1, num_images // 10)  # a megabyte for each image
        inputs = Inputs(upstream=artifact, data=bench.data)

        def run(**options: int) -> None:
            cams.run(config, inputs, fresh_store(bench), bench.options(**options))

        taken = alternate(
            sizes.repeats,
            enough=run,
            scratch=lambda: run(cache_mb=few),
            again=lambda: run(cache_mb=few, scratch_mb=0),
        )
        return [
            at_most(
                "small-memory",
                "memory for a tenth of the features, the rest on disk, over memory for all",
                taken["scratch"] / taken["enough"],
                1.2,
                without_scratch_file=round(taken["again"] / taken["enough"], 2),
                images=num_images,
            )
        ]


def train_vs_plain(sizes: Sizes) -> list[Row]:
    """Steps of `train-cls` against two forwards and backwards in float32 of the same pairs, with the same loss."""
    num_pairs = 6
    with shapes(max(sizes.images, 24)) as bench:
        rows = []
        images = bench.images()
        for kind, precision, pairing, target in (
            ("equal precision", "fp32", "rings", 1.3),
            ("equal precision, independent pairs", "fp32", "independent", 1.0),
            ("best precision", best_precision(), "rings", 3),
            ("best precision, independent pairs", best_precision(), "independent", 3),
        ):
            settings = {"batch_pairs": num_pairs, "precision": precision, "pairing": pairing}
            settings |= {"backbone": sizes.backbone, "image_size": sizes.image_size}
            config = resolve({"train-cls": settings}, "paper").train_cls
            ours, theirs = _twins(config, images.num_foreground)
            place(ours, DEVICE)
            theirs.to(DEVICE)
            first, second = (_optimizer(model, config) for model in (ours, theirs))
            batch = next(Pairing(backbone_of(ours), config, images, images.ids, DEVICE, 0).batches(0, 0))
            pairs = batch.images[batch.index_m].contiguous(), batch.images[batch.index_n].contiguous()
            with torch.no_grad():
                full = config.model_copy(update={"precision": "fp32"})
                difference = float(
                    train_cls._step_loss(ours, full, batch)["total"]
                    - plain.pair_loss(theirs, *pairs, batch.labels_m, batch.labels_n)
                )

            def our_step(
                model: CoAttentionClassifier = ours,
                config: TrainClsConfig = config,
                batch: PairBatch = batch,
                optimizer: torch.optim.Optimizer = first,
            ) -> None:
                optimizer.zero_grad()
                train_cls._step_loss(model, config, batch)["total"].backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                wait()

            def plain_step(
                model: CoAttentionClassifier = theirs,
                pairs: tuple[torch.Tensor, torch.Tensor] = pairs,
                batch: PairBatch = batch,
                optimizer: torch.optim.Optimizer = second,
            ) -> None:
                optimizer.zero_grad()
                plain.pair_loss(model, *pairs, batch.labels_m, batch.labels_n).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                wait()

            taken = alternate(sizes.repeats, plain=plain_step, ours=our_step)
            rows.append(
                at_least(
                    f"train-vs-plain ({kind})",
                    f"pairs a second of a step, {sizes.network}, {num_pairs} pairs in {pairing}: {precision} over fp32",
                    taken["plain"] / taken["ours"],
                    target,
                    pairs_per_second=round(num_pairs / taken["ours"], 3),
                    plain_pairs_per_second=round(num_pairs / taken["plain"], 3),
                    views=len(batch.images),
                    loss_difference=difference,
                )
            )
        return rows


def kept_features(sizes: Sizes) -> list[Row]:
    """An epoch on a frozen backbone whose features are kept, against one that computes them, with equal losses."""
    with shapes(max(sizes.images, 24)) as bench:
        settings = {"backbone": sizes.backbone, "image_size": sizes.image_size, "new_layers": 3, "mirror": False}
        frozen = {"frozen_stages": 5, "color_jitter": (0.0, 0.0, 0.0, 0.0), "keep_features": True}
        given = {"train-cls": {**settings, **frozen, "precision": best_precision(), "pairing": "rings"}}
        config, images = resolve(given, "paper").train_cls, bench.images()
        model = build_classifier(describe_classifier(config, images.num_foreground)).train()
        backbone_of(model).freeze_stages(config.frozen_stages)
        place(model, DEVICE)
        optimizer = _optimizer(model, config)
        ways = {
            name: PublishedFeatures(
                backbone_of(model),
                device=DEVICE,
                precision=best_precision(),
                budget=budget,
                scratch=Scratch(bench.folder, 0),
            )
            for name, budget in (("anew", 0), ("kept", 2**40))
        }

        def epoch(features: PublishedFeatures) -> list[float]:
            workers = bench.options().workers
            pairing = Pairing(backbone_of(model), config, images, images.ids, DEVICE, workers, features=features)
            losses = []
            for batch in pairing.batches(0, 0):
                optimizer.zero_grad()
                total = train_cls._step_loss(model, config, batch)["total"]
                total.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(float(total.detach()))
            return losses

        epoch(ways["kept"])
        taken = alternate(sizes.repeats, **{name: partial(epoch, features) for name, features in ways.items()})
        assert ways["kept"].num_forwards == len(images)
        return [
            at_least(
                "kept-features",
                f"an epoch of three new layers on {sizes.network}, frozen: features computed over features kept",
                taken["anew"] / taken["kept"],
                1.5,
                seconds=round(taken["kept"], 2),
                seconds_anew=round(taken["anew"], 2),
                images=len(images),
            )
        ]


def _tensor(model: CoAttentionClassifier, image: NDArray[np.uint8], size: int) -> torch.Tensor:
    backbone = backbone_of(model)
    return normalise(warp(image, size), backbone.mean, backbone.std)[None].to(DEVICE)


def _map_all(bench: Bench, artifact: Artifact, config: CamsConfig, precision: Any) -> Callable[[], Artifact]:
    settled = config.model_copy(update={"precision": precision})
    return lambda: run_cams(bench, artifact, settled, None)


def _references(bench: Bench, image_id: str, config: CamsConfig) -> dict[int, tuple[str, ...]]:
    images = bench.images()
    names = images.class_names
    return {
        k: draw_references(images.carriers(k), image_id, names[k], config.refs, config.seed)
        for k in images[image_id].labels
    }


def _plain_maps(
    bench: Bench, model: CoAttentionClassifier, config: CamsConfig, count: int, size: int
) -> Callable[[], dict[str, NDArray[np.float32]]]:
    images = bench.images()
    model.to(DEVICE)

    def shown(image_id: str, factor: float = 1.0) -> torch.Tensor:
        return _tensor(model, images.read_image(image_id), round(size * factor))

    def made_of(image_id: str, others: dict[int, list[torch.Tensor]]) -> NDArray[np.float32]:
        image = shown(image_id)
        if config.localization != "released":
            return plain.paper_maps(model, image, others)
        views = (image, image.flip(-1), *(shown(image_id, factor) for factor in RELEASED_SCALES))
        return plain.released_maps(model, views, others)

    def work() -> dict[str, NDArray[np.float32]]:
        made = {}
        for image_id in images.ids[:count]:
            wanted = _references(bench, image_id, config)
            others = {k: [shown(other) for other in ids] for k, ids in wanted.items()}
            made[image_id] = made_of(image_id, others)
        return made

    return work


def _agreement(
    bench: Bench, model: CoAttentionClassifier, artifact: Artifact, config: CamsConfig, count: int
) -> dict[str, dict[str, float]]:
    """Largest difference of the normalised maps, and the mIoU of the masks that both give at threshold 0.5."""
    expected = _plain_maps(bench, model, config, count, artifact.meta["image_size"])()
    found: dict[str, dict[str, float]] = {}
    for precision in ("fp32", best_precision()):
        ours = _map_all(bench, artifact, config, precision)()
        confusion = ConfusionMatrix(len(bench.images().class_names) + 1)
        largest = 0.0
        for image_id, maps in expected.items():
            fields = ours.read(image_id)
            ours_01, plain_01 = (normalise_maps(one.astype(np.float32), "minmax") for one in (fields["maps"], maps))
            largest = max(largest, float(np.abs(ours_01 - plain_01).max()))
            masks = [_mask(enlarge(one, 128, 128), fields["classes"]) for one in (ours_01, plain_01)]
            confusion.update(*masks)
        found[precision] = {"largest_difference": round(largest, 4), "miou_between": round(confusion.mean_iou(), 4)}
    return found


def _mask(maps: NDArray[np.float32], classes: NDArray[np.int32]) -> NDArray[np.uint8]:
    winner = (classes[maps.argmax(axis=0)] + 1).astype(np.uint8)
    return np.where(maps.max(axis=0) > 0.5, winner, np.uint8(0))


def _twins(config: TrainClsConfig, num_foreground: int) -> tuple[CoAttentionClassifier, CoAttentionClassifier]:
    description = describe_classifier(config, num_foreground)
    ours, theirs = build_classifier(description), build_classifier(description)
    theirs.load_state_dict(ours.state_dict())
    return ours.train(), theirs.train()


def _optimizer(model: CoAttentionClassifier, config: TrainClsConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-6, momentum=config.momentum, weight_decay=config.weight_decay)
