"""Measures the link to one other machine after the other, with what a training speaks over.

    python -m launch.preflight.links FOLDER --node 0 --nodes 2 --plan 0:1,3:2

gloo between hosts, NCCL between GPUs. In a process of its own, since a link that is cut can end it;
each line that it prints into its file is a Link. The plan is ROUND:OTHER,...
"""

import argparse
import datetime
import os
import sys
import threading
import time
from pathlib import Path

import torch
from torch import distributed

from launch.preflight.report import Link

_FIRST_BYTES = 256 << 10
_LAST_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}
_LONG_ENOUGH_SECONDS = 0.15


def measure(folder: Path, number: int, me: int, other: int, patience: float) -> Link:
    """Measure sending to `other` and an all-reduce with it; both call this at the same time."""
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", number % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    low, high = sorted((me, other))
    store = distributed.FileStore(str(folder / f"meet-{number}-{low}-{high}"), 2)
    distributed.init_process_group(
        "nccl" if gpus else "gloo",
        store=store,
        rank=int(me == high),
        world_size=2,
        timeout=datetime.timedelta(seconds=patience),
    )
    try:
        first = me == low
        own = _sending(device) if first else _receiving(device)
        theirs = _receiving(device) if first else _sending(device)
        size = min(own[0], theirs[0])
        rate = own[1] if first else theirs[1]
        return Link(node=other, send_gbit=rate, reduce_gbit=_all_reduce(size, device))
    finally:
        distributed.destroy_process_group()


def _other() -> int:
    return 1 - distributed.get_rank()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _sending(device: torch.device) -> tuple[int, float]:
    """Send more and more until it takes a while; return the last bytes, and Gbit/s."""
    size, acknowledged = _FIRST_BYTES, torch.zeros(1, device=device)
    while True:
        distributed.send(torch.tensor([size], device=device), _other())
        payload = torch.ones(size // 4, device=device)
        began = _now(device)
        distributed.send(payload, _other())
        distributed.recv(acknowledged, _other())
        seconds = _now(device) - began
        if seconds > _LONG_ENOUGH_SECONDS or size >= _LAST_BYTES[device.type]:
            distributed.send(torch.tensor([0], device=device), _other())
            return size, size * 8 / 1e9 / seconds
        size *= 4


def _receiving(device: torch.device) -> tuple[int, float]:
    """Take what the other sends; return the last bytes."""
    header, last = torch.zeros(1, dtype=torch.int64, device=device), 0
    while True:
        distributed.recv(header, _other())
        if not int(header):
            return last, 0.0
        last = int(header)
        distributed.recv(torch.empty(last // 4, device=device), _other())
        distributed.send(torch.ones(1, device=device), _other())


def _all_reduce(size: int, device: torch.device) -> float:
    """Return the Gbit/s at which two sum up `size` bytes."""
    payload = torch.ones(size // 4, device=device)
    distributed.all_reduce(payload[:1].clone())  # makes the connections
    began = _now(device)
    distributed.all_reduce(payload)
    return size * 8 / 1e9 / (_now(device) - began)


def main(arguments: list[str] | None = None) -> int:
    """Measure all links of the plan."""
    parser = argparse.ArgumentParser(prog="python -m launch.preflight.links", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--plan", required=True)
    parser.add_argument("--patience", type=float, default=60.0)
    asked = parser.parse_args(arguments)
    for words in asked.plan.split(","):
        number, other = map(int, words.split(":"))
        # Begun, said first: if this process dies of the link, the link is known.
        print(Link(node=other, problem="its measurement ended the process").model_dump_json())
        sys.stdout.flush()
        # Whatever hangs in a library, the next link is measured by the next process.
        end = threading.Timer(2 * asked.patience, os._exit, (1,))
        end.daemon = True
        end.start()
        try:
            link = measure(asked.folder, number, asked.node, other, asked.patience)
        except (RuntimeError, ValueError) as error:
            link = Link(node=other, problem=str(error).splitlines()[0][:300])
        end.cancel()
        print(link.model_dump_json())
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
