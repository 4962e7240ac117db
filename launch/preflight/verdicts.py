"""From the machines' reports to verdicts: pure, so that it can be tested for thousands of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from launch.preflight.blame import Link, culprits
from launch.preflight.calls import PANEL
from launch.preflight.limits import Preflight
from launch.preflight.report import NodeReport


@dataclass(frozen=True)
class Finding:
    """What is wrong with a machine, and what to do about it."""

    host: str
    what: str
    advice: str


@dataclass(frozen=True)
class Check:
    """What became of one check on all machines."""

    name: str
    findings: list[Finding]
    summary: str
    """What was seen where nothing is wrong."""

    @property
    def passed(self) -> bool:
        """Whether no machine is unfit by it."""
        return not self.findings


@dataclass(frozen=True)
class Submitter:
    """What the machine that submits knows: it decides between two that differ."""

    versions: Mapping[str, str] = field(default_factory=dict)
    ahead_seconds: Mapping[int, float] = field(default_factory=dict)
    """By node, how far its clock was ahead when its word was read here: coarse."""


def evaluate(
    reports: Sequence[NodeReport],
    silent: Iterable[tuple[str, str]],
    limits: Preflight,
    gpus: int,
    submitter: Submitter,
) -> list[Check]:
    """Return the verdict of each check; `silent` are hosts that left no report, and why."""
    hosts = {report.arrival.node: report.host for report in reports}
    advice = "see that it is up, has Trawl in place.python, and shares the job's folder"
    lost = [Finding(host, why, advice) for host, why in silent]
    return [
        Check("answers", lost, f"{len(reports)} machines"),
        _checks_themselves(reports),
        _versions(reports, submitter.versions),
        _gpus(reports, gpus),
        _disks(reports, limits),
        _stores(reports),
        _clocks(reports, hosts, limits, submitter),
        _ports(reports, hosts),
        _links(reports, hosts, limits),
    ]


def excluded(checks: Iterable[Check], hosts: Sequence[str]) -> list[str]:
    """Return the hosts to leave out: those that are unfit by a check that not all of them fail.

    What is wrong everywhere, a bucket's name say, is not a machine's fault.
    """
    unfit: set[str] = set()
    for check in checks:
        by_check = {finding.host for finding in check.findings}
        if len(by_check) < len(hosts):
            unfit |= by_check
    return [host for host in hosts if host in unfit]


def _checks_themselves(reports: Sequence[NodeReport]) -> Check:
    advice = "mend what it names, and run preflight again"
    found = [Finding(r.host, problem, advice) for r in reports for problem in r.problems]
    return Check("checks", found, "all were made")


def _versions(reports: Sequence[NodeReport], own: Mapping[str, str]) -> Check:
    """Each fact has to be what most machines have; of two that differ, what the submitter has."""
    found = []
    names = sorted({name for report in reports for name in report.versions})
    for name in names:
        values = [report.versions.get(name, "none") for report in reports]
        if len(set(values)) == 1:
            continue
        counts = Counter(values)
        most = [value for value, count in counts.items() if count == max(counts.values())]
        right = own[name] if own.get(name) in most else most[0]
        found += [
            Finding(report.host, f"{name} {value}, elsewhere {right}", f"install {name} {right}")
            for report, value in zip(reports, values, strict=True)
            if value != right
        ]
    return Check("versions", found, f"{len(names)} versions are the same on all")


def _gpus(reports: Sequence[NodeReport], wanted: int) -> Check:
    found = []
    names = Counter(gpu.name for report in reports for gpu in report.gpus)
    usual = names.most_common(1)[0][0] if names else ""
    clocks = [g.clock_mhz for r in reports for g in r.gpus if g.clock_mhz and g.name == usual]
    clock = median(clocks) if clocks else 0.0
    for report in reports:
        if len(report.gpus) < wanted:
            what = f"{len(report.gpus)} GPUs, the job asks for {wanted}"
            found.append(Finding(report.host, what, "see nvidia-smi and the kernel's log there"))
        for gpu in report.gpus:
            name = f"GPU {gpu.index}"
            if gpu.name != usual:
                what = f"{name} is a {gpu.name}, elsewhere {usual}"
                found.append(Finding(report.host, what, "ask for one kind of machine"))
            if gpu.ecc_errors:
                what = f"{name} has {gpu.ecc_errors} uncorrected ECC errors"
                found.append(Finding(report.host, what, "reset the GPU, or have it replaced"))
            if gpu.slowed:
                what = f"{name} is slowed down: {', '.join(gpu.slowed)}"
                found.append(Finding(report.host, what, "see to its cooling and its power"))
            if gpu.name == usual and gpu.clock_mhz is not None and gpu.clock_mhz < 0.95 * clock:
                what = f"{name} runs at {gpu.clock_mhz:g} MHz at most, elsewhere {clock:g}"
                found.append(Finding(report.host, what, "nvidia-smi --reset-gpu-clocks there"))
            if gpu.memory_mib and gpu.used_mib and gpu.used_mib > 0.1 * gpu.memory_mib:
                what = f"{name}: {gpu.used_mib:g} of {gpu.memory_mib:g} MiB are in use"
                found.append(Finding(report.host, what, "end what runs there"))
    summary = ", ".join(f"{count} {name}" for name, count in names.items()) or "none"
    return Check("GPUs, ECC, clocks", found, summary)


def _disks(reports: Sequence[NodeReport], limits: Preflight) -> Check:
    found = []
    for report in reports:
        for disk in report.disks:
            least = limits.shm_gb if disk.shared_memory else limits.disk_gb
            if disk.free_gb < least:
                what = f"{disk.path}: {disk.free_gb:.2f} GB free, {least:g} wanted"
                key = "shm_gb" if disk.shared_memory else "disk_gb"
                advice = f"make room there, or lower preflight.{key}"
                if disk.shared_memory:
                    advice = "give the container more (--shm-size), or lower preflight.shm_gb"
                found.append(Finding(report.host, what, advice))
    free = [d.free_gb for r in reports for d in r.disks if not d.shared_memory]
    return Check("disk, /dev/shm", found, f"at least {min(free, default=0.0):,.0f} GB free")


def _stores(reports: Sequence[NodeReport]) -> Check:
    advice = {
        "write": "see its name, the keys (secrets) and the way to it from there",
        "corpus": "see its address, or build or copy it anew",
        "source": "see collect.source of the recipe",
    }
    found = [
        Finding(report.host, f"{store.purpose} {store.uri}: {store.problem}", advice[store.purpose])
        for report in reports
        for store in report.stores
        if store.problem
    ]
    slowest = max((store.seconds for r in reports for store in r.stores), default=0.0)
    return Check("storage, manifests", found, f"all answer, the slowest in {slowest:.2f} s")


def skews(reports: Sequence[NodeReport], submitter: Submitter) -> dict[int, float]:
    """Return by how many seconds each clock is ahead of what most clocks say.

    Of two alone nobody could tell which is wrong; there the submitter's clock decides.
    """
    if len(reports) <= 2:
        nodes = [report.arrival.node for report in reports]
        coarse = {node: submitter.ahead_seconds.get(node, 0.0) for node in nodes}
        apart = [abs(c.ahead_seconds) for r in reports for c in r.contacts if c.ahead_seconds]
        if not apart:
            return dict.fromkeys(nodes, 0.0)
        wrong = max(coarse, key=lambda node: abs(coarse[node]))
        sign = 1 if coarse[wrong] > 0 else -1
        return {node: sign * max(apart) if node == wrong else 0.0 for node in coarse}
    found = {}
    for report in reports:
        ahead = [c.ahead_seconds for c in report.contacts if c.ahead_seconds is not None]
        if report.arrival.node < PANEL:
            ahead.append(0.0)  # its own
        found[report.arrival.node] = -median(ahead) if ahead else 0.0
    return found


def _clocks(
    reports: Sequence[NodeReport], hosts: dict[int, str], limits: Preflight, submitter: Submitter
) -> Check:
    ahead = skews(reports, submitter)
    found = [
        Finding(
            hosts[node],
            f"its clock is {abs(seconds):,.1f} s {'ahead' if seconds > 0 else 'behind'}",
            "start its time service: chronyc makestep, timedatectl set-ntp true",
        )
        for node, seconds in sorted(ahead.items())
        if abs(seconds) > limits.clock_seconds
    ]
    most = max((abs(seconds) for seconds in ahead.values()), default=0.0)
    return Check("clocks", found, f"within {most:.3f} s")


def _ports(reports: Sequence[NodeReport], hosts: dict[int, str]) -> Check:
    closed = {
        (report.arrival.node, contact.node): contact.closed
        for report in reports
        for contact in report.contacts
        if contact.closed
    }
    advice = "open the port place.port, and those above 1023, between the machines"

    def what(node: int, links: list[Link]) -> str:
        reason = "; ".join(closed[links[0]].values())
        if links[0][1] == node:
            return f"{_others(links, 0, hosts)} cannot reach it ({reason})"
        return f"cannot reach {_others(links, 1, hosts)} ({reason})"

    found = _named(culprits(closed, blamed_end=1), hosts, what, advice)
    taken = "end what listens there, or choose another place.port"
    found += [
        Finding(r.host, f"its meeting port cannot be listened on ({r.arrival.problem})", taken)
        for r in reports
        if r.arrival.problem
    ]
    calls = sum(report.calls for report in reports)
    return Check("ports", found, f"{calls} connections")


def _links(reports: Sequence[NodeReport], hosts: dict[int, str], limits: Preflight) -> Check:
    """A machine is slow if its links are; each is measured by the one that sends."""
    rates: dict[Link, float] = {}
    sums: list[float] = []
    broken: dict[Link, str] = {}
    for report in reports:
        for link in report.links:
            ends = (report.arrival.node, link.node)
            if link.problem or link.send_gbit is None:
                broken[ends] = str(link.problem)
            else:
                rates[ends] = link.send_gbit
                sums.append(link.reduce_gbit or 0.0)
    middle = median(rates.values()) if rates else 0.0
    least = max(limits.gbit_per_second, limits.slow_share * middle)
    slow = {ends: rate for ends, rate in rates.items() if rate < least}

    def how_slow(node: int, links: list[Link]) -> str:
        rate = median(slow[link] for link in links)
        end = 1 if links[0][0] == node else 0
        verb = "sends to" if end else "receives from"
        return f"{verb} {_others(links, end, hosts)} at {rate:.3g} Gbit/s, wanted {least:.3g}"

    advice = "see its cable, switch port and network settings"
    found = _named(culprits(slow, blamed_end=0), hosts, how_slow, advice)
    found += _named(
        culprits(broken, blamed_end=0),
        hosts,
        lambda node, links: f"no link: {broken[links[0]]}",
        "see its network settings, and place.ssh.interface",
    )
    summary = f"{middle:.3g} Gbit/s to one, {median(sums or [0.0]):.3g} summing up"
    return Check("links", found, summary if rates else "none to measure")


def _named(
    blamed: dict[int, list[Link]],
    hosts: dict[int, str],
    what: Callable[[int, list[Link]], str],
    advice: str,
) -> list[Finding]:
    known = {node: links for node, links in sorted(blamed.items()) if node in hosts}
    return [Finding(hosts[node], what(node, links), advice) for node, links in known.items()]


def _others(links: list[Link], end: int, hosts: dict[int, str]) -> str:
    """Name the machines at one end of some links."""
    names = [hosts.get(link[end], str(link[end])) for link in links]
    return names[0] if len(names) == 1 else f"{len(names)} machines"
