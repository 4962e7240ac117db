"""WARC files served live on loopback under the real names of their hosts, over HTTP or HTTPS."""

import contextlib
import datetime
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from data_pipeline.crawl.address import canonical, host_of
from data_pipeline.crawl.page import WarcRecord
from data_pipeline.crawl.warc import read_warc
from data_pipeline.steps.collect import is_page


@dataclass(frozen=True)
class Twin:
    """A running server: its address, and the pages and hosts of the WARC files that it serves."""

    address: str
    pages: list[str]
    hosts: list[str]


@contextlib.contextmanager
def served(scratch: Path, *warcs: Path) -> Iterator[Twin]:
    """Serve what the WARC files hold, all of one scheme, until the block ends."""
    records: dict[str, WarcRecord] = {}
    for warc in warcs:
        for record in read_warc(warc):
            if record.error is None:
                records.setdefault(canonical(record.url) or record.url, record)
    (scheme,) = {url.partition(":")[0] for url in records}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(records, scheme))
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_certificate(scratch))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    pages = [
        url
        for url, record in records.items()
        if record.status == 200 and is_page(record.content_type)
    ]
    try:
        hosts = sorted({host_of(url) for url in records})
        yield Twin(f"127.0.0.1:{server.server_address[1]}", sorted(pages), hosts)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(records: dict[str, WarcRecord], scheme: str) -> type[BaseHTTPRequestHandler]:
    """Return a handler that answers as the records of a host do, and 404 for all else."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = canonical(f"{scheme}://{self.headers['Host']}{self.path}") or ""
            record = records.get(url)
            body = (record.body or b"") if record else b""
            self.send_response(record.status if record else 404)
            for name in ("content-type", "location", "x-robots-tag"):
                if record and name in record.headers:
                    self.send_header(name, record.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Keep quiet."""

    return Handler


def write_certificate(scratch: Path) -> Path:
    """Write a certificate of our own and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "warc.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    place = scratch / "certificate.pem"
    place.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return place
