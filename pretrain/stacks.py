"""Where a thread of this process stands: in which collective, and at which line of ours."""

import sys
from pathlib import Path
from types import FrameType

_PACKAGES = ("pretrain", "data_pipeline", "trawl")
_ROOT = Path(__file__).resolve().parent.parent


def position(thread: int | None) -> tuple[str | None, str]:
    """Return the collective that `thread` is in, if any, and the innermost line of ours.

    On a GPU a backward pass runs in threads of autograd, so those are asked when `thread` is in no
    collective itself.
    """
    frames = sys._current_frames()
    stack = _stack(frames.pop(thread)) if thread in frames else []
    collective = _collective(stack)
    for frame in frames.values():
        collective = collective or _collective(_stack(frame))
    return collective, _line(stack)


def _stack(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of a stack, innermost first."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _collective(stack: list[FrameType]) -> str | None:
    """Return the name of the outermost function of torch's collectives on `stack`."""
    names = [
        frame.f_code.co_name
        for frame in stack
        if frame.f_code.co_filename.endswith("torch/distributed/distributed_c10d.py")
    ]
    return names[-1] if names else None


def _line(stack: list[FrameType]) -> str:
    for frame in stack:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _PACKAGES:
            return f"{path.relative_to(_ROOT)}:{frame.f_lineno} in {frame.f_code.co_name}"
    return "a line that is not ours"
