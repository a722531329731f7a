"""Why a stage would run again: what differs between a recipe that was done and the one that is asked for now.

No torch, nothing computed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mcis_cli.config import DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import DamagedError, MissingError
from mcis_cli.stages.engine import recipes
from mcis_cli.stages.engine.inputs import look_at_images
from mcis_cli.stages.plan.chain import CHAIN, COMMANDS, NETWORKS, Wanted, chain_of, plan, wanted_of
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.store.artifact import file_name
from mcis_cli.store.notes import Done
from mcis_cli.store.upkeep.verification import locate

ROLES: Mapping[str, str] = {
    "cams": "classifier",
    "affinity-labels": "maps",
    "affinity-net": "labels",
    "affinity": "maps",
    "pseudo": "maps",
    "train-seg": "masks",
    "eval": "artifact",
}
_ALL_PARTS = {"images", "labels", "masks", "saliency", "splits"}
_READ: Mapping[str, set[str]] = {"train-cls": {"images", "labels"}, "cams": {"images", "labels"}}
_NOUNS = {"images": "images", "labels": "tags", "masks": "masks", "saliency": "saliency maps", "splits": "splits"}


@dataclass(frozen=True)
class Difference:
    """A field of a recipe that is another one now.

    Attributes:
        field: its name, with dots.
        then: what it was; None where it was not there.
        now: what it is asked to be.
        told: for people.
    """

    field: str
    then: Any
    now: Any
    told: str


@dataclass(frozen=True)
class Explanation:
    """What was done, and how what is asked for differs.

    Attributes:
        then: the recipe that was done, or begun.
        made: the name of the artifact that came of it, if it was done.
        is_there: whether that is in the store.
        differences: none where it would be found done.
    """

    then: Recipe
    made: str | None
    is_there: bool
    differences: tuple[Difference, ...]


def explain(ref: str, settings: Settings, data: DataConfig, store: Store) -> Explanation:
    """Compare a recipe with the one that a configuration asks for.

    Args:
        ref: an artifact, as in `Store.get`; 8 or more digits of a key; or a stage, which is its newest artifact.
        settings: that are asked for.
        data: where the images are.
        store: the store.

    Raises:
        MissingError: nothing of that name was done or begun.
    """
    recipe, done = _recipe_of(ref, store)
    catalogue = look_at_images(data, store)
    name = None if done is None else file_name(recipe.stage, done.id).removesuffix(".h5")
    is_there = name is not None and (store.root / "artifacts" / f"{name}.h5").exists()
    differences = tuple(_differences(recipe, done, settings, data, store, catalogue))
    return Explanation(recipe, name, is_there, differences)


def reasons(wanted: Wanted, known: Sequence[Done], store: Store) -> tuple[str, ...]:
    """Why something would be computed: how it differs from the nearest of what was done of its stage.

    Args:
        wanted: what is asked for, and not there.
        known: what was done, oldest first.
        store: the store.
    """
    before = [done for done in known if done.recipe.stage == wanted.stage]
    if not before:
        return (f"nothing of {wanted.stage} was done before",)
    differences = [list(_compared(done.recipe, _nearest(done.recipe, wanted), {})) for done in before]
    place = min(reversed(range(len(before))), key=lambda number: len(differences[number]))
    done = before[place]
    told = _told(done.recipe, done, wanted, store)
    listed = _compared(done.recipe, _nearest(done.recipe, wanted), told)
    found = tuple(f"{one.field.removeprefix('config.')}: {one.told}" for one in listed)
    return found or (f"{file_name(wanted.stage, done.id).removesuffix('.h5')} is gone",)


def _recipe_of(ref: str, store: Store) -> tuple[Recipe, Done | None]:
    known = sorted(store.all_done(), key=lambda done: str(done.provenance.get("created", "")))
    if ref in (*CHAIN, "dataset"):
        newest = [done for done in known if done.recipe.stage == ref]
        if not newest:
            raise MissingError(f"nothing of {ref} was done in {store.root}, so nothing can differ; run `mcis {ref}`")
        return newest[-1].recipe, newest[-1]
    begun = [recipe for recipe in store.unfinished().values() if recipe is not None]
    if len(ref) >= 8:
        for done in known:
            if done.recipe.key.startswith(ref):
                return done.recipe, done
        for recipe in begun:
            if recipe.key.startswith(ref):
                return recipe, None
    path = locate(store, ref)
    for done in reversed(known):
        if file_name(done.recipe.stage, done.id) == path.name:
            return done.recipe, done
    with Artifact(path) as artifact:
        try:
            recipe = Recipe(stage=artifact.stage, **artifact.manifest["recipe"])
        except (TypeError, ValueError):
            raise DamagedError(f"{path} is damaged: its recipe is not understood; copy it anew") from None
        return recipe, Done(recipe, artifact.id, artifact.meta, artifact.provenance)


def _differences(
    then: Recipe, done: Done | None, settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue
) -> Iterator[Difference]:
    if then.stage == "dataset":
        now = recipes.dataset(catalogue)
        told = _change(then, done, store, catalogue, _ALL_PARTS)
        yield from _compared(then, now, {"files": told})
        return
    if then.stage not in CHAIN:
        raise MissingError(f"{then.stage} is no stage of the chain, nothing asks for it; `mcis show` tells what it is")
    planned = {one.stage: one.artifact for one in plan(settings, data, store, catalogue)}
    inputs = {role: _input(role, then, settings, planned, store) for role in _roles(then, settings)}
    waits = {role: waiting for role, (_, waiting) in inputs.items() if waiting is not None}
    if any(artifact is None for artifact, _ in inputs.values()):
        yield from waits.values()
        return
    upstream, network = (inputs[role][0] if role in inputs else None for role in (ROLES.get(then.stage), "network"))
    wanted = wanted_of(then.stage, settings, data, catalogue, upstream, network=network)
    yield from _compared(then, _nearest(then, wanted), _told(then, done, wanted, store), waits)


def _roles(then: Recipe, settings: Settings) -> tuple[str, ...]:
    """The inputs that are artifacts of the chain; none where the stage starts from images."""
    if then.stage == "train-cls" or (then.stage == "train-seg" and settings.train_seg.supervision == "full"):
        return ()
    return (ROLES[then.stage], "network") if then.stage in NETWORKS else (ROLES[then.stage],)


def _input(
    role: str, then: Recipe, settings: Settings, planned: Mapping[str, Artifact | None], store: Store
) -> tuple[Artifact | None, Difference | None]:
    """The artifact that the stage would start from now. Where that is not done, the one it started from, and word of
    that."""
    before = _artifact(then.inputs.get(role, ""), store)
    start = "affinity-net" if role == "network" else chain_of(settings).get(then.stage) or "cams"
    stage = before.stage if before is not None else start
    if (found := planned.get(stage)) is not None:
        return found, None
    old = before.path.stem if before is not None else then.inputs.get(role, "")[:12]
    to_do = next((name for name, artifact in planned.items() if artifact is None), stage)
    told = f"{old}, now what `mcis {COMMANDS[stage]}` has yet to make; why: mcis show --why {to_do}"
    return before, Difference(f"inputs.{role}", then.inputs.get(role), None, told)


def _artifact(content_id: str, store: Store) -> Artifact | None:
    try:
        return store.get(content_id) if len(content_id) == 64 else None
    except MissingError:
        return None


def _nearest(then: Recipe, wanted: Wanted) -> Recipe:
    """The recipe with the precision of then, where that is left open."""
    same = (one for one in wanted.recipes if one.config.get("precision") == then.config.get("precision"))
    return next(same, wanted.recipes[0])


def _compared(
    then: Recipe, now: Recipe, told: Mapping[str, str], waits: Mapping[str, Difference] = MappingProxyType({})
) -> Iterator[Difference]:
    """Field by field: version, settings, inputs."""
    if then.version != now.version:
        yield Difference("version", then.version, now.version, f"{then.version}, now {now.version}")
    said = {*then.config, *now.config}
    meant = ({name: value for name, value in recipes.unsaid(one).items() if name in said} for one in (then, now))
    config = (dict(flat(recipe.as_dict()["config"])) for recipe in (then, now))
    before, after = (unsaid | given for unsaid, given in zip(meant, config, strict=True))
    changed = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    # Settings have no effect, or have one, because of another that changed; they are worth a line only without it.
    for name in changed or sorted(before.keys() ^ after.keys()):
        spelled = [_spelled(values, name) for values in (before, after)]
        yield Difference(f"config.{name}", before.get(name), after.get(name), f"{spelled[0]}, now {spelled[1]}")
    for role in sorted({*then.inputs, *now.inputs}):
        if role in waits:
            yield waits[role]
        elif then.inputs.get(role) != now.inputs.get(role):
            text = told.get(role) or f"{_short(then.inputs.get(role))}, now {_short(now.inputs.get(role))}"
            yield Difference(f"inputs.{role}", then.inputs.get(role), now.inputs.get(role), text)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by name, those of a section with its name and a dot before."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _spelled(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "without effect"
    value = values[name]
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _short(digest: str | None) -> str:
    if digest is None:
        return "none"
    return digest[:12] if len(digest) == 64 else digest


def _told(then: Recipe, done: Done | None, wanted: Wanted, store: Store) -> dict[str, str]:
    """Words for inputs, which are digests."""
    told = {}
    now = _nearest(then, wanted)
    for role in {*then.inputs} & {*now.inputs}:
        if then.inputs[role] == now.inputs[role]:
            continue
        artifacts = [_artifact(digest, store) for digest in (then.inputs[role], now.inputs[role])]
        after = now.inputs[role] if artifacts[1] is None else artifacts[1].path.stem
        if role in (ROLES.get(then.stage), "network") and len(after) != 64:  # a name, or words for what is not made yet
            before = _short(then.inputs[role]) if artifacts[0] is None else artifacts[0].path.stem
            told[role] = f"{before}, now {after}"
        elif role in ("images", "references", "masks", "saliency"):
            parts = _READ.get(then.stage, {"images"}) if role in ("images", "references") else {role}
            told[role] = _change(then, done, store, wanted.images, parts, role)
    return told


def _change(
    then: Recipe, done: Done | None, store: Store, images: Catalogue, parts: set[str], role: str = "files"
) -> str:
    """What is different about images, tags, masks or saliency maps, as far as the list of then is in the store."""
    nouns = [noun for part, noun in _NOUNS.items() if part in parts]
    other = f"other {' or '.join(nouns)}" if len(nouns) < 3 else "another data set"
    dataset = _dataset(then, done, store)
    if dataset is None:
        return other
    with dataset:
        if parts != {"images"} and list(dataset.meta["class_names"]) != list(images.class_names):
            return f"{other}: other classes"
        split = None if done is None or then.stage == "dataset" else done.meta.get("split")
        domains = recipes.domains_of(then, role)
        before = {image_id: fields for image_id, fields in dataset.records() if _belongs(fields, split, domains)}
    after = {entry.id: entry for entry in images.entries}
    changed = sum(
        any(_part_then(before[image_id], part) != _part_now(after[image_id], part) for part in parts)
        for image_id in before.keys() & after.keys()
    )
    counts = {"added": len(after.keys() - before.keys()), "removed": len(before.keys() - after.keys())}
    listed = [f"{count} {word}" for word, count in {**counts, "changed": changed}.items() if count]
    return f"{other}: {', '.join(listed)}" if listed else other


def _dataset(then: Recipe, done: Done | None, store: Store) -> Artifact | None:
    """The list of the data set that a stage was run on."""
    files = then.inputs.get("files") if then.stage == "dataset" else (done.meta.get("dataset") if done else None)
    if not isinstance(files, str):
        return None
    return store.find(Recipe("dataset", recipes.VERSIONS["dataset"], {}, {"files": files}))


def _belongs(fields: Mapping[str, Any], split: object, domains: Collection[str]) -> bool:
    domain = _domain_then(fields)
    if domain != "target" or domain not in domains:
        return domain in domains
    return split in (None, "all") or split in fields["splits"].tobytes().decode().split("\n")


def _part_then(fields: Mapping[str, Any], part: str) -> object:
    match part:
        case "images":
            return fields["digest"].tobytes().hex()
        case "labels":
            return _domain_then(fields), tuple(fields["labels"].tolist())
        case "splits":
            return fields["splits"].tobytes().decode()
    return fields["mask_digest" if part == "masks" else "saliency_digest"].tobytes().hex() or None


def _domain_then(fields: Mapping[str, Any]) -> str:
    """The domain of an image, of which a list without sources says nothing."""
    return fields["domain"].tobytes().decode() if "domain" in fields else "target"


def _part_now(entry: Any, part: str) -> object:
    match part:
        case "images":
            return entry.digest
        case "labels":
            return entry.domain, entry.labels
        case "splits":
            return "\n".join(sorted(entry.splits))
    return entry.mask_digest if part == "masks" else entry.saliency_digest
