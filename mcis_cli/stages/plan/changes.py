"""What recipes in a store were of, and what has changed about the inputs since: images, tags, masks, artifacts."""

from collections.abc import Collection, Mapping
from typing import Any

from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.errors import DamagedError, MissingError
from mcis_cli.stages import stages
from mcis_cli.stages.materials import DATASET
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.store.artifact import file_name
from mcis_cli.store.notes import Done
from mcis_cli.store.upkeep.verification import locate

ALL_PARTS = frozenset({"images", "labels", "masks", "saliency", "splits"})
_NOUNS = {"images": "images", "labels": "tags", "masks": "masks", "saliency": "saliency maps", "splits": "splits"}


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
    reads = ALL_PARTS if work is None else work.reads
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
        before = {image_id: fields for image_id, fields in dataset.records() if _belongs(fields, split, domains)}
    after = {entry.id: entry for entry in images.entries}
    changed = sum(
        any(_part_then(before[image_id], part) != _part_now(after[image_id], part) for part in parts)
        for image_id in before.keys() & after.keys()
    )
    counts = {"added": len(after.keys() - before.keys()), "removed": len(before.keys() - after.keys())}
    listed = [f"{count} {word}" for word, count in {**counts, "changed": changed}.items() if count]
    return f"{other}: {', '.join(listed)}" if listed else other


def _belongs(fields: Mapping[str, Any], split: object, domains: Collection[str] | None) -> bool:
    domain = _domain_then(fields)
    if domains is not None and (domain != "target" or domain not in domains):
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
    """The domain of an image; lists of sets without sources do not name it."""
    return fields["domain"].tobytes().decode() if "domain" in fields else "target"


def _part_now(entry: ImageEntry, part: str) -> object:
    match part:
        case "images":
            return entry.digest
        case "labels":
            return entry.domain, entry.labels
        case "splits":
            return "\n".join(sorted(entry.splits))
    return entry.mask_digest if part == "masks" else entry.saliency_digest
