"""The chain that a configuration describes, and how much of it exists: recipes only, no torch, nothing computed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcis_cli.config import DataConfig, Reporter, RunOptions, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.reading import read_listing
from mcis_cli.errors import counted
from mcis_cli.stages import chained, kind_of, names_of, stages
from mcis_cli.stages.engine.inputs import Inputs, list_images, look_at_images
from mcis_cli.stages.stage import Expected, Request, Wanted
from mcis_cli.store import Artifact, Begun, Store


@dataclass(frozen=True)
class Planned:
    """A stage of the chain: its artifact, or else None and its unfinished work."""

    stage: str
    artifact: Artifact | None
    wanted: Wanted
    begun: Begun | None = None


def chain_of(settings: Settings) -> dict[str, str | None]:
    """The stages that settings describe, in order, each with the one that it starts from; None for images."""
    asked = {name: stage.work for name, stage in chained().items() if stage.work and stage.work.in_chain(settings)}
    maker = {stages()[name].content.kind: name for name in asked}
    starts = {name: work.starts_from(settings) for name, work in asked.items()}
    return {name: None if kind is None else maker[kind] for name, kind in starts.items()}


def needed(settings: Settings) -> tuple[str, ...]:
    """The stages of the chain that lead to its end: one that starts from images needs none of those before it."""
    chain = chain_of(settings)
    first = max(place for place, start in enumerate(chain.values()) if start is None)
    return tuple(chain)[first:]


def sources(name: str, chain: Mapping[str, str | None]) -> dict[str, str]:
    """The stages before it in a chain that one starts from, by the role of their artifacts in its recipe; for a stage
    outside the chain, those that it would start from."""
    work, start = stages()[name].work, chain.get(name)
    assert work is not None
    if name not in chain:
        return {role: names_of(*kinds)[0] for role, kinds in work.roles.items()}
    if start is None:
        return {}
    upstream, *further = work.roles
    before = list(chain)[: list(chain).index(name)]
    makers = {role: [other for other in names_of(*work.roles[role]) if other in before] for role in further}
    return {upstream: start, **{role: others[0] for role, others in makers.items() if others}}


def request(
    settings: Settings, data: DataConfig, catalogue: Catalogue, inputs: Mapping[str, Artifact | Expected]
) -> Request:
    """The inputs of a stage: artifacts by role, the upstream artifact first."""
    upstream = next(iter(inputs.values()), None)
    return Request(
        settings=settings,
        data=data,
        catalogue=catalogue,
        upstream=upstream,
        kind=None if upstream is None else kind_of(upstream.stage),
        network=inputs.get("network"),
    )


def plan(settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue | None = None) -> Iterator[Planned]:
    """The stages in order, each with its artifact, without those whose upstream artifact does not exist.

    The machine that runs a stage resolves a precision of "auto", so here any result counts.
    """
    catalogue = catalogue or look_at_images(data, store)
    made: dict[str, Artifact] = {}
    chain = chain_of(settings)
    for name in chain:
        starts = sources(name, chain)
        if not made.keys() >= {*starts.values()}:
            continue
        inputs = {role: made[start] for role, start in starts.items()}
        wanted = stages()[name].ask(request(settings, data, catalogue, inputs))
        if found := wanted.found(store):
            made[name] = found
        yield Planned(name, found, wanted, None if found else wanted.begun(store))


def made_or_expected(
    settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue
) -> dict[str, Artifact | Expected]:
    """For every stage of the chain its artifact, or what is known of it beforehand."""
    made: dict[str, Artifact | Expected] = {}
    chain = chain_of(settings)
    for name in chain:
        inputs = {role: made[start] for role, start in sources(name, chain).items()}
        wanted = stages()[name].ask(request(settings, data, catalogue, inputs))
        made[name] = wanted.found(store) or wanted.expected(settings)
    return made


def num_without_truth(settings: Settings, data: DataConfig, catalogue: Catalogue) -> int:
    """The number of images of the split that networks are scored on that have no ground truth."""
    scored = catalogue.split(settings.eval.split or data.val)
    return sum(entry.mask is None for entry in scored.entries)


def num_listed_without_truth(settings: Settings, data: DataConfig) -> int:
    """As `num_without_truth`, from names of files alone: nothing is opened."""
    split = settings.eval.split or data.val
    listed = [item for item in read_listing(data).items if item.domain == "target"]
    return sum(item.mask is None for item in listed if split == "all" or split in item.splits)


def without_scores(names: tuple[str, ...], num_without: int) -> tuple[str, ...]:
    """The stages that can run if this number of images has no ground truth."""
    works = {name: stages()[name].work for name in names}
    return tuple(name for name, work in works.items() if work and not (num_without and work.needs_truth))


def run_chain(settings: Settings, data: DataConfig, store: Store, options: RunOptions) -> list[Artifact]:
    """Run the stages of the chain in order, except cached ones.

    Stages that need ground truth are left out, with a warning, if images lack it.
    """
    without = num_without_truth(settings, data, list_images(data, store))
    if without:
        options.reporter.warn(
            f"ground truth missing for {counted(without, 'image')} of split {settings.eval.split or data.val!r}: "
            "the chain ends with the network, without scores"
        )
    names = without_scores(needed(settings), without)
    announce = _announcer(names, settings, data, store, options.reporter)
    return list(run_stages(names, settings, data, store, options, begin=announce))


def _announcer(
    names: Sequence[str], settings: Settings, data: DataConfig, store: Store, reporter: Reporter
) -> Callable[[str, Mapping[str, Artifact]], None]:
    """A function that prints, before each stage, its number, and "cached" or why it runs."""
    from mcis_cli.stages.plan.forecast import Forecaster

    looking = Forecaster(data, look_at_images(data, store), store)

    def announce(name: str, made: Mapping[str, Artifact]) -> None:
        (one,) = looking.chain(settings, [name], made=made)
        how = f"cached, {one.found.path.stem}" if one.found else f"runs: {'; '.join(one.why)}"
        reporter.note(f"{list(names).index(name) + 1}/{len(names)} {name}: {how}")

    return announce


def run_stages(
    names: Sequence[str],
    settings: Settings,
    data: DataConfig | None,
    store: Store,
    options: RunOptions,
    made: Mapping[str, Artifact] | None = None,
    begin: Callable[[str, Mapping[str, Artifact]], None] = lambda name, made: None,
) -> Iterator[Artifact]:
    """Run some stages of the chain in order, each from what those before it made.

    Args:
        names: the stages.
        settings: the settings of all stages.
        data: where the images are; None if the upstream artifacts determine it.
        store: where the artifacts go.
        options: how to run on this machine.
        made: artifacts to start from, by stage.
        begin: called before each stage, with its name and the earlier artifacts.
    """
    known: dict[str, Artifact] = dict(made or {})
    chain = chain_of(settings)
    for name in names:
        work, starts = stages()[name].work, sources(name, chain)
        assert work is not None
        begin(name, known)
        inputs = [known[start] for start in starts.values()]
        given = Inputs(upstream=inputs[0] if inputs else None, data=data, network=known.get(starts.get("network", "")))
        known[name] = work.run(work.config(settings), given, store, options)
        yield known[name]
