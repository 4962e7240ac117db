"""Fetches over TLS by libcurl, which speaks HTTP/2 where a host offers it, within the same guards.

aiohttp has no HTTP/2. libcurl settles the version in the TLS handshake (ALPN), puts the requests to
one host on one connection, and resumes sessions. It never asks DNS: it is told the addresses that
the guard has checked, and each socket is made by the guard for the very address that it goes to.
Proxies, cookies, passwords of the environment and redirects are off.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import pycurl
from multidict import CIMultiDict

from data_pipeline.crawl.address import host_of, port_of
from data_pipeline.crawl.body import BodyError, Inflater
from data_pipeline.crawl.errors import TransferError
from data_pipeline.crawl.guard import Guard, RefusedError
from data_pipeline.crawl.journey import Limits
from data_pipeline.crawl.resolve import GuardedResolver
from data_pipeline.crawl.settings import DownloadSettings
from data_pipeline.crawl.sockets import GuardedSockets

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
class Answer:
    """An answer whose transfer is over: its body, or why there is none."""

    status: int
    headers: "CIMultiDict[str]"
    body: bytes
    error: Exception | None = None

    async def read(self, limits: Limits) -> bytes:
        """Return the body, which was read within `limits` already."""
        if self.error is not None:
            raise self.error
        return self.body


@dataclass(slots=True)
class _Transfer:
    """One request under way: takes what comes, and stops it where a limit is passed."""

    limits: Limits
    sockets: GuardedSockets
    status: int = 0
    headers: "CIMultiDict[str]" = field(default_factory=CIMultiDict)
    has_head: bool = False
    inflater: Inflater | None = None
    received: int = 0
    error: Exception | None = None
    stopped: bool = False

    def take_header(self, line: bytes) -> None:
        """Take one header line; a status line begins anew, and trailers are left out."""
        if self.inflater is not None:
            return
        text = line.decode("latin-1").rstrip("\r\n")
        if text.startswith("HTTP/"):
            self.headers = CIMultiDict()
            self.status = int(text.split(" ", 2)[1])
            return
        name, colon, value = text.partition(":")
        if colon:
            self.headers.add(name.strip(), value.strip())
        elif not text and self.status >= 200:
            self.has_head = True

    def take_body(self, data: bytes) -> int:
        """Take some of the body; any number but that of its bytes stops the transfer."""
        try:
            if self._is_enough(data):
                self.stopped = True
                return -1
        except BodyError as error:
            self.error = error
            return -1
        return len(data)

    def _is_enough(self, data: bytes) -> bool:
        """Say whether no more is wanted; BodyError once the body passes its limit."""
        if not 200 <= self.status < 300:
            return True
        if self.inflater is None:
            self.inflater = self._begun()
        self.received += len(data)
        if self.received > self.limits.max_bytes and not self.limits.cut:
            raise BodyError("too-large", f"body of more than {self.limits.max_bytes} bytes")
        self.inflater.feed(data)
        return self.inflater.full

    def _begun(self) -> Inflater:
        declared = self.headers.get("Content-Length", "")
        limit = self.limits.max_bytes
        if declared.isdecimal() and int(declared[:18]) > limit and not self.limits.cut:
            raise BodyError("too-large", f"Content-Length {declared[:18]}")
        encoding = ", ".join(self.headers.getall("Content-Encoding", []))
        return Inflater(encoding, limit, self.limits.cut)

    def open_socket(self, purpose: int, address: Any) -> Any:
        """Make the socket for an address, or none if the guard refuses it."""
        found = tuple(address)
        try:
            return self.sockets((found[0], found[1], found[2], "", found[3]))
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
        if error is None and 200 <= self.status < 300:
            try:
                body = (self.inflater or self._begun()).finish()
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
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
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
        if found[0]["port"] != port:
            address = _bracketed(found[0]["host"])
            curl.setopt(pycurl.CONNECT_TO, [f"{host}:{port}:{address}:{found[0]['port']}"])
        else:
            addresses = ",".join(_bracketed(one["host"]) for one in found)
            curl.setopt(pycurl.RESOLVE, [f"{host}:{port}:{addresses}"])


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
