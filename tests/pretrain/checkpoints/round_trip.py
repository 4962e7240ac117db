"""In and out of our format, and whether what comes back is the same."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from pretrain.checkpoints import import_export
from pretrain.checkpoints.formats import format_named, tensors
from tests.pretrain.checkpoints.originals import Example


def bring_in(example: Example, source: Path, target: Path, **changes: object) -> list[str]:
    request = import_export.ImportRequest(
        source=source,
        target=target,
        form=format_named(example.format, example.family),
        overrides=example.overrides,
    )
    return import_export.import_checkpoint(dataclasses.replace(request, **changes))


def bring_out(source: Path, target: Path, form: str, wrapper: bool = False) -> list[str]:
    return import_export.export_checkpoint(
        import_export.ExportRequest(source, target, form, wrapper)
    )


def assert_same_file(there: Path, here: Path, wrapped_in: str | None) -> None:
    """Same keys in the same order, shapes, number formats, shared memory, and bits."""
    first, second = tensors.read(there, wrapped_in), tensors.read(here, wrapped_in)
    assert list(first.tensors) == list(second.tensors)
    assert tensors.aliases(first.tensors) == tensors.aliases(second.tensors)
    assert first.rest == second.rest
    for key, value in first.tensors.items():
        assert value.dtype == second.tensors[key].dtype, key
        assert value.shape == second.tensors[key].shape, key
        assert bits(value) == bits(second.tensors[key]), key


def bits(value: Tensor) -> bytes:
    return value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


_LOADS_PLAINLY = """
import sys, torch, transformers
classes = getattr(transformers, sys.argv[1])
model, info = classes.from_pretrained(sys.argv[2], output_loading_info=True)
assert not [name for name in sys.modules if name.split(".")[0] in ("pretrain", "trawl")]
for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
    assert not info[kind], (kind, info[kind])
torch.save({key: value for key, value in model.state_dict().items()}, sys.argv[3])
"""


def loaded_plainly(classes: str, folder: Path, tmp_path: Path) -> dict[str, Tensor]:
    """The state of the model that plain transformers loads from `folder`, in a fresh process."""
    out = tmp_path / "state.pt"
    command = [sys.executable, "-c", _LOADS_PLAINLY, classes, str(folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    return tensors.read(out).tensors
