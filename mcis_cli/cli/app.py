"""The command `mcis`: its groups of commands, and how errors become one line and an exit code."""

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer

from mcis_cli import __version__
from mcis_cli.cli import chain, datasets, demo, inspect, pipeline, predict
from mcis_cli.cli.output import complain, say
from mcis_cli.errors import McisError, StorageError

INTERRUPTED, TERMINATED, BUG = 130, 143, 1

app = typer.Typer(
    name="mcis",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (pipeline, chain, demo, datasets, predict, inspect):
    group.register(app)


class Terminated(BaseException):
    """SIGTERM arrived."""


def version(value: bool) -> None:
    """Print the version and leave."""
    if value:
        say(f"mcis {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From images with tags to pixel masks: weakly supervised semantic segmentation.

    mcis train-cls photos/ | mcis cams --refs 3 | mcis pseudo | mcis train-seg | mcis eval --crf
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given or bool(os.environ.get("MCIS_DEBUG"))
    signal.signal(signal.SIGTERM, _terminate)
    _fill_closed_streams()
    code = _run(given or ["--help"], debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our stdout has left; what is done is kept.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _fill_closed_streams() -> None:
    """Where stdin, stdout or stderr came closed, put the null device: else the next file opened gets its number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        code = int(app(args=arguments, prog_name="mcis", standalone_mode=False) or 0)
        return _stopped(INTERRUPTED) if code == INTERRUPTED else code  # Typer makes this of Ctrl-C
    except McisError as error:
        if debug:
            traceback.print_exc()
        complain("error", str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(INTERRUPTED)
    except Terminated:
        return _stopped(TERMINATED)
    except BrokenPipeError:
        return 0
    except SystemExit as left:
        # Typer makes this of a stdout that nobody reads any more.
        return 0 if isinstance(left.__context__, BrokenPipeError) else int(left.code or 0)
    except OSError as error:
        complain("error", f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")
        return StorageError.exit_code
    except Exception as error:
        # Errors of the command line's own parser bring a message and a code of theirs.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            complain("error", f"{error.format_message().rstrip('.')}; see `mcis --help`")
            return 2
        if debug:
            traceback.print_exc()
        reason = " ".join(str(error).split()) or "no message"
        complain("bug", f"{type(error).__name__}: {reason} (run again with `mcis --debug` to see where)")
        return BUG


def _stopped(code: int) -> int:
    complain("stopped", "what is done is kept; run the same command again to go on from there")
    return code


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
