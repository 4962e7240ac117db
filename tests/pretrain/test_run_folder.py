"""The local folder of a run in an object store holds that run, never an earlier one's remains."""

from pathlib import Path

from pretrain.run_folder import RunFolder
from trawl import storage


def begin(uri: str, work: Path) -> RunFolder:
    folder = RunFolder(uri, work)
    folder.claim()
    folder.discard_leftovers()
    return folder


def test_a_run_keeps_what_it_left_on_its_machine(s3: str, tmp_path: Path) -> None:
    first = begin(f"{s3}/kept", tmp_path)
    storage.write_text(first.published("out") / "manifest.json", "{}")
    again = begin(f"{s3}/kept", tmp_path)
    assert (again.published("out") / "manifest.json").exists()


def test_what_a_removed_run_left_is_not_taken_for_the_new_ones(s3: str, tmp_path: Path) -> None:
    uri = f"{s3}/removed"
    first = begin(uri, tmp_path)
    storage.write_text(first.published("out") / "manifest.json", "{}")
    first.metrics.write_text("{}\n")
    storage.remove(uri)
    again = begin(uri, tmp_path)
    assert again.local == first.local
    assert not again.published("out").exists()
    assert not again.metrics.exists()
    assert storage.exists(f"{uri}/run.id")


def test_a_local_run_needs_no_name(tmp_path: Path) -> None:
    folder = begin(str(tmp_path / "run"), tmp_path)
    assert not (folder.local / "run.id").exists()
