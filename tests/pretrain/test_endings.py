"""What an error means for a run, in the contract of exit codes."""

from pathlib import Path

import pytest

from pretrain import endings
from pretrain.exit_codes import DataError, ExitCode, NodeError, NumericsError, PreemptionError
from pretrain.run_folder import RunFolder
from trawl.errors import RequestError, TrawlError, WorkError

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def full() -> OSError:
    """Return what the kernel says of a disk that takes no more."""
    with pytest.raises(OSError, match="No space left") as error:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")
    return error.value


def caused(error: TrawlError) -> TrawlError:
    """Return `error` as it is raised for a full disk."""
    try:
        raise error from full()
    except TrawlError as raised:
        return raised


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def test_a_full_disk_is_the_machine_s_whoever_met_it(folder: RunFolder) -> None:
    met = endings.meaning(full(), folder, False)
    assert isinstance(met, NodeError)
    assert str(met) == f"{folder.local}: No space left on device; make room there"
    told = endings.meaning(caused(WorkError("model.bin: could not be written")), folder, False)
    assert isinstance(told, NodeError)
    assert str(told) == "model.bin: could not be written; make room there"
    assert told.exit_code == ExitCode.BAD_NODE


def test_what_has_a_code_of_its_own_keeps_it(folder: RunFolder) -> None:
    for kind in (DataError, NumericsError, NodeError, RequestError, PreemptionError):
        error = caused(kind("shard 3"))
        assert endings.meaning(error, folder, False) is error
        assert endings.meaning(error, folder, True) is error
    bug = ValueError("a bug")
    assert endings.meaning(bug, folder, False) is bug


def test_once_told_to_stop_what_fails_for_want_of_others_is_no_fault(folder: RunFolder) -> None:
    meant = endings.meaning(RuntimeError("Connection closed by peer"), folder, True)
    assert isinstance(meant, PreemptionError)
