"""Which machines are at fault for the attempts that ended on a bad one."""

import re
from collections import Counter
from pathlib import Path

from launch import attempts
from launch.node_status import nodes_of
from pretrain.exit_codes import ExitCode
from pretrain.local_launch import LOST

NAMED_HOST = re.compile(r"\((\S+), (?:process \d+, )?while ")
"""The watchdog names the machine of the rank that holds up the others."""
# Once may be chance: a neighbour that took the memory, a switch that was started anew.
_STRIKES = 2


def bad_hosts(folder: Path) -> list[str]:
    """Return the hosts that were at fault twice since the job was submitted, in their order."""
    strikes: Counter[str] = Counter()
    array = attempts.job_of(folder).place.is_array  # whose tasks tell of themselves
    for attempt in attempts.history(folder):
        if attempt.cause == "bad-node" and not array:
            strikes.update(_at_fault(folder, attempt.number))
    for event in attempts.since_submission(folder):
        if event["kind"] == "task-ended" and event["cause"] == "bad-node":
            strikes[event["host"]] += 1
    return sorted(host for host, count in strikes.items() if count >= _STRIKES)


def _at_fault(folder: Path, number: int) -> set[str]:
    """Return the hosts at fault for an attempt: those named, or that said so, or left no word.

    They are called as their place calls them. What befell all of several is the fault of none.
    """
    nodes = nodes_of(attempts.job_of(folder), folder, number)
    known = dict(enumerate(attempts.hosts_of(folder, number)))
    names = {node.node: known.get(node.node, node.host) for node in nodes}
    faulty = {
        node.node
        for node in nodes
        if (node.code is None or node.code < 0 or node.code == ExitCode.BAD_NODE)
        and LOST not in node.message
    }
    said = {match[1] for node in nodes if (match := NAMED_HOST.search(node.message))}
    faulty = {node.node for node in nodes if node.host in said} or faulty
    if len(faulty) == len(nodes) > 1:
        return set()
    return {names[node] for node in faulty} - {""}
