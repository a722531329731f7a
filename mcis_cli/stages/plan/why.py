"""Why a stage would run again: the difference of two recipes, field by field, and what has changed in their inputs.

No torch, nothing computed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcis_cli.config import DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.records import SCHEMA_WITH_SOURCES, as_records
from mcis_cli.errors import DamagedError, MissingError
from mcis_cli.stages import command_of, stages
from mcis_cli.stages.engine.inputs import look_at_images
from mcis_cli.stages.materials import DATASET, dataset_recipe
from mcis_cli.stages.plan.chain import chain_of, plan, request, sources
from mcis_cli.stages.stage import Wanted
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.store.artifact import file_name
from mcis_cli.store.notes import Done
from mcis_cli.store.upkeep.verification import locate

_NOUNS = {"images": "images", "labels": "tags", "masks": "masks", "saliency": "saliency maps", "splits": "splits"}
_FIELDS = {  # of records of a data set, by part
    "images": ("digest",),
    "labels": ("labels", "domain"),
    "masks": ("mask_digest",),
    "saliency": ("saliency_digest",),
    "splits": ("splits",),
}


@dataclass(frozen=True)
class Difference:
    """A field of a recipe that has another value now: its name with dots, both values (None: absent), and words."""

    field: str
    then: Any
    now: Any
    text: str


@dataclass(frozen=True)
class Explanation:
    """How a recipe that was made or begun differs from the one that a configuration asks for.

    Attributes:
        then: the recipe.
        made: the name of the artifact that came of it, if it was made.
        exists: whether that is in the store.
        differences: none where the artifact would be reused.
    """

    then: Recipe
    made: str | None
    exists: bool
    differences: tuple[Difference, ...]


def explain(ref: str, settings: Settings, data: DataConfig, store: Store) -> Explanation:
    """Compare a recipe with the one that a configuration asks for.

    Args:
        ref: an artifact, as in `Store.get`; 8 or more digits of a key; or a stage, which stands for its newest.
        settings: the settings that are asked for.
        data: where the images are.
        store: the store.

    Raises:
        MissingError: nothing of that name was made or begun.
    """
    then, done = recipe_of(ref, store)
    name = None if done is None else file_name(then.stage, done.id).removesuffix(".h5")
    exists = name is not None and (store.root / "artifacts" / f"{name}.h5").exists()
    catalogue, waiting = look_at_images(data, store), dict[str, Difference]()
    now: Recipe | None = dataset_recipe(catalogue)
    if then.stage != DATASET.name:
        wanted, waiting = _asked(then, settings, data, store, catalogue)
        now = None if wanted is None else _at_same_precision(then, wanted)
        catalogue = catalogue if wanted is None else wanted.images
    if now is None:
        return Explanation(then, name, exists, tuple(waiting.values()))
    texts = input_changes(then, now, done, catalogue, store)
    return Explanation(then, name, exists, tuple(compare(then, now, texts, waiting)))


def reasons(wanted: Wanted, known: Sequence[Done], store: Store) -> tuple[str, ...]:
    """Why something would be computed: how it differs from the most similar of what was made of its stage.

    Args:
        wanted: what is asked for and does not exist.
        known: everything that was made, oldest first.
        store: the store.
    """
    made = [done for done in reversed(known) if done.recipe.stage == wanted.stage]
    if not made:
        return (f"nothing of {wanted.stage} was made before",)
    compared = [(one, _at_same_precision(one.recipe, wanted)) for one in made]
    nearest, now = min(compared, key=lambda pair: len(list(compare(pair[0].recipe, pair[1]))))
    texts = input_changes(nearest.recipe, now, nearest, wanted.images, store)
    found = [f"{one.field.removeprefix('config.')}: {one.text}" for one in compare(nearest.recipe, now, texts)]
    return tuple(found) or (f"{file_name(wanted.stage, nearest.id).removesuffix('.h5')} is gone",)


def compare(
    then: Recipe, now: Recipe, texts: Mapping[str, str] | None = None, waiting: Mapping[str, Difference] | None = None
) -> Iterator[Difference]:
    """The fields in which two recipes of one stage differ.

    Args:
        then: a recipe.
        now: another one.
        texts: words for inputs that differ, by role.
        waiting: the differences of inputs that do not exist yet, by role.
    """
    if then.version != now.version:
        yield Difference("version", then.version, now.version, f"{then.version}, now {now.version}")
    before, after = _settings(then, now), _settings(now, then)
    for name in changed_settings(before, after):
        words = [_as_text(values[name]) if name in values else "without effect" for values in (before, after)]
        yield Difference(f"config.{name}", before.get(name), after.get(name), f"{words[0]}, now {words[1]}")
    for role in sorted({*then.inputs, *now.inputs, *(waiting or {})}):
        was, is_now = then.inputs.get(role), now.inputs.get(role)
        if waiting and role in waiting:
            yield waiting[role]
        elif was != is_now:
            text = (texts or {}).get(role) or f"{_short(was)}, now {_short(is_now)}"
            yield Difference(f"inputs.{role}", was, is_now, text)


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings that differ; those that one side lacks only if no other does: they gain or lose their effect because
    another setting changed."""
    changed = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    return changed or sorted(before.keys() ^ after.keys())


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by name; those of a nested section with its name and a dot before."""
    for name, value in config.items():
        yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]


def _asked(
    then: Recipe, settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue
) -> tuple[Wanted | None, dict[str, Difference]]:
    """What the configuration asks of the stage now, and the differences of inputs that do not exist yet, by role; in
    their place stand those that the recipe had. None where one of these is gone, too."""
    stage, chain = stages().get(then.stage), chain_of(settings)
    if stage is None or stage.work is None:
        raise MissingError(f"no chain has the stage {then.stage}, so nothing asks for it; `mcis show` describes it")
    planned = {one.stage: one.artifact for one in plan(settings, data, store, catalogue)}
    starts = sources(then.stage, chain)
    inputs: dict[str, Artifact | None] = {}
    waiting: dict[str, Difference] = {}
    for role, start in starts.items():
        before = artifact_of(then.inputs.get(role, ""), store)
        maker = start if before is None else before.stage
        if (found := planned.get(maker)) is None:
            first = next((name for name, artifact in planned.items() if artifact is None), maker)
            old = _short(then.inputs.get(role)) if before is None else before.path.stem
            text = f"{old}, now what `mcis {command_of(maker)}` has yet to make; why: mcis show --why {first}"
            waiting[role] = Difference(f"inputs.{role}", then.inputs.get(role), None, text)
        inputs[role] = found or before
    known = {role: artifact for role, artifact in inputs.items() if artifact is not None}
    if len(known) < len(inputs):
        return None, waiting
    return stage.ask(request(settings, data, catalogue, known)), waiting


def _settings(of: Recipe, beside: Recipe) -> dict[str, Any]:
    """The settings of a recipe, with those that it omits at their first default and the other one names."""
    section = stages()[of.stage].section if of.stage in stages() else None
    implied = section.implied_by(of.config) if section is not None else {}
    named = {name: value for name, value in implied.items() if name in beside.config}
    return {**named, **dict(flat(of.as_dict()["config"]))}


def _at_same_precision(then: Recipe, wanted: Wanted) -> Recipe:
    """The recipe that is asked for, at the precision of another one where that is left open."""
    same = (one for one in wanted.recipes if one.config.get("precision") == then.config.get("precision"))
    return next(same, wanted.recipes[0])


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12] if len(digest) == 64 else digest


def recipe_of(ref: str, store: Store) -> tuple[Recipe, Done | None]:
    """The recipe that a reference names, and what came of it, if that was made.

    Args:
        ref: an artifact, as in `Store.get`; 8 or more digits of a key; or a stage, which stands for its newest.
        store: the store.

    Raises:
        MissingError: nothing of that name was made or begun.
    """
    known = sorted(store.all_done(), key=lambda done: str(done.provenance.get("created", "")))
    stage = stages().get(ref)
    if stage is not None and (stage.work is not None or stage is DATASET):
        newest = [done for done in known if done.recipe.stage == ref]
        if not newest:
            raise MissingError(f"nothing of {ref} was made in {store.root}, so nothing can differ; run `mcis {ref}`")
        return newest[-1].recipe, newest[-1]
    if len(ref) >= 8:
        begun: list[tuple[Recipe, Done | None]] = [
            (one, None) for one in store.unfinished().values() if one is not None
        ]
        for recipe, done in [*((done.recipe, done) for done in known), *begun]:
            if recipe.key.startswith(ref):
                return recipe, done
    path = locate(store, ref)
    for done in reversed(known):
        if file_name(done.recipe.stage, done.id) == path.name:
            return done.recipe, done
    with Artifact(path) as artifact:
        try:
            recipe = Recipe(stage=artifact.stage, **artifact.manifest["recipe"])
        except (TypeError, ValueError):
            raise DamagedError(f"{path} is damaged: its recipe is not understood; copy it again") from None
        return recipe, Done(recipe, artifact.id, artifact.meta, artifact.provenance)


def artifact_of(content_id: str, store: Store) -> Artifact | None:
    """The artifact of a content id, if it is in the store."""
    try:
        return store.get(content_id) if len(content_id) == 64 else None
    except MissingError:
        return None


def input_changes(then: Recipe, now: Recipe, done: Done | None, images: Catalogue, store: Store) -> dict[str, str]:
    """Words for the inputs of two recipes that differ, by role: names of artifacts, or counts of changed images.

    Args:
        then: the recipe that was made or begun.
        now: the one that is asked for.
        done: what came of the first.
        images: the images that the second reads.
        store: the store.
    """
    stage = stages().get(then.stage)
    work = stage.work if stage is not None else None
    reads = frozenset(_NOUNS) if work is None else work.reads
    texts = {}
    for role in {*then.inputs} & {*now.inputs}:
        if then.inputs[role] == now.inputs[role]:
            continue
        before, after = (artifact_of(digest, store) for digest in (then.inputs[role], now.inputs[role]))
        to = now.inputs[role] if after is None else after.path.stem
        if role in (work.roles if work else ()):
            if len(to) != 64:  # a name, or words for what is not made yet
                texts[role] = f"{then.inputs[role][:12] if before is None else before.path.stem}, now {to}"
        elif role in ("files", "images", "references", *_NOUNS):
            parts = frozenset({role}) if role in ("masks", "saliency") else reads
            texts[role] = _image_changes(then, done, store, images, parts, role)
    return texts


def _image_changes(
    then: Recipe, done: Done | None, store: Store, images: Catalogue, parts: frozenset[str], role: str
) -> str:
    """What is different about images, tags, masks or saliency maps, if the list of then is in the store."""
    nouns = [noun for part, noun in _NOUNS.items() if part in parts]
    other = f"other {' or '.join(nouns)}" if len(nouns) < 3 else "another data set"
    files = then.inputs.get("files") if then.stage == DATASET.name else (done.meta.get("dataset") if done else None)
    dataset = store.find(DATASET.recipe({}, {"files": files})) if isinstance(files, str) else None
    if dataset is None:
        return other
    stage = stages()[then.stage]
    domains = None if stage.work is None else stage.work.domains(then, role)
    with dataset:
        if parts != {"images"} and list(dataset.meta["class_names"]) != list(images.class_names):
            return f"{other}: other classes"
        split = None if done is None or stage is DATASET else done.meta.get("split")
        records = ((image_id, _as_bytes(fields)) for image_id, fields in dataset.records())
        before = {image_id: fields for image_id, fields in records if _belongs(fields, split, domains)}
    after = {image_id: _as_bytes(fields) for image_id, fields in as_records(images, SCHEMA_WITH_SOURCES)}
    compared = [name for part in parts for name in _FIELDS[part]]
    common = before.keys() & after.keys()
    changed = sum(any(before[one][name] != after[one][name] for name in compared) for one in common)
    counts = {"added": len(after) - len(common), "removed": len(before) - len(common), "changed": changed}
    listed = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{other}: {', '.join(listed)}" if listed else other


def _as_bytes(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """The fields of a record of a data set; those of sets without sources do not name the domain."""
    return {"domain": b"target", **{name: array.tobytes() for name, array in fields.items()}}


def _belongs(fields: Mapping[str, bytes], split: object, domains: Collection[str] | None) -> bool:
    domain = fields["domain"].decode()
    if domains is not None and (domain != "target" or domain not in domains):
        return domain in domains
    return split in (None, "all") or split in fields["splits"].decode().split("\n")
