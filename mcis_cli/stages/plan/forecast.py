"""Forecasts: what would run, why, and its cost. No torch, nothing computed or written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mcis_cli.config import DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.stages import stages
from mcis_cli.stages.plan.chain import chain_of, request, step_of
from mcis_cli.stages.plan.cost import Cost, Records
from mcis_cli.stages.plan.lineage import known_in
from mcis_cli.stages.plan.why import reasons
from mcis_cli.stages.stage import Expected, Lack, Request, Wanted
from mcis_cli.store import Artifact, Store
from mcis_cli.store.notes import Done


@dataclass(frozen=True)
class Forecast:
    """A stage that exists or would run.

    Attributes:
        wanted: the request to the stage.
        of: its purpose, if a command runs it more than once.
        found: the artifact; None if it would run.
        why: reasons to run it; empty if it exists.
        cost: of the remaining work.
        following: the input of the next stage: the artifact, or its known facts.
        lack: what is known to be missing to run it.
        together: equal for artifacts of one pass over the images, whose cost is that of the most expensive one.
    """

    wanted: Wanted
    of: str
    found: Artifact | None
    why: tuple[str, ...]
    cost: Cost
    following: Artifact | Expected
    together: str
    lack: Lack | None = None

    @property
    def key(self) -> str:
        """Equal for equal work."""
        return self.wanted.recipes[0].key


@dataclass
class Forecaster:
    """Reads a store once, and forecasts stages on an image set."""

    data: DataConfig
    catalogue: Catalogue
    store: Store
    device: str = "auto"

    @cached_property
    def _known(self) -> Sequence[Done]:
        return known_in(self.store)

    @cached_property
    def _records(self) -> Records:
        found = {artifact.id: artifact for artifact in self.store.artifacts(on_damaged=lambda error: None)}
        return Records(found, self.catalogue.class_names, self.device)

    def chain(
        self,
        settings: Settings,
        names: Sequence[str],
        of: str = "",
        made: Mapping[str, Artifact | Expected] | None = None,
    ) -> Iterator[Forecast]:
        """Some steps of the chain in order, each on the results of those before it.

        Args:
            settings: the settings of all stages.
            names: the steps.
            of: their purpose; empty for that of the step.
            made: artifacts to start from, by step.
        """
        known, chain = dict(made or {}), chain_of(settings)
        for name in names:
            step = step_of(name, settings, chain)
            inputs = {role: known[start] for role, start in step.starts.items()}
            asked = request(step.settings, self.data, self.catalogue, inputs)
            one = self._forecast(step.stage, asked, of or step.of)
            known[name] = one.following
            yield one

    def stage(
        self,
        name: str,
        settings: Settings,
        upstream: Artifact | Expected | None,
        *,
        saliency: str | None = None,
        network: Artifact | Expected | None = None,
        more: tuple[Artifact, ...] = (),
        corrected: str | None = None,
        of: str = "",
    ) -> Forecast:
        """One stage, given what it starts from."""
        inputs = {} if upstream is None else {"": upstream}
        asked = request(settings, self.data, self.catalogue, inputs)
        return self._forecast(
            name, replace(asked, saliency=saliency, network=network, more=more, corrected=corrected), of
        )

    def _forecast(self, name: str, asked: Request, of: str) -> Forecast:
        wanted = stages()[name].ask(asked)
        key = wanted.recipes[0].key
        together = f"{name} of {asked.start.id}" if asked.kind == "classifier" else key
        if found := wanted.found(self.store):
            return Forecast(wanted, of, found, (), Cost(0.0, 0), found, together)
        begun = wanted.begun(self.store)
        why = (wanted.resumes(begun),) if begun else reasons(wanted, self._comparable(asked, wanted), self.store)
        following = wanted.expected(asked.settings)
        assert wanted.of.work is not None
        lack = wanted.of.work.lacks(asked, wanted.images)
        return Forecast(wanted, of, None, why, self._records.cost(asked, wanted, begun), following, together, lack)

    def _comparable(self, asked: Request, wanted: Wanted) -> list[Done]:
        """The artifacts of a stage; for scores, those of the same kind of artifact."""
        subject = asked.start.stage if wanted.of.content.kind == "scores" else None
        same_stage = (one for one in self._known if one.recipe.stage == wanted.stage)
        return [one for one in same_stage if subject is None or one.meta.get("subject") == subject]


def distinct_of(forecasts: Sequence[Forecast]) -> list[Forecast]:
    """Equal work once, at its first occurrence."""
    first: dict[str, Forecast] = {}
    for one in forecasts:
        first.setdefault(one.key, one)
    return list(first.values())


def totals(forecasts: Sequence[Forecast]) -> Cost:
    """The total cost, equal work counted once; None if a part is unknown."""
    distinct = distinct_of(forecasts)
    passes: dict[str, list[float | None]] = {}
    for one in distinct:
        passes.setdefault(one.together, []).append(one.cost.seconds)
    known = [None if None in some else max(value or 0 for value in some) for some in passes.values()]
    sizes = [one.cost.num_bytes for one in distinct]
    return Cost(
        None if None in known else sum(value or 0 for value in known),
        None if None in sizes else sum(size or 0 for size in sizes),
    )
