"""Fetching images, side by side with img2dataset: images per CPU second, memory, price of guards.

    python bench/corpus.py [--images N] [--rounds N] [--only WORDS]

Both fetch the same made JPEGs from an nginx on loopback, check and hash them, and store them: ours
by the build's own download step with every guard on, in the file and table that the next steps
read; img2dataset in a tar. What packing our shards adds is told as well. CPU times are of one
worker of each side without its start, in turn; memory is that of two processes, by its command.
"Fresh" is a new connection for each image, with a whole TLS handshake: no session is resumed, as in
a crawl of many hosts. img2dataset lives in an environment of its own, made at the first run. Needs
nginx (Debian: apt-get install nginx-light).
"""

import argparse
import contextlib
import datetime
import ipaddress
import os
import resource
import shutil
import statistics
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
from parts.fetching import guard_prices
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
  server {{ listen 127.0.0.1:18444 ssl; root {folder}/images; keepalive_timeout 0;
            ssl_session_cache off; ssl_session_tickets off; }}
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

    Clouds with grain, about 1.4 bits a pixel as photographs of the web have. 120 are drawn; the
    others repeat one of these with a comment of their own, so that no bytes are equal.
    """
    folder.mkdir(parents=True)
    (folder / "robots.txt").write_text("User-agent: *\nDisallow: /private/\nDisallow: /*.cgi$\n")
    drawn = [_drawn(number) for number in range(min(120, count))]
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


def our_command(urls: Path, out: Path, side: int) -> list[str]:
    """Return what fetches `urls` with our download step and packs shards."""
    return [sys.executable, str(PARTS / "fetching.py"), "all", str(urls), str(out), str(side)]


def spent(command: list[str], variables: dict[str, str]) -> Spent:
    """Run a command; return what it and its processes took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables
    )
    watch = Memory(process.pid)
    watch.start()
    _, errors = process.communicate()
    watch.ended = True
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{errors.decode()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, time.perf_counter() - started, watch.peak)


def fetched(out: Path) -> int:
    """Return how many images lie in the tars or tables below a folder."""
    if tables := [pq.read_table(place) for place in out.rglob("all/**/images.parquet")]:
        return sum(pc.sum(pc.equal(table["reason"], "")).as_py() for table in tables)
    count = 0
    for place in out.rglob("*.tar"):
        with tarfile.open(place) as tar:
            count += sum(name.endswith(".jpg") for name in tar.getnames())
    return count


Maker = Callable[[Path, Path, int], list[str]]


def write_urls(where: str, names: list[str], scratch: Path) -> None:
    """Write the list of addresses."""
    base = f"{where.partition(',')[0]}://127.0.0.1:{PORTS[where]}"
    (scratch / "urls.txt").write_text("".join(f"{base}/{name}\n" for name in names))


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of either side: our certificate among the system's roots."""
    return {
        **os.environ,
        "SSL_CERT_FILE": str(scratch / "roots.pem"),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def run(maker: Maker, where: str, names: list[str], side: int, scratch: Path) -> Spent:
    """Fetch the images `names` with two processes; stop the bench if any is missing."""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    write_urls(where, names, scratch)
    found = spent(maker(scratch / "urls.txt", out, side), environment(scratch))
    if fetched(out) != len(names):
        sys.exit(f"{where}: {fetched(out)} of {len(names)} images came")
    return found


TASKS = (("http", 0, 2.5), ("https, fresh", 0, 10.0), ("https", 0, None), ("http", 1000, 2.0))
SIDES: dict[str, Maker] = {"img2dataset": peer_command, "ours": our_command}
PARTS = Path(__file__).parent / "parts"
WORKERS = {
    "img2dataset": [str(PEER / "bin" / "python"), str(PARTS / "peer.py")],
    "ours": [sys.executable, str(PARTS / "fetching.py"), "worker"],
    "ours, packed": [sys.executable, str(PARTS / "fetching.py"), "packing-worker"],
}


def compare(names: list[str], rounds: int, only: str, scratch: Path) -> None:
    """Print each task: CPU milliseconds an image of each side, and the ratios."""
    for where, side, aim in TASKS:
        task = f"{where}, {f'at most {side} px' if side else 'raw bytes'}"
        if only and only not in task:
            continue
        write_urls(where, names, scratch)
        costs: dict[str, list[float]] = {who: [] for who in WORKERS}
        for _ in range(rounds):
            for who, command in WORKERS.items():
                shutil.rmtree(scratch / "out", ignore_errors=True)
                place = [str(scratch / "urls.txt"), str(scratch / "out"), str(side)]
                done = subprocess.run(
                    [*command, *place], env=environment(scratch), capture_output=True, text=True
                )
                if done.returncode or fetched(scratch / "out") < len(names):
                    sys.exit(f"{who}, {task}: not all images came\n{done.stderr[-2000:]}")
                costs[who].append(float(done.stdout.split()[-1]))
        print(task, flush=True)
        for who, found in costs.items():
            least, median = min(found), statistics.median(found)
            ratio = min(costs["img2dataset"]) / least
            medians = statistics.median(costs["img2dataset"]) / median
            print(
                f"  {who:14s} {1e3 * least:7.3f} CPU ms an image (median {1e3 * median:.3f}), "
                f"{1 / least:6.0f} a CPU second, {ratio:5.2f} times img2dataset's "
                f"(medians {medians:.2f}, aim {aim or 'none'})",
                flush=True,
            )


def memory(names: list[str], scratch: Path) -> None:
    """Print the peak memory of two processes of each side, and their wall seconds."""
    for who, maker in SIDES.items():
        found = run(maker, "http", names, 0, scratch)
        print(
            f"two processes of {who}: peak {found.peak / 1e6:.0f} MB in all, {len(names)} images "
            f"in {found.wall:.1f} s, {found.cpu:.1f} CPU s, the start among them"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
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
            if not options.only:
                memory(names, scratch)
            url = f"http://127.0.0.1:{PORTS['http']}/"
            prices = guard_prices([url + name for name in names[:500]])
        print("price of each guard, CPU microseconds an image (HTTP, kept connections)")
        for name, price in prices.items():
            print(f"  {name:58s} {price:7.1f}")


if __name__ == "__main__":
    main()
