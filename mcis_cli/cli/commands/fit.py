"""`mcis fit`: thresholds of pseudo masks that suit corrected masks."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcis_cli.cli.session import options as opt
from mcis_cli.cli.session.groups import Place
from mcis_cli.cli.session.settings_file import toml, with_values
from mcis_cli.cli.session.upstream import expected_artifact, upstream_reference
from mcis_cli.cli.session.workspace import Workspace
from mcis_cli.cli.terminal.folder_output import OutputFolder
from mcis_cli.cli.terminal.output import TerminalReporter, say
from mcis_cli.config import PseudoConfig, read_toml, resolve
from mcis_cli.errors import StorageError, UsageError, counted
from mcis_cli.store import Artifact

if TYPE_CHECKING:
    from mcis_cli.stages.pseudo.fitting import Fitted


def fit(
    masks: opt.Upstream = None,
    *,
    corrected: Annotated[str, opt.artifact("--corrected", "corrected masks", "Masks of mcis import --corrected.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the values; do not write mcis.toml.")] = False,
    data: opt.DataOption = None,
    workers: opt.Workers = None,
    place: Place,
    as_json: opt.AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fit the thresholds of pseudo masks to corrected masks.

    Makes the masks of the corrected images with other thresholds, weights of saliency and of classes, and strengths of
    the CRF, writes the values that suit the corrections into mcis.toml, and prints them as SECTION.FIELD=VALUE, which
    --set takes.

    Example: mcis fit pseudo --corrected 9be01f77 --dry-run
    """
    from mcis_cli.stages import names_of
    from mcis_cli.stages.engine.inputs import Inputs
    from mcis_cli.stages.pseudo import fitting

    previous = names_of("pseudo masks")[0]
    reference = upstream_reference(masks, previous)
    workspace = place.open(upstream=reference, may_create=False)
    upstream = expected_artifact(workspace, reference, previous)
    if upstream.stage not in names_of("pseudo masks"):
        raise UsageError(f"{upstream.path.stem} was made by {upstream.stage}: expected pseudo masks")
    here = None if dry_run else _required_settings(workspace, upstream)
    fixed = workspace.store.get(corrected)
    reporter = TerminalReporter(quiet=quiet)
    inputs = Inputs(upstream=upstream, data=workspace.data_for(upstream, data, reference))
    try:
        options = opt.run_options(workers=workers, reporter=reporter, preset=workspace.preset(upstream))
        found = fitting.run(upstream, fixed, inputs, workspace.store, options)
    finally:
        reporter.stop()
    gain = f"{100 * found.gain:+.1f} ± {100 * found.error:.1f} points"
    by = f"by {counted(found.num_images, 'corrected image')} of {fixed.path.stem}"
    reporter.note(
        f"fit: {_changes(found)}; expected gain in mean IoU of the classes per image {gain}, {by}, leave-one-out"
    )
    if found.gain <= found.error and found.values != found.before:
        reporter.warn("the expected gain is within its standard error: correct more images, or keep the values")
    if here is not None:
        _write(workspace, here, found, f"mcis fit: {_changes(found)}; expected {gain} {by}")
    _print(found, as_json=as_json)


def _changes(found: "Fitted") -> str:
    return ", ".join(
        f"{name} {_spelled(value)}"
        + (" as before" if value == found.before[name] else f" (before {_spelled(found.before[name])})")
        for name, value in found.values.items()
    )


def _spelled(value: float | Mapping[str, float]) -> str:
    return toml(value) if isinstance(value, Mapping) else f"{value:g}"


def _print(found: "Fitted", *, as_json: bool) -> None:
    if as_json:
        facts = {"images": found.num_images, "gain": round(found.gain, 4), "error": round(found.error, 4)}
        say(json.dumps({"values": dict(found.values), "before": dict(found.before), **facts}))
        return
    for name, value in found.values.items():
        say(f"pseudo.{name}={_spelled(value)}")


def _required_settings(workspace: Workspace, masks: Artifact) -> PseudoConfig:
    """The settings of the file, after checking before any work that it can be written and describes such masks.

    Raises:
        UsageError: there is no file, or it makes masks in another way, which the values would not fit.
        StorageError: it cannot be written.
    """
    file = workspace.config_file
    if file is None:
        raise UsageError("no mcis.toml to write to: run `mcis init DATA` first, or give --dry-run to print the values")
    made = PseudoConfig.of_recipe(masks.manifest["recipe"]["config"])
    of_stage = {masks.stage: read_toml(file).get(masks.stage, {})}  # without --set
    here = resolve(of_stage, workspace.preset(masks)).pseudo
    for name in ("background", "fusion", "crf"):
        if getattr(made, name) != getattr(here, name):
            raise UsageError(
                f"{file} has pseudo.{name} {getattr(here, name)!r}, {masks.path.stem} was made with "
                f"{getattr(made, name)!r}: expected the same; change the file, or give --dry-run to print the values"
            )
    if not os.access(file, os.W_OK):
        raise StorageError(f"{file} is read-only: make it writable, or give --dry-run to print the values")
    OutputFolder(file.resolve().parent, "--config").require()
    return here


def _write(workspace: Workspace, here: PseudoConfig, found: "Fitted", remark: str) -> None:
    """Write the values that the file does not have yet, which may differ from those of the masks."""
    from mcis_cli.stages.pseudo.fitting import value_of

    assert workspace.config_file is not None, "checked before"
    values = dict(found.values)
    if "class_weights" in values:
        values["class_weights"] = {**here.class_weights, **values["class_weights"]}
    changed = {f"pseudo.{name}": value for name, value in values.items() if value != value_of(here, name)}
    if not changed:
        return
    file = workspace.config_file.resolve()  # a link stays
    mode = file.stat().st_mode
    made = with_values(file.read_bytes().decode(), changed, remark, str(workspace.config_file))
    OutputFolder(file.parent, "--config").write(Path(file.name), made.encode()).chmod(mode)
