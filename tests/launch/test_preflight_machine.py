"""What a machine tells of itself; a program stands for nvidia-smi, which no machine of ours has."""

import stat
from pathlib import Path

import pytest

from launch.preflight import machine
from trawl.errors import WorkError

# As drivers before 535 answer: another name of a group of fields, units left out as asked.
_SCRIPT = """\
#!/bin/sh
case "$*" in
*clocks_event*)
  echo 'Field "clocks_event_reasons.hw_slowdown" is not a valid field to query.'
  exit 2 ;;
*driver_version*) printf '590.44.01\\n590.44.01\\n' ;;
*)
  echo '0, NVIDIA H100 80GB HBM3, 81559, 4, 0, 1980, Not Active, Not Active, Not Active, Not Active'
  echo '1, NVIDIA H100 80GB HBM3, 81559, 70000, [N/A], 1980, Active, Active, Not Active, Not Active'
  ;;
esac
"""


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, _SCRIPT, monkeypatch)
    well, sick = machine.gpus()
    assert (well.index, well.name, well.memory_mib, well.ecc_errors) == (
        0,
        "NVIDIA H100 80GB HBM3",
        81559,
        0,
    )
    assert (well.clock_mhz, well.slowed) == (1980, [])
    assert (sick.used_mib, sick.ecc_errors) == (70000, None)
    assert sick.slowed == ["hw_slowdown", "hw_thermal_slowdown"]
    assert machine.versions()["driver"] == "590.44.01"


def test_a_driver_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        '#!/bin/sh\necho "NVIDIA-SMI has failed because it couldn\'t reach the driver."; exit 9'
    )
    stand_in(tmp_path, script, monkeypatch)
    with pytest.raises(WorkError, match="couldn't reach the driver"):
        machine.gpus()


def test_without_nvidia_smi_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    known = machine.versions()
    assert "driver" not in known
    assert {"python", "trawl's code", "torch", "ray", "numpy"} <= known.keys()


def test_disks_are_named_once_and_shared_memory_apart(tmp_path: Path) -> None:
    found = machine.disks([tmp_path / "not" / "there", tmp_path])
    assert [disk.path for disk in found].count(str(tmp_path)) == 0
    assert found[0].path == str(tmp_path / "not" / "there")
    assert found[0].free_gb > 0
    assert [disk.path for disk in found if disk.shared_memory] == ["/dev/shm"]
