"""Measure an ablation: for each row of a table of the paper and each seed, run the stages that lead to its scores."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcis_cli.config import DataConfig, RunOptions, Settings
from mcis_cli.config.ablations import AblationTable, Row
from mcis_cli.errors import BusyError, DataError, McisError, StorageError
from mcis_cli.stages import names_of
from mcis_cli.store import Artifact, Store

if TYPE_CHECKING:
    from mcis_cli.data.catalogue import Catalogue
    from mcis_cli.report.ablation import Failure, Measurement
    from mcis_cli.stages.plan.forecast import Forecast, Forecaster
    from mcis_cli.stages.stage import Kind

# The words for `--on`, in the order of the chain, and the kind of each; maps perhaps after a walk.
_MASKS = names_of("pseudo masks")[0]  # called after their stage
KIND_OF: Mapping[str, "Kind"] = {"maps": "maps", _MASKS: "pseudo masks", "segmentation": "network"}
KINDS = tuple(KIND_OF)


def _kind(row: Row, scored: str) -> "Kind":
    return row.maps if scored == "maps" else KIND_OF[scored]


@dataclass(frozen=True)
class Ablation:
    """An ablation to measure.

    Attributes:
        table: of the paper.
        settings: shared by the rows.
        kinds: the scored kinds, of `KINDS`.
        split: the images on which maps and pseudo masks are scored; None for all that have them.
        data: where the images are.
    """

    table: AblationTable
    settings: Settings
    kinds: tuple[str, ...]
    split: str | None
    data: DataConfig

    @property
    def needed(self) -> tuple[str, ...]:
        """The kinds that are made, scored or not."""
        return KINDS[: 1 + KINDS.index(self.kinds[-1])]

    def scoring(self, settings: Settings, kind: str) -> Settings:
        """The settings by which a kind is scored."""
        split = settings.eval.split if kind == "segmentation" else self.split
        return settings.changed(eval={"split": split})

    def require_ground_truth(self, images: "Catalogue") -> None:
        """Check, before hours of work, that the images to score have ground truth and will have maps.

        Raises:
            DataError: some have not.
        """
        mapped = images.split(self.settings.cams.split or self.data.train, self.settings.cams.domains)
        for scored in self._scored(images, mapped):
            without = [entry.id for entry in scored.entries if entry.mask is None]
            if without:
                alone = (
                    f" (--split {scored.split_name}: those of the target alone)" if scored.domains > {"target"} else ""
                )
                raise DataError(
                    f"ground truth missing for {len(without)} of {len(scored)} images of split {scored.split_name!r} "
                    f"({without[0]}, …): expected a mask each; choose what is scored with --on, or images with "
                    f"--split{alone}"
                )

    def _scored(self, images: "Catalogue", mapped: "Catalogue") -> "Iterator[Catalogue]":
        """The images that `mcis eval` will score."""
        if self.kinds != ("segmentation",):
            scored = images.split(self.split) if self.split else mapped
            absent = [image_id for image_id in scored.ids if image_id not in mapped]
            if absent:
                raise DataError(
                    f"{len(absent)} of {len(scored)} images of split {self.split!r} would have no maps ({absent[0]}, "
                    "…): expected all; choose another --split, or have them mapped (--set cams.split, cams.domains)"
                )
            yield scored
        if "segmentation" in self.kinds:
            yield images.split(self.settings.eval.split or self.data.val)

    def forecast(self, looking: "Forecaster", seeds: Sequence[int]) -> "Iterator[Forecast]":
        """Forecasts of `Measuring.measure`; work that several rows share is listed for each."""
        from mcis_cli.stages import names_of
        from mcis_cli.stages.plan.chain import chain_of

        (scores,) = names_of("scores")
        for seed in seeds:
            for row in self.table.rows:
                scored = {names_of(_kind(row, kind))[0]: kind for kind in self.kinds}
                settings, of = row.of(self.settings, seed), f"{row.name}, seed {seed}"
                chain = list(chain_of(settings))
                last = chain.index(names_of(_kind(row, self.needed[-1]))[0])
                for one in looking.chain(settings, chain[: last + 1], of):
                    yield one
                    if one.wanted.stage in scored:
                        yield looking.stage(
                            scores, self.scoring(settings, scored[one.wanted.stage]), one.following, of=of
                        )


@dataclass
class Measuring:
    """A running ablation: its scores so far, and its failures.

    Attributes:
        ablation: the ablation to measure.
        store: holds all results, so that existing ones are used.
        options: how to run on this machine.
        measured: the scores.
        failed: the failed rows.
        reasons: the errors behind those, each once.
    """

    ablation: Ablation
    store: Store
    options: RunOptions
    measured: list["Measurement"] = field(default_factory=list)
    failed: list["Failure"] = field(default_factory=list)
    reasons: dict[str, McisError] = field(default_factory=dict)

    def measure(self, seed: int) -> None:
        """All rows with one seed: one training for those that share its settings, and one pass for their maps."""
        from mcis_cli.stages.cams import run as cams
        from mcis_cli.stages.engine.inputs import Inputs
        from mcis_cli.stages.train_cls import run as train_cls

        data = self.ablation.data
        for rows in self._together(seed):
            settings = [row.of(self.ablation.settings, seed) for row in rows]
            for row, one in zip(rows, settings, strict=True):
                if (one.cams.localization, self.ablation.settings.cams.localization) == ("references", "released"):
                    self.options.reporter.note(f"{row.name}: single-round maps, not the released code's five")
            made: list[Artifact] = []
            with self._failures_of(rows, seed):
                classifier = train_cls.run(settings[0].train_cls, Inputs(data=data), self.store, self.options)
                inputs = Inputs(upstream=classifier, data=data)
                made = cams.run_all([one.cams for one in settings], inputs, self.store, self.options)
            for row, one, maps in zip(rows, settings, made, strict=False):  # empty if that failed
                with self._failures_of([row], seed):
                    self._row(row, seed, one, maps)

    def _together(self, seed: int) -> list[list[Row]]:
        """The rows that share a classifier and a pass for their maps, in the order of the table."""
        found: dict[tuple[str, bool], list[Row]] = {}
        for row in self.ablation.table.rows:
            settings = row.of(self.ablation.settings, seed)
            shared = settings.train_cls.model_dump_json(), settings.cams.localization == "accumulated"
            found.setdefault(shared, []).append(row)
        return list(found.values())

    def _row(self, row: Row, seed: int, settings: Settings, maps: Artifact) -> None:
        from mcis_cli.stages import names_of
        from mcis_cli.stages.plan.chain import chain_of, run_stages

        chain = list(chain_of(settings))
        last = chain.index(names_of(_kind(row, self.ablation.needed[-1]))[0])
        names = chain[chain.index(maps.stage) + 1 : last + 1]
        made = {maps.stage: maps}
        self._score_if_asked(row, seed, settings, maps)
        for artifact in run_stages(names, settings, self.ablation.data, self.store, self.options, made):
            self._score_if_asked(row, seed, settings, artifact)

    def _score_if_asked(self, row: Row, seed: int, settings: Settings, subject: Artifact) -> None:
        from mcis_cli.stages import holds
        from mcis_cli.stages.engine.inputs import Inputs
        from mcis_cli.stages.evaluate import run as evaluate

        for kind in self.ablation.kinds:
            if holds(subject, _kind(row, kind)):
                scoring = self.ablation.scoring(settings, kind).eval
                inputs = Inputs(upstream=subject, data=self.ablation.data)
                self._score(row, seed, kind, evaluate.run(scoring, inputs, self.store, self.options))

    def _score(self, row: Row, seed: int, kind: str, scores: Artifact) -> None:
        from mcis_cli.report.ablation import Measurement
        from mcis_cli.stages.evaluate.run import metrics

        found = metrics(scores)
        self.measured.append(Measurement(row.name, seed, kind, found, scores.id))
        mean = "no score" if found["mean_iou"] is None else f"{100 * found['mean_iou']:.1f} %"
        self.options.reporter.note(f"{row.name}, seed {seed}, {kind}: {mean} ({scores.path.stem})")

    @contextmanager
    def _failures_of(self, rows: Sequence[Row], seed: int) -> Iterator[None]:
        """Continue with other rows if some fail, and warn of each reason once. A full disk stops all."""
        from mcis_cli.report.ablation import Failure

        try:
            yield
        except (StorageError, BusyError):
            raise
        except McisError as error:
            reason = str(error)
            self.failed.extend(Failure(row.name, seed, reason) for row in rows)
            if reason not in self.reasons:
                self.reasons[reason] = error
                self.options.reporter.warn(f"{rows[0].name}, seed {seed}, failed: {reason}")
