"""Releases: published once, pulled whole, refused with one flipped byte."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pretrain.checkpoint_cli import checkpoint
from pretrain.checkpoints import ancestry, catalogue, fetch, lineage, manifest, shelf
from pretrain.checkpoints.publish import publish
from pretrain.checkpoints.pull import pull, verify
from pretrain.recipe import PretrainRecipe
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError, WorkError


@pytest.fixture
def release(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed / "stages" / "in", tmp_path / "release"))


def test_a_release_says_where_it_comes_from(undisturbed: Path) -> None:
    first = verify(str(undisturbed / "stages" / "out"))
    second = verify(str(undisturbed / "stages" / "in"))
    assert first["parent"] is None
    assert second["parent"]["manifest_sha256"] == first["sha256"]
    for corpus in second["corpora"]:
        assert corpus["manifest_sha256"] == storage.sha256_of(f"{corpus['uri']}/manifest.json")
    assert len(second["corpora"]) == 2
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(
        second["files"]
    )
    evaluation = json.loads((undisturbed / "stages" / "in" / "evaluation.json").read_text())
    assert evaluation["parity"]["max_difference"] <= 1e-6
    assert evaluation["training"]["step"] == 6
    text = (undisturbed / "stages" / "in" / "README.md").read_text()
    assert first["sha256"] in text
    assert "cc0-1.0" in text
    assert "| none declared | 80 |" in text


def test_the_release_is_copied_to_where_the_recipe_says(undisturbed: Path) -> None:
    there = undisturbed.parent / "releases" / "in"
    content = verify(str(undisturbed / "stages" / "in"))
    assert verify(str(there)) == content
    assert (there / shelf.address(content["sha256"]) / "manifest.json").is_file()


def test_latest_moves_forward_only(undisturbed: Path, release: Path, s3: str) -> None:
    place = f"{s3}/shelves/tiny"
    older, newer = str(undisturbed / "stages" / "out"), str(release)
    assert [shelf.put(each, place)[1].number for each in (older, newer, older)] == [1, 2, 1]
    assert shelf.resolve(place) == f"{place}/{shelf.address(manifest.read(newer)['sha256'])}"
    assert verify(f"{place}@1")["stage"] == "out"
    assert verify(f"{place}@2")["stage"] == "in"
    with pytest.raises(RequestError, match="no release has number 3"):
        verify(f"{place}@3")
    listed = CliRunner().invoke(checkpoint, ["list", place])
    assert [line.split()[-2] for line in sorted(listed.output.splitlines())] == ["2*", "1"]


def test_publishers_at_the_same_time_take_different_numbers(
    undisturbed: Path, release: Path, s3: str
) -> None:
    place = f"{s3}/shelves/race"
    sources = [str(undisturbed / "stages" / "out"), str(release)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda source: shelf.put(source, place)[1].number, sources * 2))
    assert sorted(made) == [1, 1, 2, 2]
    assert [pointer.number for pointer in shelf.pointers(place)] == [1, 2]


def test_a_release_is_no_shelf(release: Path, undisturbed: Path) -> None:
    with pytest.raises(RequestError, match="is itself a release"):
        shelf.put(str(undisturbed / "stages" / "out"), str(release))


def test_pull_takes_a_whole_release(release: Path, tmp_path: Path) -> None:
    pull(str(release), tmp_path / "model")
    assert verify(str(tmp_path / "model"))["stage"] == "in"
    # Again is no change, and nothing lies beside it.
    pull(str(release), tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "release"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "README.md", "evaluation.json", "manifest.json"]
)
def test_one_flipped_byte_is_refused(release: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((release / name).read_bytes())
    content[len(content) // 2] ^= 1
    (release / name).write_bytes(content)
    with pytest.raises(WorkError, match=name):
        pull(str(release), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(WorkError, match=name):
        verify(str(release))


def test_a_byte_in_the_manifest_that_means_nothing_is_refused_too(release: Path) -> None:
    path = release / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n ", b"\n\t", 1))
    with pytest.raises(WorkError, match=r"manifest\.json"):
        verify(str(release))


def test_missing_and_unknown_files_are_refused(release: Path, tmp_path: Path) -> None:
    (release / "extra.py").write_text("print()")
    with pytest.raises(WorkError, match=r"extra\.py"):
        pull(str(release), tmp_path / "model")
    (release / "extra.py").unlink()
    (release / "config.json").unlink()
    with pytest.raises(WorkError, match=r"config\.json is missing"):
        pull(str(release), tmp_path / "model")


def test_a_manifest_may_not_name_files_outside(release: Path, tmp_path: Path) -> None:
    content = json.loads((release / "manifest.json").read_text())
    content["files"]["../outside"] = content["files"].pop("README.md")
    (release / "manifest.json").write_text(manifest.text(manifest.seal(content)))
    with pytest.raises(WorkError, match="outside"):
        pull(str(release), tmp_path / "model")


def test_a_pull_goes_on_where_it_was_killed(release: Path, tmp_path: Path) -> None:
    digest = manifest.read(release)["sha256"]
    aside = tmp_path / f".model.pull-{digest[:16]}"
    aside.mkdir()
    shutil.copy(release / "model.safetensors", aside)
    (aside / "config.json").write_text("half of")
    before = (aside / "model.safetensors").stat().st_ino
    pull(str(release), tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_ino == before
    verify(str(tmp_path / "model"))


def test_a_pull_keeps_the_pieces_that_it_has(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PIECE_BYTES", 10_000)
    name = "model.safetensors"
    content = (release / name).read_bytes()
    assert len(content) > 50_000
    aside = tmp_path / f".model.pull-{manifest.read(release)['sha256'][:16]}"
    aside.mkdir()
    # Two pieces are there, and the line of a third was torn by the kill.
    (aside / f"{name}.part").write_bytes(content[:20_000] + bytes(len(content) - 20_000))
    (aside / f"{name}.pieces").write_text("0\n10000\n200")
    taken = []
    take = fetch._File.take
    monkeypatch.setattr(
        fetch._File,
        "take",
        lambda file, start: (taken.append((file.name, start)), take(file, start)),
    )
    pull(str(release), tmp_path / "model")
    starts = sorted(start for file, start in taken if file == name)
    assert starts == list(range(20_000, len(content), 10_000))
    verify(str(tmp_path / "model"))


def test_pull_does_not_overwrite(release: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="another folder"):
        pull(str(release), tmp_path / "model")


def test_a_release_never_changes(undisturbed: Path, release: Path, s3: str) -> None:
    target = f"{s3}/releases/tiny"
    publish(release, target)
    publish(release, target)
    verify(target)
    with pytest.raises(RequestError, match="another release"):
        publish(undisturbed / "stages" / "out", target)


def test_a_damaged_release_is_not_published(release: Path, tmp_path: Path) -> None:
    (release / "README.md").write_text("other words")
    with pytest.raises(WorkError, match=r"README\.md"):
        publish(release, str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere" / "manifest.json").exists()


def test_a_finished_stage_with_another_recipe_is_refused(undisturbed: Path) -> None:
    path = undisturbed / "recipe.yaml"
    content = manifest.read(undisturbed / "stages" / "in")
    same = recipes.load(path, PretrainRecipe, ["checkpoint.every_steps=5"])
    lineage.refuse_changes(content, same, same.stage("in"))
    other = recipes.load(path, PretrainRecipe, ["stages.1.steps=7", "stages.1.optimizer.lr=1.0"])
    with pytest.raises(RequestError) as refused:
        lineage.refuse_changes(content, other, other.stage("in"))
    assert "stage.steps: 6 -> 7" in str(refused.value)
    assert "stage.optimizer.lr: 0.0005 -> 1.0" in str(refused.value)


def test_another_corpus_in_the_same_place_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    content = manifest.read(undisturbed / "stages" / "out")
    recipe = recipes.load(undisturbed / "recipe.yaml", PretrainRecipe)
    moved = tmp_path / "moved"
    shutil.copytree(recipe.stages[0].data[0].corpus, moved)
    same = recipes.load(
        undisturbed / "recipe.yaml", PretrainRecipe, [f"stages.0.data.0.corpus={moved}"]
    )
    lineage.refuse_changes(content, same, same.stages[0])
    (moved / "manifest.json").write_text("{}")
    with pytest.raises(RequestError, match="corpus"):
        lineage.refuse_changes(content, same, same.stages[0])


def test_verify_walks_back_to_the_corpora(undisturbed: Path, tmp_path: Path) -> None:
    for place in (undisturbed / "stages" / "in", undisturbed.parent / "releases" / "in"):
        done = CliRunner().invoke(checkpoint, ["verify", str(place), "--all"])
        assert done.exit_code == 0, done.output
        kinds = [line.split()[0] for line in done.output.splitlines()[1:]]
        assert kinds == ["corpus", "corpus", "parent", "corpus"]
        assert "not at hand" not in done.output


def test_a_lineage_that_is_not_as_named_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "stages"
    shutil.copytree(undisturbed / "stages", run)
    (run / "out" / "config.json").write_text("{}")
    problems = {link.kind: link.problem for link in ancestry.walk(str(run / "in"))}
    assert problems["corpus"] is None
    assert "config.json" in str(problems["parent"])
    shutil.rmtree(run / "out")
    links = {link.kind: link.uri for link in ancestry.walk(str(run / "in"))}
    assert links["parent"] is None
    assert CliRunner().invoke(checkpoint, ["verify", str(run / "in")]).exit_code == 0
    done = CliRunner().invoke(checkpoint, ["verify", str(run / "in"), "--all"])
    assert isinstance(done.exception, WorkError)


def test_list_and_show(undisturbed: Path) -> None:
    found = catalogue.entries(str(undisturbed))
    assert [(entry.kind, entry.stage, entry.step) for entry in found] == [
        ("checkpoint", "in", 3),
        ("checkpoint", "in", 6),
        ("checkpoint", "out", 6),
        ("checkpoint", "out", 8),
        ("release", "in", 6),
        ("release", "out", 8),
    ]
    shown = CliRunner().invoke(checkpoint, ["show", str(undisturbed / "stages" / "in")])
    assert shown.exit_code == 0
    assert "parent    tiny, stage out" in shown.output
    listed = CliRunner().invoke(checkpoint, ["list", str(undisturbed)])
    assert listed.output.count("\n") == 6
