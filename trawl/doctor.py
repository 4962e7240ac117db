"""`trawl doctor`: what this machine has, and what Trawl makes of it.

Each package tells its part through the entry points `trawl.doctor`: functions that return lines.
"""

import platform
from importlib.metadata import PackageNotFoundError, entry_points, version

import typer

doctor = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    help="Say what runs on this machine, and why.",
    epilog="Example: trawl doctor",
)

_PACKAGES = ("torch", "triton", "deepspeed", "ray")


@doctor.callback()
def report() -> None:
    """Say what runs on this machine, and why: versions, devices, and which kernels are taken.

    Exit code 0; nothing is changed.
    """
    print(f"python {platform.python_version()}")
    for package in _PACKAGES:
        print(f"{package} {_version(package)}")
    for entry in sorted(entry_points(group="trawl.doctor"), key=lambda entry: entry.name):
        print(f"\n{entry.name}")
        for line in entry.load()():
            print(line)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
