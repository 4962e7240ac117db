"""Fetching images, side by side with img2dataset: images per CPU second, memory, price of guards.

    python bench/corpus.py [--images N] [--rounds N] [--only WORDS]

Both fetch the same made JPEGs from an nginx on loopback with two processes, check and hash them,
and store them: ours by the build's own download step with every guard on, in the file and table
that the next steps read; img2dataset by its command, in tars. What packing our shards adds is told
as well. Starting up is measured once a side, with few images, and taken off; over HTTPS, where
img2dataset takes long, a fifth of the images are fetched. img2dataset lives in an environment of
its own, made at the first run. Needs nginx (Debian: apt-get install nginx-light).
"""

import argparse
import contextlib
import datetime
import ipaddress
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from parts.fetching import FEW, guard_prices
from warc_build import Memory

from trawl import chance

ROOT = Path(__file__).parents[1]
PEER = ROOT / "build" / "img2dataset"
PEER_VERSION = "1.47.0"
PEER_THREADS = 4  # the best of 2 to 64 on loopback
PROCESSES = 2
ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")
PORTS = {"http": 18080, "http, fresh": 18081, "https": 18443, "https, fresh": 18444}
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; types {{ image/jpeg jpg; text/plain txt; }}
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {folder}/leaf.pem; ssl_certificate_key {folder}/leaf.key;
  server {{ listen 127.0.0.1:18080; root {folder}/images; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:18081; root {folder}/images; keepalive_timeout 0; }}
  server {{ listen 127.0.0.1:18443 ssl http2; root {folder}/images; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:18444 ssl; root {folder}/images; keepalive_timeout 0; }}
}}
"""


@dataclass(frozen=True)
class Spent:
    """What one run took: CPU seconds and wall seconds of both processes, peak bytes of them all."""

    cpu: float
    wall: float
    peak: int


def write_images(folder: Path, count: int) -> list[str]:
    """Write `count` JPEGs, long sides 400 to 2,000 (median 900), and a robots.txt; return names.

    Clouds with grain, about 1.4 bits a pixel as photographs of the web have. Sixty are drawn; the
    others repeat one of these with a comment of their own, so that no bytes are equal.
    """
    folder.mkdir(parents=True)
    (folder / "robots.txt").write_text("User-agent: *\nDisallow: /private/\nDisallow: /*.cgi$\n")
    drawn = [_drawn(number) for number in range(min(60, count))]
    names = []
    for number in range(count):
        data, note = drawn[number % len(drawn)], f"{number:012d}".encode()
        comment = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
        names.append(f"{number:05d}.jpg")
        (folder / names[-1]).write_bytes(data[:2] + comment + data[2:])
    return names


def _drawn(number: int) -> bytes:
    draw = chance.generator("bench-corpus", number)
    side = int(np.clip(900 * np.exp(0.42 * draw.standard_normal()), 400, 2000))
    shape = (side, int(side * draw.uniform(0.6, 1.0)))[:: int(draw.choice([-1, 1]))]
    clouds = np.zeros((*shape, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = draw.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        clouds += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC) * (
            100 / cells**0.4
        )
    grain = cv2.GaussianBlur(9 * draw.standard_normal(shape, np.float32), (3, 3), 0.7)
    pixels = np.clip(128 + clouds + grain[..., None], 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def write_certificates(folder: Path) -> None:
    """Write a certificate for loopback, and a bundle that trusts it among the system's roots."""
    now = datetime.datetime.now(datetime.UTC)
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def begun(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("bench"))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        day = datetime.timedelta(days=1)
        return builder.not_valid_before(now - day).not_valid_after(now + day)

    authority = x509.BasicConstraints(ca=True, path_length=None)
    root = begun("bench", root_key).add_extension(authority, critical=True)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = begun("127.0.0.1", leaf_key).add_extension(address, critical=False)
    pem = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "leaf.pem").write_bytes(leaf.sign(root_key, hashes.SHA256()).public_bytes(pem))
    (folder / "leaf.key").write_bytes(leaf_key.private_bytes(pem, form, plain))
    ours = root.sign(root_key, hashes.SHA256()).public_bytes(pem)
    (folder / "roots.pem").write_bytes(ROOTS.read_bytes() + ours)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[None]:
    """Have nginx serve `folder`/images until the block ends."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("nginx is missing: apt-get install nginx-light")
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # its worker may be another user
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(1)
    if process.poll() is not None:
        sys.exit(f"nginx did not start: {(folder / 'error.log').read_text()}")
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def peer_program() -> Path:
    """Return the command of img2dataset, after making an environment for it if there is none.

    In `build/`, since it pins older packages than ours.
    """
    program = PEER / "bin" / "img2dataset"
    if not program.exists():
        uv = [sys.executable, "-m", "uv", "--no-config"]  # not under the constraints of our lock
        subprocess.run([*uv, "venv", "--quiet", "--clear", str(PEER)], check=True)
        python = ["--python", str(PEER / "bin" / "python"), f"img2dataset=={PEER_VERSION}"]
        subprocess.run([*uv, "pip", "install", "--quiet", *python], check=True)
    return program


def peer_command(urls: Path, out: Path, side: int) -> list[str]:
    """Return what fetches `urls` with img2dataset, as it came or at most `side` pixels long."""
    options: dict[str, object] = {
        "url_list": urls,
        "input_format": "txt",
        "output_format": "webdataset",
        "output_folder": out,
        "processes_count": PROCESSES,
        "thread_count": PEER_THREADS,
        "number_sample_per_shard": 500,
    }
    if side:
        options |= {"resize_mode": "keep_ratio_largest", "image_size": side, "encode_quality": 85}
        options |= {"resize_only_if_bigger": True, "skip_reencode": True}
    else:
        options |= {"resize_mode": "no", "disable_all_reencoding": True}
    return [str(peer_program()), *(f"--{name}={value}" for name, value in options.items())]


def our_command(urls: Path, out: Path, side: int, pack: bool = False) -> list[str]:
    """Return what fetches `urls` with our download step, and perhaps packs shards."""
    program = Path(__file__).parent / "parts" / "fetching.py"
    return [sys.executable, str(program), str(urls), str(out), str(side), str(int(pack))]


def our_packing_command(urls: Path, out: Path, side: int) -> list[str]:
    """Return what fetches `urls` and packs shards of them."""
    return our_command(urls, out, side, pack=True)


def spent(command: list[str], environment: dict[str, str]) -> Spent:
    """Run a command; return what it and its processes took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    memory = Memory(process.pid)
    memory.start()
    _, errors = process.communicate()
    memory.ended = True
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{errors.decode()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, time.perf_counter() - started, memory.peak)


def fetched(out: Path) -> int:
    """Return how many images lie in the tars or tables below a folder."""
    tars = sorted(out.rglob("*.tar"))
    if not tars:
        tables = [pq.read_table(place) for place in out.rglob("images.parquet")]
        return sum(pc.sum(pc.equal(table["reason"], "")).as_py() for table in tables)
    count = 0
    for place in tars:
        with tarfile.open(place) as tar:
            count += sum(name.endswith(".jpg") for name in tar.getnames())
    return count


Maker = Callable[[Path, Path, int], list[str]]


def run(maker: Maker, where: str, names: list[str], side: int, scratch: Path) -> Spent:
    """Fetch the images `names` once; stop the bench if any is missing."""
    urls, out = scratch / "urls.txt", scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    scheme = where.partition(",")[0]
    urls.write_text("".join(f"{scheme}://127.0.0.1:{PORTS[where]}/{name}\n" for name in names))
    environment = {
        "SSL_CERT_FILE": str(scratch / "roots.pem"),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    found = spent(maker(urls, out, side), environment)
    if fetched(out) != len(names):
        sys.exit(f"{where}: {fetched(out)} of {len(names)} images came")
    return found


TASKS = (("http", 0, 2.5), ("https, fresh", 0, 10.0), ("https", 0, None), ("http", 1000, 2.0))
SIDES: dict[str, Maker] = {
    "img2dataset": peer_command,
    "ours": our_command,
    "ours, packed": our_packing_command,
}


def compare(names: list[str], rounds: int, only: str, scratch: Path) -> None:
    """Print each task: CPU milliseconds an image, images a second, peak memory, and the ratios."""
    few = {
        who: min((run(maker, "http", names[:FEW], 0, scratch) for _ in range(2)), key=_cpu)
        for who, maker in SIDES.items()
    }
    plain: dict[str, float] = {}
    for where, side, aim in TASKS:
        task = f"{where}, {f'at most {side} px' if side else 'raw bytes'}"
        if only and only not in task:
            continue
        wanted = names if where == "http" else names[: len(names) // 5]
        costs = {}
        print(f"{task}, {len(wanted)} images")
        for who, maker in SIDES.items():
            found = [run(maker, where, wanted, side, scratch) for _ in range(rounds)]
            best = min(found, key=_cpu)
            # The short run fetched FEW plain images, at what they cost in the first task.
            cost = plain.setdefault(who, (best.cpu - few[who].cpu) / (len(wanted) - FEW))
            start = few[who].cpu - FEW * cost
            costs[who] = (best.cpu - start) / len(wanted)
            peak = max(one.peak for one in found) / 1e6
            print(
                f"  {who:14s} {1e3 * costs[who]:6.2f} CPU ms an image, {1 / costs[who]:5.0f} a CPU "
                f"second; peak {peak:4.0f} MB; starting {start:4.1f} CPU s; all {best.wall:5.1f} s",
                flush=True,
            )
        for who in ("ours", "ours, packed"):
            ratio = costs["img2dataset"] / costs[who]
            print(f"  img2dataset takes {ratio:5.1f} times the CPU of {who} (aim {aim or 'none'})")


def _cpu(found: Spent) -> float:
    return found.cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="do the tasks whose name holds this")
    options = parser.parse_args()
    shared_memory = Path("/dev/shm")
    place = shared_memory if shared_memory.is_dir() else None
    peer_program()
    with tempfile.TemporaryDirectory(dir=place) as folder:
        scratch = Path(folder)
        names = write_images(scratch / "images", options.images)
        write_certificates(scratch)
        sizes = [path.stat().st_size for path in (scratch / "images").glob("*.jpg")]
        print(f"{len(sizes)} images, {sum(sizes) / len(sizes) / 1000:.0f} KB on average")
        with served(scratch):
            compare(names, options.rounds, options.only, scratch)
            url = f"http://127.0.0.1:{PORTS['http']}/"
            prices = guard_prices([url + name for name in names[:500]])
        print("price of each guard, CPU microseconds an image (HTTP, kept connections)")
        for name, price in prices.items():
            print(f"  {name:58s} {price:7.1f}")


if __name__ == "__main__":
    main()
