"""Requests by libcurl, which speaks HTTP/2 where a host offers it, within the guards.

libcurl settles the version in the TLS handshake (ALPN), puts the requests to one host on one
connection then, and resumes sessions. It never asks DNS: it is told the addresses that the guard
has checked, and each socket is made by the guard for the very address that it goes to. Proxies,
cookies, passwords of the environment and redirects are off.
"""

import asyncio
import functools
import socket
import ssl
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


class _Transfer:
    """One request under way: what comes is put down, and looked at when it is over.

    libcurl itself stops where a status says that no body is wanted, and at the limit of bytes.
    """

    def __init__(self, limits: Limits, sockets: GuardedSockets) -> None:
        self._limits = limits
        self._sockets = sockets
        self._received = 0
        self._is_redirect = False
        self._error: Exception | None = None
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []

    def take_line(self, line: bytes) -> int | None:
        """Take a line of the head; a number stops a redirect at its end: nobody needs its body."""
        self.lines.append(line)
        if line[:5] == b"HTTP/":
            self._is_redirect = line.partition(b" ")[2].lstrip()[:1] == b"3"
        return -1 if self._is_redirect and len(line) < 3 else None

    def take_some(self, data: bytes) -> int | None:
        """Take a piece of a body of which only the beginning counts; a number stops the transfer.

        Packed, nothing takes more than a sixty-fourth above its length.
        """
        self.pieces.append(data)
        self._received += len(data)
        return -1 if self._received > self._limits.max_bytes * 65 // 64 + 1024 else None

    def open_socket(self, purpose: int, address: Any) -> Any:
        """Make the socket for an address, or none if the guard refuses it."""
        found = tuple(address)
        try:
            return self._sockets(found[0], found[1], found[2], str(found[3][0]))
        except RefusedError as error:
            self._error = error
            return pycurl.SOCKET_BAD

    def answer(self, failure: pycurl.error | None) -> Answer:
        """Return what has come; raises where not even a whole head has."""
        code = failure.args[0] if failure is not None else 0
        status, headers, has_head = _head(self.lines)
        has_status = has_head or (status > 0 and code == pycurl.E_HTTP_RETURNED_ERROR)
        if self._error is None and has_status and not 200 <= status < 300:
            return Answer(status, headers)  # without its body, however it ended
        error: Exception | None = self._error
        if error is None and code == pycurl.E_FILESIZE_EXCEEDED:
            error = BodyError("too-large", f"body of more than {self._limits.max_bytes} bytes")
        elif error is None and code and not (code == pycurl.E_WRITE_ERROR and self._limits.cut):
            error = TransferError(str(failure.args[1]), code in _LASTING)  # type: ignore[union-attr]
        if error is not None and not has_head:
            raise error
        if not has_head:
            raise TransferError("no answer came", False)
        if error is None:
            try:
                return Answer(status, headers, self._body(headers))
            except BodyError as damage:
                error = damage
        return Answer(status, headers, b"", error)

    def _body(self, headers: dict[str, list[str]]) -> bytes:
        """Return the body unpacked; BodyError if it is damaged or unpacks to too much."""
        limits, encodings = self._limits, headers.get("content-encoding")
        if encodings is None and not limits.cut:
            return b"".join(self.pieces)  # libcurl has kept to the limit
        inflater = Inflater(", ".join(encodings or ()), limits.max_bytes, limits.cut)
        for piece in self.pieces:
            inflater.feed(piece)
            if inflater.full:
                break
        return inflater.finish()


def _head(lines: list[bytes]) -> tuple[int, dict[str, list[str]], bool]:
    """Return status, headers by lower-case names, and whether the head came to its end.

    A status line begins anew, as after 100 Continue; what follows the last head are trailers.
    """
    headers: dict[str, list[str]] = {}
    status = 0
    for text in b"".join(lines).decode("latin-1").split("\n"):
        if text[:5] == "HTTP/":
            number = text.partition(" ")[2].lstrip()[:3]
            status, headers = int(number) if number.isdecimal() else 0, {}
            continue
        name, colon, value = text.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        elif status >= 200 and not text.strip("\r"):
            return status, headers, True
    return status, headers, False


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
        self._idle: list[Any] = []

    async def close(self) -> None:
        """End all transfers and connections."""
        await self._multi.aclose()
        while self._idle:
            self._idle.pop().close()

    async def get(self, url: str, limits: Limits) -> Answer:
        """Return the answer to one request; the body's faults come when it is read.

        RefusedError, TransferError or another OSError where no answer came.
        """
        transfer = _Transfer(limits, self._sockets)
        curl = self._idle.pop() if self._idle else self._new()
        whole = False
        try:
            self._aim(curl, url, limits, transfer)
            await self._pin(curl, url)
            failure = None
            try:
                await self._multi.perform(curl)
            except pycurl.error as error:
                failure = error
            whole = True
            return transfer.answer(failure)
        finally:
            transfer.pieces.clear()  # which the handle's functions keep until the next request
            if whole:
                self._lay_aside(curl)
            else:
                # A transfer that was cut off is taken out of the multi on the loop's next turn.
                asyncio.get_running_loop().call_soon(curl.close)

    def _lay_aside(self, curl: Any) -> None:
        """Keep a handle for another request, without the addresses that it was told."""
        if len(self._idle) < self._settings.connections:
            curl.unsetopt(pycurl.RESOLVE)
            curl.unsetopt(pycurl.CONNECT_TO)
            self._idle.append(curl)
        else:
            curl.close()

    def _aim(self, curl: Any, url: str, limits: Limits, transfer: _Transfer) -> None:
        """Set what differs from one request to the next."""
        curl.setopt(pycurl.URL, url)
        if self._settings.http2:
            curl.setopt(pycurl.PIPEWAIT, int(url.startswith("https:")))
        take = transfer.take_some if limits.cut else transfer.pieces.append
        curl.setopt(pycurl.HEADERFUNCTION, transfer.take_line)
        curl.setopt(pycurl.WRITEFUNCTION, take)
        curl.setopt(pycurl.MAXFILESIZE_LARGE, 0 if limits.cut else limits.max_bytes)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, transfer.open_socket)

    def _new(self) -> Any:
        """Return a handle with all that no request changes."""
        settings, curl = self._settings, pycurl.Curl()
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        version = pycurl.CURL_HTTP_VERSION_1_1
        if settings.http2:
            version = pycurl.CURL_HTTP_VERSION_2TLS
        curl.setopt(pycurl.HTTP_VERSION, version)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.FAILONERROR, 1)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.USERAGENT, settings.agent_header)
        curl.setopt(pycurl.HTTPHEADER, ["Accept: */*", "Accept-Encoding: gzip, deflate"])
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.timeout_seconds * 1000) + 1)
        file, folder = self._roots
        if file:
            curl.setopt(pycurl.CAINFO, file)
        if folder:
            curl.setopt(pycurl.CAPATH, folder)
        if not settings.verify_tls:
            curl.setopt(pycurl.SSL_VERIFYPEER, 0)
            curl.setopt(pycurl.SSL_VERIFYHOST, 0)
        return curl

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


@functools.lru_cache(maxsize=4096)
def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
