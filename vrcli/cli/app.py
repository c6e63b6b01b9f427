"""The `vr` command: which words there are, and how errors leave the process.

Nothing heavy is imported here: a command's module is imported when the command is called.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import textwrap
from contextlib import suppress
from typing import Any, NoReturn

import typer

from vrcli.cli.lazy import LazyGroup, ParserError, add_stubs
from vrcli.errors import first_line, is_out_of_memory, stop_signals
from vrcli.passwords import masked_line
from vrcli.version import __version__
from vrcli.visible import visible

app = typer.Typer(
    name="vr",
    cls=LazyGroup,
    help="Is optimizer A better than optimizer B on this task, and by how much?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here:  vr run cnn --opt vradam --beta3 1.0   then   vr report",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


add_stubs(app)


def main() -> None:
    """Entry point of `vr` and `python -m vrcli`: known errors become one line and an exit code."""
    from vrcli.engine.spin import spin_briefly

    spin_briefly()
    debug = "--debug" in sys.argv or os.environ.get("VR_DEBUG", "") not in ("", "0")
    with suppress(ValueError):  # only a program's main thread may say what signals do
        for number in stop_signals():
            signal.signal(number, signal.default_int_handler)  # an orderly end, as of Ctrl-C
    try:
        code = app(standalone_mode=False, prog_name="vr")
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        _exit("interrupted", 130)
    except ParserError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.ctx.get_help())
            sys.exit(0)
        _exit(_parser_line(error), error.exit_code)
    except BrokenPipeError:
        _forget_stdout()  # the reader went away (`vr runs list | head`)
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        what = "the output" if error.filename is None else os.fsdecode(error.filename)
        _exit(f"{what} cannot be used: {error.strerror or error}", 1)
    except SystemExit:  # of the shell's completion, and of rich where the reader went away
        raise
    except BaseException as error:
        if debug:
            import traceback

            _print_error(traceback.format_exc().rstrip("\n"))
            sys.exit(1)
        known = getattr(error, "exit_code", None)  # of an error that is made for users
        if known is None and is_out_of_memory(error):
            _exit(f"there is not enough memory: {first_line(error)}", 1)
        if known is None:
            _exit(f"unexpected {first_line(error)} (a fault of vr or a plugin; --debug shows where)", 1)
        _exit(str(error), known)
    sys.exit(code if isinstance(code, int) else 0)


def _parser_line(error: Any) -> str:
    """The parser's message in one line, with the nearest option or command where it knows one."""
    if found := _refused_value(error):
        return found
    message = str(error.format_message()).replace("\n", " ").strip()
    if message.startswith("No such command") and message.endswith("'."):  # it knows none
        message = f"{message[:-1]} ({error.ctx.command_path} --help lists them)"
    return message[0].lower() + message[1:] if message else "usage"


def _refused_value(error: Any) -> str:
    """What a value must be that is of another kind or out of range; empty where the parser has words of its own."""
    every = getattr(error.__cause__, "errors", None)
    if every is None or getattr(error, "param", None) is None:
        return ""
    first, options = every()[0], error.param.opts
    given, limits = first["input"], first.get("ctx", {})
    name = next((one for one in options if one.startswith("--")), error.param.metavar)
    for bound, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if bound in limits:
            return f"{name} must be {sign} {limits[bound]:,}, got {given}"
    kind = str(first["type"]).partition("_")[0]  # int_parsing, int_from_float, float_parsing, ...
    must = {"int": "a whole number", "float": "a number"}.get(kind)
    return f"{name} must be {must}, got {given!r}" if must else ""


def _exit(line: str, code: int) -> NoReturn:
    text = f"vr: {visible(line)}"
    if sys.stderr.isatty():  # one line for programs; for a person it breaks between words
        width = max(20, shutil.get_terminal_size().columns)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    _print_error(text)
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, or a terminal that is gone: it would be tried again at the end
        _forget_stdout()
    sys.exit(code)


def _forget_stdout() -> None:
    """Nobody takes what is printed; writing at exit would raise again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(text: str) -> None:
    """Masked here for all errors: who finds a URL in the wrong place repeats it."""
    with suppress(OSError):  # a terminal that is gone
        print("\n".join(visible(masked_line(line)) for line in text.split("\n")), file=sys.stderr)
