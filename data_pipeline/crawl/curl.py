"""Requests by libcurl, which speaks HTTP/2 where a host offers it, within the guards.

libcurl settles the version in the TLS handshake (ALPN), puts the requests to one host on one
connection then, and resumes sessions. It never asks DNS: it is told the addresses that the guard
has checked, and each socket is made by the guard for the very address that it goes to. Proxies,
cookies, passwords of the environment and redirects are off.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import pycurl

from data_pipeline.crawl.address import host_of, port_of
from data_pipeline.crawl.body import BodyError, Inflater
from data_pipeline.crawl.errors import TransferError
from data_pipeline.crawl.guard import Guard, RefusedError
from data_pipeline.crawl.journey import Answer, Limits
from data_pipeline.crawl.resolve import GuardedResolver
from data_pipeline.crawl.settings import DownloadSettings
from data_pipeline.crawl.sockets import GuardedSockets

_BUFFER_BYTES = 128 << 10
# The handshake or the certificate is at fault, or no HTTP came: no use to ask at once again.
_LASTING = frozenset(
    (
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SSL_CACERT,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_SSL_CIPHER,
        pycurl.E_UNSUPPORTED_PROTOCOL,
        pycurl.E_FTP_WEIRD_SERVER_REPLY,  # of any protocol
        100,  # CURLE_TOO_LARGE: headers without end
    )
)


@dataclass(slots=True)
class _Transfer:
    """One request under way: takes what comes, and stops it where a limit is passed."""

    limits: Limits
    sockets: GuardedSockets
    status: int = 0
    headers: dict[str, list[str]] = field(default_factory=dict)
    has_head: bool = False
    inflater: Inflater | None = None
    received: int = 0
    error: Exception | None = None
    stopped: bool = False

    def take_header(self, line: bytes) -> int | None:
        """Take one header line; a status line begins anew, and trailers are left out.

        Any number stops the transfer: where the headers say already that the body is not wanted.
        """
        if self.inflater is not None:
            return None
        text = line.decode("latin-1").rstrip("\r\n")
        if text.startswith("HTTP/"):
            number = text.partition(" ")[2].lstrip()[:3]
            self.headers, self.status = {}, int(number) if number.isdecimal() else 0
            return None
        name, colon, value = text.partition(":")
        if colon:
            self.headers.setdefault(name.strip().lower(), []).append(value.strip())
        elif not text and self.status >= 200:
            self.has_head = True
            return self._begin()
        return None

    def _begin(self) -> int | None:
        """Make ready for a body; a number if none is wanted."""
        if not 200 <= self.status < 300:
            self.stopped = True
            return -1
        declared = self.headers.get("content-length", [""])[0]
        limit = self.limits.max_bytes
        try:
            if declared.isdecimal() and int(declared[:18]) > limit and not self.limits.cut:
                raise BodyError("too-large", f"Content-Length {declared[:18]}")
            encoding = ", ".join(self.headers.get("content-encoding", []))
            self.inflater = Inflater(encoding, limit, self.limits.cut)
        except BodyError as error:
            self.error = error
            return -1
        return None

    def take_body(self, data: bytes) -> int | None:
        """Take some of the body; any number stops the transfer."""
        assert self.inflater is not None
        self.received += len(data)
        try:
            if self.received > self.limits.max_bytes and not self.limits.cut:
                raise BodyError("too-large", f"body of more than {self.limits.max_bytes} bytes")
            self.inflater.feed(data)
        except BodyError as error:
            self.error = error
            return -1
        self.stopped = self.inflater.full
        return -1 if self.stopped else None

    def open_socket(self, purpose: int, address: Any) -> Any:
        """Make the socket for an address, or none if the guard refuses it."""
        found = tuple(address)
        try:
            return self.sockets(found[0], found[1], found[2], str(found[3][0]))
        except RefusedError as error:
            self.error = error
            return pycurl.SOCKET_BAD

    def answer(self, failure: pycurl.error | None) -> Answer:
        """Return what has come; raises where not even a header has."""
        error = self.error
        if error is None and failure is not None and not self.stopped:
            error = TransferError(str(failure.args[1]), failure.args[0] in _LASTING)
        if error is not None and not (self.has_head and isinstance(error, BodyError | OSError)):
            raise error
        if not self.has_head:
            raise TransferError("no answer came", False)
        body = b""
        if error is None and self.inflater is not None:
            try:
                body = self.inflater.finish()
            except BodyError as damage:
                error = damage
        return Answer(self.status, self.headers, body, error)


class CurlClient:
    """Makes requests by libcurl for one event loop, which it shares connections and names over."""

    def __init__(self, settings: DownloadSettings, guard: Guard, resolver: GuardedResolver) -> None:
        self._settings = settings
        self._resolver = resolver
        self._sockets = GuardedSockets(guard)
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, settings.connections)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        paths = ssl.get_default_verify_paths()
        self._roots = (paths.cafile, paths.capath)

    async def close(self) -> None:
        """End all transfers and connections."""
        await self._multi.aclose()

    async def get(self, url: str, limits: Limits) -> Answer:
        """Return the answer to one request; the body's faults come when it is read.

        RefusedError, TransferError or another OSError where no answer came.
        """
        transfer = _Transfer(limits, self._sockets)
        curl = pycurl.Curl()
        try:
            self._prepare(curl, url, transfer)
            await self._pin(curl, url)
            failure = None
            try:
                await self._multi.perform(curl)
            except pycurl.error as error:
                failure = error
            return transfer.answer(failure)
        finally:
            # A transfer that was cut off is taken out of the multi on the loop's next turn.
            asyncio.get_running_loop().call_soon(curl.close)

    def _prepare(self, curl: Any, url: str, transfer: _Transfer) -> None:
        settings = self._settings
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        if settings.http2:
            curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
            curl.setopt(pycurl.PIPEWAIT, int(url.startswith("https:")))
        else:
            curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.USERAGENT, settings.agent_header)
        curl.setopt(pycurl.HTTPHEADER, ["Accept: */*", "Accept-Encoding: gzip, deflate"])
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.timeout_seconds * 1000) + 1)
        curl.setopt(pycurl.HEADERFUNCTION, transfer.take_header)
        curl.setopt(pycurl.WRITEFUNCTION, transfer.take_body)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, transfer.open_socket)
        file, folder = self._roots
        if file:
            curl.setopt(pycurl.CAINFO, file)
        if folder:
            curl.setopt(pycurl.CAPATH, folder)
        if not settings.verify_tls:
            curl.setopt(pycurl.SSL_VERIFYPEER, 0)
            curl.setopt(pycurl.SSL_VERIFYHOST, 0)

    async def _pin(self, curl: Any, url: str) -> None:
        """Tell libcurl the checked addresses of a host; a literal address needs none."""
        host, port = host_of(url), port_of(url)
        if _is_literal(host):
            return
        found = await self._resolver.resolve(host, port)
        addresses = [_bracketed(address) for address in found.addresses]
        if found.port != port:
            curl.setopt(pycurl.CONNECT_TO, [f"{host}:{port}:{addresses[0]}:{found.port}"])
        else:
            curl.setopt(pycurl.RESOLVE, [f"{host}:{port}:{','.join(addresses)}"])


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
