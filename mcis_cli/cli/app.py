"""The command `mcis`, and how errors become one line and an exit code."""

import io
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, TextIO, cast

import typer

from mcis_cli import __version__
from mcis_cli.cli import memory
from mcis_cli.cli.command_list import GroupedCommands, renamed
from mcis_cli.cli.terminal.output import Watched, complain, say
from mcis_cli.errors import McisError, StorageError

INTERRUPTED, BUG = 130, 1

app = typer.Typer(
    name="mcis",
    cls=GroupedCommands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "terminal_width": max(38, min(shutil.get_terminal_size().columns, 80) - 2),
    },
)


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
    """From images with tags to pixel masks: weakly supervised segmentation.

    mcis init photos/ --preset best && mcis run

    mcis train-cls photos/ --preset best | mcis cams | mcis pseudo | mcis report
    """


class _Warnings(logging.Handler):
    """Shows what rooms below warn of that know no reporter."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.levelname.lower(), record.getMessage())


_WARNINGS = _Warnings(logging.WARNING)


def run(arguments: list[str], stopping: Callable[[], bool]) -> int:
    """Run one command and return its exit code, after all output has been written.

    Args:
        arguments: of the command.
        stopping: whether a signal has requested a stop; errors are then only its consequence.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    logging.getLogger("mcis_cli").addHandler(_WARNINGS)
    debug = "--debug" in arguments or bool(os.environ.get("MCIS_DEBUG"))
    return _watched_run(arguments or ["--help"], debug, stopping)


def _watched_run(arguments: list[str], debug: bool, stopping: Callable[[], bool]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the locale cannot encode must not stop the command
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 and stream is sys.stdout else "backslashreplace")
    stdout = Watched(sys.stdout)
    streams = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, stdout)
    try:
        code = _run(arguments, debug, stdout, stopping)
        with suppress(OSError):
            stdout.flush()
    finally:
        sys.stdout, sys.stderr = streams  # Typer replaces the streams if a pipe broke
    if stdout.failure is None:
        return code
    with suppress(OSError, ValueError):  # otherwise Python tries again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _unwritten(stdout.failure) if code in (0, StorageError.exit_code) else code


def _unwritten(failure: OSError) -> int:
    """The exit code if stdout failed. A reader that closes the pipe is no error; finished work is kept."""
    if isinstance(failure, BrokenPipeError):
        return 0
    complain("error", f"stdout cannot be written: {failure.strerror}; finished work is kept, send the output elsewhere")
    return StorageError.exit_code


def _run(arguments: list[str], debug: bool, stdout: Watched, stopping: Callable[[], bool]) -> int:
    try:
        return _call(arguments, stopping)
    except McisError as error:
        if debug:
            traceback.print_exc()
        complain("error", str(error))
        return error.exit_code
    except SystemExit as left:
        broken = left.__context__  # Typer exits if any pipe broke
        if not isinstance(broken, BrokenPipeError):
            return int(left.code or 0)
        return _file_fault(broken) if stdout.failure is None else StorageError.exit_code
    except OSError as error:
        if memory.ran_out(error):
            return _lack_of_memory(error, arguments)
        return _file_fault(error) if stdout.failure is None else StorageError.exit_code
    except Exception as error:
        # Errors of the command line's parser have their own message and exit code.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            context = getattr(error, "ctx", None)
            command = "mcis" if context is None else context.command_path
            message = error.format_message().rstrip(".")
            if (now := renamed(command, message)) is not None:
                message = now
            if message.startswith("Got unexpected extra argument"):
                message += "; put a name with blanks into quotes"
            complain("error", f"{message}; see `{command} --help`")
            return 2
        if debug:
            traceback.print_exc()
        if memory.ran_out(error):
            return _lack_of_memory(error, arguments)
        reason = " ".join(str(error).split()) or "no message"
        complain("bug", f"{type(error).__name__}: {reason} (run again with `mcis --debug` to see where)")
        return BUG


def _call(arguments: list[str], stopping: Callable[[], bool]) -> int:
    try:
        code = int(app(args=arguments, prog_name="mcis", standalone_mode=False) or 0)
    except Exception as error:
        if isinstance(error, typer.Abort) or stopping():
            raise KeyboardInterrupt from error
        raise
    if code == INTERRUPTED:  # Typer raises this for Ctrl-C
        raise KeyboardInterrupt
    return code


def _lack_of_memory(error: Exception, arguments: list[str]) -> int:
    lack = memory.explained(error, arguments)
    complain("error", str(lack))
    return lack.exit_code


def _file_fault(error: OSError) -> int:
    complain("error", f"{error.filename or 'a file or pipe'} cannot be used: {error.strerror or error}")
    return StorageError.exit_code
