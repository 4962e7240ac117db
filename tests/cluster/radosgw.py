"""A Ceph cluster of the least size before which a real radosgw speaks S3.

One monitor, one store in memory, one gateway, all of this machine's own packages and on ports of
the loopback interface; no manager, no disk. About 1.2 GB of memory and half a minute to start.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.ports import free_ports
from tests.cluster.s3_servers import ACCESS, SECRET, make_bucket, running, wait_until_up

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_STORE_BYTES = 6 << 30
_CONFIGURATION = """
[global]
fsid = {fsid}
auth cluster required = none
auth service required = none
auth client required = none
mon host = {mon}
ms bind ipv6 = false
# The gateway wants to speak with the monitor in secret, which it cannot without keys.
ms mon client mode = crc
run dir = {folder}
admin socket = {folder}/$name.sock
pid file =
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
crash dir = {folder}
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
osd objectstore = memstore
memstore device bytes = {bytes}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 0
rgw rados pool pg num min = 4
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw gc obj min wait = 1

[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
"""


def missing() -> list[str]:
    """Return those programs of Ceph that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextlib.contextmanager
def radosgw() -> Iterator[str]:
    """Run the cluster while the block lasts and give the URL of its gateway."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="trawl-ceph-", dir=memory if memory.is_dir() else None
    ) as name:
        folder = Path(name)
        cluster = _Cluster(folder)
        with contextlib.ExitStack() as stack:
            cluster.start_monitor(stack)
            cluster.start_store(stack)
            yield cluster.start_gateway(stack)


class _Cluster:
    """The programs of one cluster, whose files lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._fsid = folder, str(uuid.uuid4())
        monitor, self._port = free_ports(2)
        self._mon = f"127.0.0.1:{monitor}"
        self._conf = folder / "ceph.conf"
        for part in ("mon", "osd", "rgw"):
            (folder / part).mkdir()
        (folder / "keyring").touch()
        self._conf.write_text(
            _CONFIGURATION.format(
                fsid=self._fsid,
                mon=f"v2:{self._mon}",
                folder=folder,
                bytes=_STORE_BYTES,
                port=self._port,
            )
        )

    def _do(self, program: str, *arguments: str) -> str:
        """Run one command to its end and return what it printed; RuntimeError if it failed."""
        command = [program, "-c", str(self._conf), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def _daemon(self, stack: contextlib.ExitStack, *command: str) -> subprocess.Popen[bytes]:
        # The kernel ends it with the test's process, however that ends.
        bound = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with (self._folder / f"{command[0]}.out").open("wb") as out:
            return stack.enter_context(
                running([*bound, "-c", str(self._conf), "-f"], stdout=out, stderr=out)
            )

    def start_monitor(self, stack: contextlib.ExitStack) -> None:
        """Start the monitor, which knows the cluster's parts."""
        table = str(self._folder / "monmap")
        self._do("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a",
                 f"[v2:{self._mon}]", table)  # fmt: skip
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", table)
        self._daemon(stack, "ceph-mon", "-i", "a")

    def start_store(self, stack: contextlib.ExitStack) -> None:
        """Start the store, and wait until it can be written to."""
        name = str(uuid.uuid4())
        self._do("ceph", "--connect-timeout", "60", "osd", "new", name)
        self._do("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", name)
        self._do("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
        daemon = self._daemon(stack, "ceph-osd", "-i", "0")
        while json.loads(self._do("ceph", "osd", "stat", "-f", "json"))["num_up_osds"] < 1:
            if daemon.poll() is not None:
                raise RuntimeError(f"ceph-osd ended: {self._said('ceph-osd')}")

    def start_gateway(self, stack: contextlib.ExitStack) -> str:
        """Start the gateway, make the user and the bucket, and return the gateway's URL."""
        self._do("radosgw-admin", "user", "create", "--uid", "trawl", "--display-name", "trawl",
                 "--access-key", ACCESS, "--secret-key", SECRET)  # fmt: skip
        daemon = self._daemon(stack, "radosgw", "-n", "client.rgw.a")
        url = f"http://127.0.0.1:{self._port}"
        try:
            wait_until_up(url, daemon, 120.0)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {self._said('radosgw')}") from error
        make_bucket(url)
        return url

    def _said(self, program: str) -> str:
        return (self._folder / f"{program}.out").read_text(errors="replace")[-2000:]
