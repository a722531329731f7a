"""One pass of a classifier over images, for maps of several settings: each view goes through the network once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from mcis_cli.config import CamsConfig, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.cams.declaration import SCHEMA
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.mapping import Mapper
from mcis_cli.stages.cams.similarity import Nearest
from mcis_cli.stages.engine.by_image import Joined, SegmentedWork, arithmetic_of, run_together
from mcis_cli.stages.engine.networks import place, stored_classifier
from mcis_cli.stages.engine.scratch import Scratch, folder_name
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.training.precision import Precision, choose_device, choose_precision, describe_machine


@dataclass(frozen=True)
class SinglePass:
    """What maps are made from, and where they go.

    Attributes:
        classifier: the classifier.
        catalogue: all images.
        images: those to map.
        carriers: those that references are taken from.
        store: where the artifacts go.
        options: how to run on this machine.
    """

    classifier: Artifact
    catalogue: Catalogue
    images: Catalogue
    carriers: Catalogue
    store: Store
    options: RunOptions

    def maps(self, configs: Sequence[CamsConfig], recipe_of: Callable[[CamsConfig], Recipe]) -> list[Artifact]:
        """Make maps with settings that agree in what the network sees, in their order."""
        precision = choose_precision(configs[0].precision, self._device)
        machine, reporter = describe_machine(self._device, precision), Joined(self.options.reporter)
        settled = [config.model_copy(update={"precision": precision}) for config in configs]
        by_key = {recipe_of(config).key: config for config in settled}

        def work(config: CamsConfig, features: FeatureCache, nearest: Nearest | None) -> SegmentedWork:
            compares = config.refs > 0 and config.reference_choice == "nearest"
            mapper = Mapper(self._model, features, config, self.carriers, nearest if compares else None)
            return SegmentedWork(
                recipe_of(config),
                self.store,
                replace(self.options, reporter=reporter),
                schema=SCHEMA,
                ids=self.images.ids,
                prepare=mapper.nearest.prepare if mapper.nearest else None,
                compute=lambda ids: mapper.records([self.images[one] for one in ids], self.options.workers),
                meta=lambda: self._meta(config),
                machine=machine,
            )

        views = self._views(configs)
        with self._features(views, precision, machine) as features:
            nearest = None  # reads no image before maps that need it are made
            compared = [one for one in settled if one.refs and one.reference_choice == "nearest"]
            if compared:
                nearest = Nearest(
                    features,
                    self.images,
                    self.carriers,
                    num_references=max(one.refs for one in compared),
                    num_without=max(one.refs_without for one in compared),
                    options=self.options,
                    sharing=lambda ids: self.store.begin(self._means(ids, views, machine), lock="none"),
                )
            # In the order of keys, so that two processes with the same work never wait for each other in a circle.
            made = run_together({key: work(by_key[key], features, nearest) for key in sorted(by_key)})
            if nearest is not None:
                self.store.drop(self._means(nearest.ids, views, machine))
        reporter.announce()
        return [made[recipe_of(config).key] for config in settled]

    @cached_property
    def _device(self) -> torch.device:
        return choose_device(self.options.device, self.options.local)

    @cached_property
    def _model(self) -> CoAttentionClassifier:
        model = stored_classifier(self.classifier)
        place(model, self._device)
        return model.eval()

    @staticmethod
    def _views(configs: Sequence[CamsConfig]) -> dict[str, Any]:
        """The settings that features depend on."""
        embeds, accumulates = any(config.refine for config in configs), configs[0].localization == "accumulated"
        return {
            "image_size": configs[0].image_size,
            "embeds": embeds,
            **({"accumulates": True} if accumulates else {}),
        }

    def _means(self, ids: Sequence[str], views: Mapping[str, Any], machine: Mapping[str, Any]) -> Recipe:
        """The mean features of some images, of which no artifact is made; machines share them if they are equal."""
        settings = {**views, "precision": machine["precision"], "machine": arithmetic_of(machine)}
        inputs = {"classifier": self.classifier.id, "images": self.catalogue.only(ids).digest("images")}
        return Recipe("means", 1, settings, inputs)

    @contextmanager
    def _features(
        self, views: Mapping[str, Any], precision: Precision, machine: Mapping[str, Any]
    ) -> Iterator[FeatureCache]:
        """The features of all images, in memory, and in a scratch folder that is removed at the end."""
        made_from = {"classifier": self.classifier.id, "images": self.catalogue.digest("images")}
        folder = self.store.scratch_folder / folder_name(views, made_from, machine)
        is_shared = self.options.shard is not None or self.options.asked is not None
        with Scratch(folder, self.options.scratch_mb * 2**20, is_shared=is_shared) as scratch:
            yield FeatureCache(
                self._model,
                self.catalogue.read_image,
                image_size=views["image_size"],
                device=self._device,
                precision=precision,
                budget=self.options.cache_mb * 2**20,
                scratch=scratch,
                embeds=views["embeds"],
                num_labels=(lambda one: len(self.catalogue[one].labels)) if "accumulates" in views else None,
            )

    def _meta(self, config: CamsConfig) -> dict[str, Any]:
        """Facts of an artifact for later stages."""
        return {
            "dataset": self.catalogue.id,
            "split": self.images.split_name,
            "class_names": list(self.catalogue.class_names),
            "num_references": config.refs,
            "localization": config.localization,
            "initialisation": self.classifier.meta["initialisation"],
            "image_size": config.image_size,
            **({} if self.images.domains <= {"target"} else {"domains": list(config.domains)}),
        }
