"""Damage mended: what `mcis verify --repair` does, each thing after those that it depends on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mcis_cli.errors import DamagedError, McisError, MissingError
from mcis_cli.stages.plan.rebuild import Means, rebuild
from mcis_cli.store import Artifact, Store
from mcis_cli.store.artifact import file_name
from mcis_cli.store.locks import held
from mcis_cli.store.notes import Done
from mcis_cli.store.upkeep import mending
from mcis_cli.store.upkeep.verification import Finding


@dataclass(frozen=True)
class Outcome:
    """What became of a finding.

    Attributes:
        finding: what was damaged, or missing.
        is_mended: whether it is as it was.
        how: what was done, or what is in the way and helps.
    """

    finding: Finding
    is_mended: bool
    how: str


def repair(store: Store, findings: Iterable[Finding], means: Means) -> Iterator[Outcome]:
    """Set damaged files aside and make them again: notes and tags first, then artifacts, each after its inputs.

    Args:
        store: the store.
        findings: from `verification.verify`.
        means: what it may take.

    Raises:
        BusyError: another process repairs the same store.
        StorageError: a file cannot be moved or written.
    """
    findings = list(findings)
    with held(store.root / "locks" / "repair", None, "fail"):
        known = mending.all_done(store)
        for finding in findings:
            if finding.kind != "artifact":
                yield _mended(store, finding, known)
        artifacts = [finding for finding in findings if finding.kind == "artifact"]
        yield from _Repair(store, known, means).artifacts(artifacts)


def _mended(store: Store, finding: Finding, known: Iterable[Done]) -> Outcome:
    """Mend what nothing has to be computed for."""
    if finding.kind == "key":
        return Outcome(finding, True, mending.mend_done(store, finding, known))
    if finding.kind == "tag":
        how = mending.mend_tag(store, finding, known)
        lost = f"set aside: give it again with `mcis tag {finding.path.name} ARTIFACT`"
        return Outcome(finding, how is not None, how or lost)
    mending.move_aside(store, finding.path)
    again = "its stage does that part again"
    if finding.kind == "location":
        again = "the next command that lists the images notes their place again"
    return Outcome(finding, True, f"set aside: {again}")


class _Repair:
    """The artifacts of one repair, each made at most once."""

    def __init__(self, store: Store, known: Iterable[Done], means: Means) -> None:
        self._store, self._means = store, means
        self._known: dict[str, Done] = {done.id: done for done in known}
        self._failures: dict[str, McisError] = {}

    def artifacts(self, findings: Sequence[Finding]) -> Iterator[Outcome]:
        """Set all of them aside, so that none is taken for an input, then make them again; data sets first, since
        every stage lists its images anew."""
        for finding in findings:
            if not finding.is_missing:
                mending.move_aside(self._store, finding.path)
        for finding in sorted(findings, key=lambda one: not one.path.name.startswith("dataset-")):
            yield self._made(finding)

    def _made(self, finding: Finding) -> Outcome:
        done = next((one for one in self._known.values() if _name(one) == finding.path.name), None)
        if done is None:
            nothing = "set aside: nothing tells how it was made; run its stage again, or copy it from elsewhere"
            return Outcome(finding, False, nothing)
        try:
            return Outcome(finding, True, self._make(done))
        except McisError as error:
            return Outcome(finding, False, str(error))

    def _make(self, done: Done) -> str:
        """Make an artifact again, after those that it is made from; returns how."""
        if done.id in self._failures:
            raise self._failures[done.id]
        try:
            if self._is_there(done):
                return "made again"
            if mending.recovered(self._store, done):
                return "it was under the name of another, and has its own again"
            for content_id in done.recipe.inputs.values():
                if content_id in self._known:
                    self._make_input(done, self._known[content_id])
            made = rebuild(done, self._store, self._means)
            if made.id != done.id:
                raise MissingError(_differs(done, made))
        except McisError as error:
            self._failures[done.id] = error
            raise
        return "made again"

    def _make_input(self, done: Done, upstream: Done) -> None:
        try:
            self._make(upstream)
        except McisError as error:
            raise MissingError(f"its input {_name(upstream)} is not there: {error}") from error

    def _is_there(self, done: Done) -> bool:
        """Whether an artifact needs no making; one that is damaged, though nobody has found that yet, is set aside."""
        path = self._store.root / "artifacts" / _name(done)
        try:
            with self._store.get(path) as artifact:
                if artifact.is_intact():
                    return True
        except MissingError:
            return False
        except DamagedError:
            pass
        mending.move_aside(self._store, path)
        return False


def _name(done: Done) -> str:
    return file_name(done.recipe.stage, done.id)


def _differs(done: Done, made: Artifact) -> str:
    before, now = (dict(part.get("machine", {})) for part in (done.provenance, made.provenance))
    changed = [f"{name} {before[name]}, now {now.get(name)}" for name in before if before[name] != now.get(name)]
    reason = f" ({'; '.join(changed)})" if changed else ""
    return (
        f"made again as {made.path.name}, which differs{reason}; what was made from the old one is still found, "
        "the next `mcis run` goes on from the new one"
    )
