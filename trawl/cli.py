"""The root of the command line.

Commands are found as entry points of the group `trawl.commands` and imported only when they are
called, so that `trawl --help` answers at once and this package imports none of those above it.
"""

import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trawl import __version__
from trawl.errors import TrawlError

# What `trawl --help` says of each command, so that it need not be imported to be listed.
_SUMMARIES = {
    "demo": "The whole road on this machine, from a crawl to a published checkpoint.",
    "world": "Make and serve the seeded world that demo and tests run on.",
    "corpus": "Build, watch, check and explain corpora of image-text pairs.",
    "regions": "Train, evaluate and run region detectors.",
    "pretrain": "Pretrain a model in stages.",
    "evaluate": "Evaluate a published stage on a downstream task.",
    "checkpoint": "Publish, pull and verify checkpoints.",
    "launch": "Start jobs and watch them.",
    "doctor": "Say what runs on this machine, and why.",
}


class CommandGroup(TyperGroup):
    """The root group: knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all installed commands, in the order of the road."""
        installed = _installed()
        return [name for name in _SUMMARIES if name in installed]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return the command `cmd_name`, or None if there is none."""
        entry = _installed().get(cmd_name)
        if entry is None:
            return None
        command = typer.main.get_command(entry.load())
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text plainly: the rich one would import every command to list it."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES[name]) for name in self.list_commands(ctx)])


app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    epilog="Example: trawl demo --out out/demo",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="trawl.commands")}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"trawl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """From a crawl of the web to a vision-language checkpoint that loads in one line.

    Exit codes: 0 done, 1 the work failed, 2 the request was wrong.
    """


def main() -> None:
    """Run the command line; an error of ours becomes one line on stderr and its exit code."""
    debug = "--debug" in sys.argv
    # The flag is taken out here so that it may stand anywhere in the command line.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        typer.main.get_command(app).main(arguments, prog_name="trawl")
    except TrawlError as error:
        if debug:
            traceback.print_exc()
        print(f"trawl: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        print(
            f"trawl: a fault of Trawl itself ({type(error).__name__}: {error}); "
            "run it again with --debug for the traceback",
            file=sys.stderr,
        )
        sys.exit(1)
