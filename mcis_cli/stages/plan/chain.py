"""The chain that a configuration describes, and how much of it exists: recipes only, no torch, nothing computed."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcis_cli.config import DataConfig, Domain, Reporter, RunOptions, Settings
from mcis_cli.data.catalogue import TARGET, Catalogue
from mcis_cli.data.layouts.listing import Listing
from mcis_cli.errors import UsageError, counted
from mcis_cli.stages import chained, kind_of, names_of, stages
from mcis_cli.stages.engine.inputs import Inputs, list_images, look_at_images
from mcis_cli.stages.stage import Expected, Kind, Request, Wanted, Work
from mcis_cli.store import Artifact, Begun, Store

ROUND: tuple[Kind, ...] = ("pseudo masks", "network")  # what each round makes


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage in a chain, which may have it more than once.

    Attributes:
        stage: its name.
        settings: of all stages.
        starts: the names of the steps that it starts from, by the role of their artifacts in its recipe.
        of: its purpose: a round after the first, or masks that are scored beside the last network; otherwise empty.
    """

    stage: str
    settings: Settings
    starts: Mapping[str, str]
    of: str = ""

    @property
    def name(self) -> str:
        """The stage and its purpose."""
        return f"{self.stage}, {self.of}" if self.of else self.stage


@dataclass(frozen=True)
class Planned:
    """A step of the chain: its artifact, or else None and its unfinished work."""

    step: Step
    artifact: Artifact | None
    wanted: Wanted
    begun: Begun | None = None

    @property
    def stage(self) -> str:
        """The name of its stage."""
        return self.step.stage


def chain_of(settings: Settings) -> dict[str, Step]:
    """The steps that settings describe, by name, in order.

    Each starts from what the steps before it made last. Further rounds repeat masks and network: the masks then also
    start from the network of the round before. With several rounds, the masks of each are scored, too.
    """
    names = [name for name, stage in chained().items() if stage.work and stage.work.in_chain(settings)]
    repeated = [name for name in names if kind_of(name) in ROUND]
    rounds = settings.run.rounds if all(_work(name).starts_from(settings) for name in repeated) else 1
    further = [(name, f"round {number}") for number in range(2, rounds + 1) for name in repeated]
    chain: dict[str, Step] = {}
    for one in names:
        for name, of in ((one, ""), *(further if one == repeated[-1] else ())):
            step = Step(stage=name, settings=settings, starts=_starts(name, settings, chain), of=of)
            chain[step.name] = step
            if rounds > 1 and kind_of(name) == "pseudo masks":
                chain |= {scores.name: scores for scores in _scores_of(step)}
    return chain


def _scores_of(masks: Step) -> Iterator[Step]:
    """A step that scores masks, on all images that have one."""
    for name in names_of("scores"):
        settings, starts = masks.settings.changed(eval={"split": None}), {next(iter(_work(name).roles)): masks.name}
        yield Step(stage=name, settings=settings, starts=starts, of=f"masks of {masks.of or 'round 1'}")


def _work(name: str) -> Work:
    work = stages()[name].work
    assert work is not None, "a stage of a chain has its work"
    return work


def _starts(name: str, settings: Settings, chain: Mapping[str, Step]) -> dict[str, str]:
    """The steps of a chain, so far, that a stage starts from, by role; none for a stage that starts from images."""
    work = _work(name)
    if (kind := work.starts_from(settings)) is None:
        return {}
    made = {kind_of(step.stage): step.name for step in chain.values()}
    upstream, *further = work.roles
    beside = {role: [made[one] for one in work.roles[role] if one in made] for role in further}
    return {upstream: made[kind], **{role: found[0] for role, found in beside.items() if found}}


def needed(settings: Settings) -> tuple[str, ...]:
    """The steps of the chain that lead to its end: one that starts from images needs none of those before it."""
    chain = chain_of(settings)
    first = max(place for place, step in enumerate(chain.values()) if not step.starts)
    return tuple(chain)[first:]


def step_of(name: str, settings: Settings, chain: Mapping[str, Step]) -> Step:
    """A step of a chain; for a stage outside the chain, one that starts from the first kind that it takes."""
    if name in chain:
        return chain[name]
    starts = {role: names_of(*kinds)[0] for role, kinds in _work(name).roles.items()}
    return Step(stage=name, settings=settings, starts=starts)


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
    """The steps in order, each with its artifact, without those whose upstream artifact does not exist.

    The machine that runs a stage resolves a precision of "auto", so here any result counts.
    """
    catalogue = catalogue or look_at_images(data, store)
    made: dict[str, Artifact] = {}
    for name, step in chain_of(settings).items():
        if not made.keys() >= {*step.starts.values()}:
            continue
        inputs = {role: made[start] for role, start in step.starts.items()}
        wanted = stages()[step.stage].ask(request(step.settings, data, catalogue, inputs))
        if found := wanted.found(store):
            made[name] = found
        yield Planned(step, found, wanted, None if found else wanted.begun(store))


def made_or_expected(
    settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue
) -> dict[str, Artifact | Expected]:
    """For every step of the chain its artifact, or what is known of it beforehand."""
    made: dict[str, Artifact | Expected] = {}
    for name, step in chain_of(settings).items():
        inputs = {role: made[start] for role, start in step.starts.items()}
        wanted = stages()[step.stage].ask(request(step.settings, data, catalogue, inputs))
        made[name] = wanted.found(store) or wanted.expected(step.settings)
    return made


def num_without_truth(step: Step, data: DataConfig, catalogue: Catalogue) -> int:
    """The number of images that a step scores and that have no ground truth."""
    scored = catalogue.split(*_scored(step, data))
    return sum(entry.mask is None for entry in (scored.labelled() if step.of else scored).entries)


def num_listed_without_truth(step: Step, data: DataConfig, listing: Listing) -> int:
    """As `num_without_truth`, from names of files alone: nothing is opened."""
    split, domains = _scored(step, data)
    listed = [item for item in listing.items if item.domain in domains]
    return sum(item.mask is None for item in listed if split == "all" or split in item.splits)


def _scored(step: Step, data: DataConfig) -> tuple[str, Collection[Domain]]:
    """The split that a step scores a network on, or the images that have the masks that it scores."""
    settings = step.settings
    return (
        (settings.cams.split or data.train, settings.cams.domains)
        if step.of
        else (settings.eval.split or data.val, TARGET)
    )


def possible(settings: Settings, num_without: Callable[[Step], int]) -> tuple[str, ...]:
    """The steps that lead to the end of the chain, except those that need ground truth that some images lack.

    Args:
        settings: the settings of all stages.
        num_without: from a step that needs ground truth to the number of images that lack it.
    """
    chain = chain_of(settings)
    return tuple(
        name for name in needed(settings) if not (_work(chain[name].stage).needs_truth and num_without(chain[name]))
    )


def refuse_impossible_rounds(settings: Settings) -> None:
    """Check that rounds after the first can use their network, before the first one is trained.

    Raises:
        UsageError: they cannot.
    """
    rounds, fusion = settings.run.rounds, settings.pseudo.fusion
    if rounds > 1 and settings.train_seg.supervision == "full":
        raise UsageError(
            f"run.rounds is {rounds}, but train-seg.supervision is full: a network that learns from ground truth uses "
            "no pseudo masks; give --rounds 1"
        )
    if rounds > 1 and fusion != "soft":
        raise UsageError(
            f"run.rounds is {rounds}, but pseudo.fusion is {fusion}: a second round multiplies probabilities, which "
            "only soft fusion has; give --set pseudo.fusion=soft, or --rounds 1"
        )


def run_chain(settings: Settings, data: DataConfig, store: Store, options: RunOptions) -> list[Artifact]:
    """Run the steps of the chain in order, except cached ones; see `run_by_name`."""
    return list(run_by_name(settings, data, store, options).values())


def run_by_name(settings: Settings, data: DataConfig, store: Store, options: RunOptions) -> dict[str, Artifact]:
    """Run the steps of the chain in order, except cached ones; returns their artifacts by the names of the steps.

    Steps that need ground truth are left out if images lack it, with a warning if that is the last step.

    Raises:
        UsageError: several rounds are not possible with these settings.
    """
    refuse_impossible_rounds(settings)
    images, chain = list_images(data, store), chain_of(settings)
    names = possible(settings, lambda step: num_without_truth(step, data, images))
    if (last := tuple(chain)[-1]) not in names:
        without = num_without_truth(chain[last], data, images)
        options.reporter.warn(
            f"ground truth missing for {counted(without, 'image')} of split {settings.eval.split or data.val!r}: "
            "the chain ends with the network, without scores"
        )
    announce = _announcer(names, settings, data, store, options.reporter)
    made = run_stages(names, settings, data, store, options, begin=announce)
    return dict(zip(names, made, strict=True))


def _announcer(
    names: Sequence[str], settings: Settings, data: DataConfig, store: Store, reporter: Reporter
) -> Callable[[str, Mapping[str, Artifact]], None]:
    """A function that prints, before each step, its number, and "cached" or why it runs."""
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
    """Run some steps of the chain in order, each from what those before it made.

    Args:
        names: the steps; a stage outside the chain has its own name.
        settings: the settings of all stages.
        data: where the images are; None if the upstream artifacts determine it.
        store: where the artifacts go.
        options: how to run on this machine.
        made: artifacts to start from, by step.
        begin: called before each step, with its name and the earlier artifacts.
    """
    known: dict[str, Artifact] = dict(made or {})
    chain = chain_of(settings)
    for name in names:
        step = step_of(name, settings, chain)
        work, starts = _work(step.stage), step.starts
        begin(name, known)
        inputs = [known[start] for start in starts.values()]
        given = Inputs(upstream=inputs[0] if inputs else None, data=data, network=known.get(starts.get("network", "")))
        known[name] = work.run(work.config(step.settings), given, store, options)
        yield known[name]
