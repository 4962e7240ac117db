"""The table of a preflight."""

from rich.markup import escape
from rich.table import Table

from launch.preflight.verdicts import Check

_MOST = 10
"""Machines of one check that are shown; preflight.json has all."""


def table(checks: list[Check]) -> Table:
    """Return a row for each check that passed, and for each machine that did not pass one."""
    made = Table(title=None)
    for column in ("check", "", "machine", "what", "what to do"):
        made.add_column(column, overflow="fold")
    for check in checks:
        if check.passed:
            made.add_row(check.name, "[green]pass[/]", "", escape(check.summary), "")
            continue
        for number, finding in enumerate(check.findings[:_MOST]):
            made.add_row(
                check.name if number == 0 else "",
                "[red]FAIL[/]",
                *(escape(text) for text in (finding.host, finding.what, finding.advice)),
            )
        if len(check.findings) > _MOST:
            rest = len(check.findings) - _MOST
            made.add_row("", "", "", f"and {rest} more, in preflight.json", "")
    return made
