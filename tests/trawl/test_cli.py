"""The root command answers fast, lists its commands unimported, and puts errors in a line."""

import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trawl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_lists_the_commands_and_imports_none_of_them() -> None:
    program = (
        "import sys; sys.argv = ['trawl', '--help']\n"
        "from trawl.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'torch', 'ray', 'data_pipeline', 'pretrain', 'transformers', 'fsspec'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("demo", "corpus", "regions", "pretrain", "evaluate", "checkpoint"):
        assert f"\n  {name} " in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_an_unknown_command_is_a_wrong_request() -> None:
    done = run("corpsu")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_a_wrong_request_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = run("corpus", "build", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "none.yaml: no such file" in done.stderr
    shown = run("--debug", "corpus", "build", str(tmp_path / "none.yaml"))
    assert shown.returncode == 2
    assert "Traceback" in shown.stderr
