"""The verdicts of a preflight on reports of many machines, and who measures with whom."""

import time

import pytest

from launch.preflight.blame import culprits
from launch.preflight.limits import Preflight
from launch.preflight.report import (
    Arrival,
    Contact,
    Disk,
    Gpu,
    Link,
    NodeReport,
    StoreProbe,
)
from launch.preflight.rounds import partner, rounds
from launch.preflight.verdicts import Check, Submitter, evaluate, excluded

LIMITS = Preflight()
GPU = {"name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559, "used_mib": 4, "clock_mhz": 1980}


def machine(node: int, nodes: int, gpus: int = 8) -> NodeReport:
    met = [partner(node, number, nodes) for number in rounds(nodes, LIMITS.partners)]
    return NodeReport(
        arrival=Arrival(node=node, host=f"host{node}", address=f"10.0.0.{node}"),
        versions={"torch": "2.15.0", "NCCL": "2.30.3", "driver": "590.1"},
        gpus=[Gpu(index=n, ecc_errors=0, **GPU) for n in range(gpus)],  # type: ignore[arg-type]
        disks=[Disk(path="/scratch", free_gb=900.0)],
        stores=[StoreProbe(uri="s3://runs/a", purpose="write", seconds=0.1)],
        calls=nodes - 1,
        contacts=[Contact(node=n, ahead_seconds=0.001) for n in range(min(9, nodes)) if n != node],
        links=[Link(node=n, send_gbit=380.0, reduce_gbit=350.0) for n in met if n is not None],
    )


def cluster(nodes: int) -> list[NodeReport]:
    return [machine(node, nodes) for node in range(nodes)]


def judged(reports: list[NodeReport], submitter: Submitter | None = None) -> dict[str, Check]:
    checks = evaluate(reports, [], LIMITS, 8, submitter or Submitter())
    return {check.name: check for check in checks}


def failed(checks: dict[str, Check]) -> dict[str, list[str]]:
    found = {name: [f.host for f in check.findings] for name, check in checks.items()}
    return {name: hosts for name, hosts in found.items() if hosts}


def test_thousands_of_machines_are_judged_and_each_sick_one_is_named() -> None:
    nodes = 2000
    reports = cluster(nodes)
    reports[3].versions["NCCL"] = "2.29.0"
    reports[5].gpus.pop()
    reports[7].gpus[2].ecc_errors = 4
    reports[11].gpus[0].slowed = ["hw_thermal_slowdown"]
    reports[12].gpus[1].clock_mhz = 1200
    reports[13].disks[0].free_gb = 0.1
    reports[17].stores[0].problem = "Access Denied"
    for contact in reports[19].contacts:
        contact.ahead_seconds = None if contact.ahead_seconds is None else -300.0
    for report in reports:
        if report.arrival.node != 23:
            closed = {"meeting": "port 29400: no answer within 10 s"}
            report.contacts.append(Contact(node=23, closed=closed))
        for link in report.links:
            if 29 in (link.node, report.arrival.node):
                link.send_gbit = 90.0
    began = time.process_time()
    checks = judged(reports)
    assert time.process_time() - began < 5
    assert failed(checks) == {
        "versions": ["host3"],
        "GPUs, ECC, clocks": ["host5", "host7", "host11", "host12"],
        "disk, /dev/shm": ["host13"],
        "storage, manifests": ["host17"],
        "clocks": ["host19"],
        "ports": ["host23"],
        "links": ["host29"],
    }
    assert "300.0 s ahead" in checks["clocks"].findings[0].what
    assert "1999 machines cannot reach it" in checks["ports"].findings[0].what
    hosts = [report.host for report in reports]
    sick = [3, 5, 7, 11, 12, 13, 17, 19, 23, 29]
    assert excluded(checks.values(), hosts) == [f"host{n}" for n in sick]


def test_well_machines_pass() -> None:
    for nodes in (1, 2, 3, 64):
        assert failed(judged(cluster(nodes))) == {}


def test_what_is_wrong_everywhere_is_no_machines_fault() -> None:
    reports = cluster(4)
    for report in reports:
        report.stores[0].problem = "The specified bucket does not exist"
    checks = judged(reports)
    assert len(failed(checks)["storage, manifests"]) == 4
    assert excluded(checks.values(), [report.host for report in reports]) == []


def test_of_two_that_differ_the_submitter_decides() -> None:
    reports = cluster(2)
    reports[0].versions["torch"] = "2.11.0"
    reports[0].contacts[0].ahead_seconds = 300.0
    reports[1].contacts[0].ahead_seconds = -300.0
    submitter = Submitter({"torch": "2.15.0"}, {0: -0.2, 1: 299.9})
    assert failed(judged(reports, submitter)) == {"versions": ["host0"], "clocks": ["host1"]}
    assert failed(judged(reports, Submitter({"torch": "2.11.0"}))) | {"clocks": []} == {
        "versions": ["host1"],
        "clocks": [],
    }


def test_one_slow_direction_between_two_names_the_one_that_sends() -> None:
    reports = cluster(2)
    reports[1].links[0].send_gbit = 0.02
    checks = judged(reports)
    assert failed(checks) == {"links": ["host1"]}
    assert "sends to host0 at 0.02 Gbit/s" in checks["links"].findings[0].what


def test_hosts_without_a_report_are_told_and_excluded() -> None:
    checks = evaluate(cluster(2), [("host2", "ssh does not answer")], LIMITS, 8, Submitter())
    assert failed({check.name: check for check in checks}) == {"answers": ["host2"]}
    assert excluded(checks, ["host0", "host1", "host2"]) == ["host2"]


@pytest.mark.parametrize("nodes", [2, 3, 4, 7, 8, 33])
def test_over_all_rounds_each_two_meet_once_and_nobody_is_in_two_pairs(nodes: int) -> None:
    met = []
    for number in rounds(nodes, nodes):
        for node in range(nodes):
            other = partner(node, number, nodes)
            if other is None:
                continue
            assert other != node
            assert partner(other, number, nodes) == node
            met.append((node, other))
    assert len(met) == len(set(met)) == nodes * (nodes - 1)
    assert len(rounds(nodes, 2)) <= 3


def test_the_fewest_machines_explain_all_bad_links() -> None:
    star = [(n, 5) for n in range(5)] + [(5, n) for n in range(5)]
    assert list(culprits(star, 0)) == [5]
    assert sorted(culprits([*star, (8, 9)], 0)) == [5, 8]
    assert sorted(culprits([*star, (8, 9)], 1)) == [5, 9]
    assert culprits([], 0) == {}
