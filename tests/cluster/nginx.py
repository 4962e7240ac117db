"""nginx on loopback with a certificate of our own: what real hosts answer, over HTTP/2 and 1.1."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.ports import free_ports

_CONFIGURATION = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format short '$server_protocol $connection $uri'; access_log {folder}/access.log short;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  types {{ image/jpeg jpg; text/plain txt; }} gzip on; gzip_types text/plain;
  ssl_certificate {certificate}; ssl_certificate_key {certificate};
  server {{ listen 127.0.0.1:{http2} ssl http2; root {root}; {locations} }}
  server {{ listen 127.0.0.1:{http1} ssl; root {root}; {locations} }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx: its ports, and a way to see what was asked."""

    http2: int
    http1: int
    folder: Path

    def requests(self, least: int = 0) -> list[tuple[str, str, str]]:
        """Return protocol, number of the connection and path of the requests so far.

        Waits until there are `least`: nginx logs a request after its answer has gone out.
        """
        while True:
            lines = (self.folder / "access.log").read_text().splitlines()
            if len(lines) >= least:
                return [(one[0], one[1], one[2]) for line in lines if (one := line.split(" ", 2))]
            time.sleep(0.01)


@contextlib.contextmanager
def nginx(folder: Path, certificate: Path, root: Path, locations: str) -> Iterator[Nginx]:
    """Serve `root` and `locations` until the block ends; skips the test where nginx is missing."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    folder.mkdir()
    running = Nginx(*free_ports(2), folder)
    for path in (*folder.parents, folder, root, *root.rglob("*")):
        with contextlib.suppress(OSError):  # its worker may be another user
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    names = {"folder": folder, "certificate": certificate, "root": root, "locations": locations}
    place = folder / "nginx.conf"
    place.write_text(_CONFIGURATION.format(http2=running.http2, http1=running.http1, **names))
    command = [program, "-p", str(folder), "-c", str(place)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", running.http1)).close()
                break
            assert process.poll() is None, (folder / "error.log").read_text()
            time.sleep(0.02)
        yield running
    finally:
        process.terminate()
        process.wait()
