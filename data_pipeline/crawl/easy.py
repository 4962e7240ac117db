"""One handle of libcurl, which makes one request after the other.

What comes is put down, and looked at when the transfer is over. libcurl itself stops where a status
says that no body is wanted, at the limit of bytes, and when the time is up.
"""

import functools
import math
import socket
import ssl
from typing import Any

import pycurl

from data_pipeline.crawl.body import BodyError, Inflater
from data_pipeline.crawl.errors import TransferError
from data_pipeline.crawl.guard import RefusedError
from data_pipeline.crawl.journey import Answer, Limits
from data_pipeline.crawl.resolve import Target
from data_pipeline.crawl.response_head import ResponseHead
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


class EasyHandle:
    """A handle with all that no request changes, and what its present request brings."""

    def __init__(self, settings: DownloadSettings, sockets: GuardedSockets) -> None:
        self.curl = _new_curl(settings)
        self._sockets = sockets
        self._http2 = settings.http2
        self._limits = Limits(False, 0, 0)
        self._is_secure = False
        self._pin: int | None = None
        self._received = 0
        self._refusal: RefusedError | None = None
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        self.curl.setopt(pycurl.HEADERFUNCTION, self._take_line)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)

    def aim(self, url: str, limits: Limits, seconds: float) -> None:
        """Begin a request to a canonical URL that has so many seconds."""
        curl = self.curl
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.TIMEOUT_MS, math.ceil(seconds * 1000))
        if limits is not self._limits:
            self._limits = limits
            take = self._take_some if limits.cut else self._pieces.append
            curl.setopt(pycurl.WRITEFUNCTION, take)
            curl.setopt(pycurl.MAXFILESIZE_LARGE, 0 if limits.cut else limits.max_bytes)
        is_secure = url.startswith("https:")
        if is_secure != self._is_secure and self._http2:
            # A request over TLS waits for another's handshake, so as to share its connection.
            curl.setopt(pycurl.PIPEWAIT, int(is_secure))
            self._is_secure = is_secure

    def pin(self, host: str, port: int, target: Target) -> None:
        """Tell libcurl the addresses to connect to for `host` in this request."""
        addresses = [_bracketed(address) for address in target.addresses]
        if target.port != port:
            self._pin = pycurl.CONNECT_TO
            self.curl.setopt(self._pin, [f"{host}:{port}:{addresses[0]}:{target.port}"])
        else:
            self._pin = pycurl.RESOLVE
            self.curl.setopt(self._pin, [f"{host}:{port}:{','.join(addresses)}"])

    def clear(self) -> None:
        """Forget the request, the addresses and what came."""
        if self._pin is not None:
            self.curl.unsetopt(self._pin)
            self._pin = None
        self._lines.clear()
        self._pieces.clear()
        self._received, self._refusal = 0, None

    def _take_line(self, line: bytes) -> int | None:
        """Take a line of the head; a number stops a redirect at its end: nobody needs its body."""
        self._lines.append(line)
        return -1 if len(line) < 3 and self._is_redirect() else None

    def _is_redirect(self) -> bool:
        """Say whether the last status line that came tells of one."""
        status = next((line for line in reversed(self._lines) if line[:5] == b"HTTP/"), b"")
        return status.partition(b" ")[2].lstrip()[:1] == b"3"

    def _take_some(self, data: bytes) -> int | None:
        """Take a piece of a body of which only the beginning counts; a number stops the transfer.

        Packed, nothing takes more than a sixty-fourth above its length.
        """
        self._pieces.append(data)
        self._received += len(data)
        return -1 if self._received > self._limits.max_bytes * 65 // 64 + 1024 else None

    def _open_socket(self, purpose: int, address: Any) -> Any:
        """Make the socket for an address, or none if the guard refuses it."""
        found = tuple(address)
        try:
            return self._sockets(found[0], found[1], found[2], str(found[3][0]))
        except RefusedError as error:
            self._refusal = error
            return pycurl.SOCKET_BAD

    def answer(self, failure: pycurl.error | None) -> Answer:
        """Return what has come; raises where not even a whole head has."""
        head = ResponseHead(self._lines)
        if failure is None and self._is_plain(head):
            return Answer(200, head, b"".join(self._pieces))  # libcurl has kept to the limit
        return self._careful_answer(head, failure)

    def _is_plain(self, head: ResponseHead) -> bool:
        """Say whether a body that came well is to be taken as it is."""
        return (
            self.curl.getinfo(pycurl.RESPONSE_CODE) == 200
            and self._refusal is None
            and not (self._limits.cut or head.lines("content-encoding"))
        )

    def _careful_answer(self, head: ResponseHead, failure: pycurl.error | None) -> Answer:
        code = failure.args[0] if failure is not None else 0
        if code == pycurl.E_OPERATION_TIMEDOUT:
            raise TimeoutError
        status = head.status
        has_status = head.is_whole or (status > 0 and code == pycurl.E_HTTP_RETURNED_ERROR)
        if self._refusal is None and has_status and not 200 <= status < 300:
            return Answer(status, head)  # without its body, however it ended
        error: Exception | None = self._refusal
        if error is None and code == pycurl.E_FILESIZE_EXCEEDED:
            error = BodyError("too-large", f"body of more than {self._limits.max_bytes} bytes")
        elif error is None and code and not (code == pycurl.E_WRITE_ERROR and self._limits.cut):
            error = TransferError(str(failure.args[1]), code in _LASTING)  # type: ignore[union-attr]
        if error is not None and not head.is_whole:
            raise error
        if not head.is_whole:
            raise TransferError("no answer came", False)
        if error is None:
            try:
                return Answer(status, head, self._body(head))
            except BodyError as damage:
                error = damage
        return Answer(status, head, b"", error)

    def _body(self, head: ResponseHead) -> bytes:
        """Return the body unpacked; BodyError if it is damaged or unpacks to too much."""
        limits = self._limits
        inflater = Inflater(", ".join(head.lines("content-encoding")), limits.max_bytes, limits.cut)
        for piece in self._pieces:
            inflater.feed(piece)
            if inflater.full:
                break
        return inflater.finish()


def _new_curl(settings: DownloadSettings) -> Any:
    """Return a handle of libcurl that follows nothing and asks nobody but whom it is told to."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    version = pycurl.CURL_HTTP_VERSION_1_1
    if settings.http2:
        version = pycurl.CURL_HTTP_VERSION_2TLS
    curl.setopt(pycurl.HTTP_VERSION, version)
    curl.setopt(pycurl.FOLLOWLOCATION, 0)
    curl.setopt(pycurl.FAILONERROR, 1)
    curl.setopt(pycurl.PROXY, "")
    curl.setopt(pycurl.NOPROXY, "*")  # else the environment is asked at every request
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
    curl.setopt(pycurl.PATH_AS_IS, 1)
    curl.setopt(pycurl.USERAGENT, settings.agent_header)
    curl.setopt(pycurl.HTTPHEADER, ["Accept: */*", "Accept-Encoding: gzip, deflate"])
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.timeout_seconds * 1000) + 1)
    file, folder = _roots()
    if file:
        curl.setopt(pycurl.CAINFO, file)
    if folder:
        curl.setopt(pycurl.CAPATH, folder)
    if not settings.verify_tls:
        curl.setopt(pycurl.SSL_VERIFYPEER, 0)
        curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    return curl


def _roots() -> tuple[str | None, str | None]:
    """Return the file and the folder of the system's root certificates."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile, paths.capath


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@functools.lru_cache(maxsize=4096)
def is_literal(host: str) -> bool:
    """Say whether a host is an address itself, as IPv4 or IPv6 are written."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
