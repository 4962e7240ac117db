"""Bodies of answers, read piece by piece and never past a limit, packed or unpacked."""

import re
import zlib

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 64 << 10


class BodyError(Exception):
    """A body that cannot be taken; `reason` is a code of Fetched.error or WarcRecord.error."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Inflater:
    """Undoes a Content-Encoding as bytes arrive, and stops at `limit` bytes of output.

    Knows gzip (several members too), deflate with or without zlib's frame, and identity. With
    `cut` it keeps the first `limit` bytes and is then `full`; without, more is a BodyError.
    """

    def __init__(self, encoding: str, limit: int, cut: bool = False) -> None:
        self._encodings = [
            name for name in re.split(r"[\s,]+", encoding.lower()) if name not in ("", "identity")
        ]
        if len(self._encodings) > 1 or any(
            name not in ("gzip", "x-gzip", "deflate") for name in self._encodings
        ):
            raise BodyError("bad-encoding", f"content encoding {encoding[:60]}")
        self._limit = limit
        self._cut = cut
        self.full = False
        self._pieces: list[bytes] = []
        self._length = 0
        self._inflate = self._new(_GZIP) if self._encodings else None
        self._started = False

    def _new(self, window: int) -> "zlib._Decompress":
        return zlib.decompressobj(window)

    def feed(self, data: bytes) -> None:
        """Take the next bytes as sent; BodyError if they are damaged or unpack to too much."""
        if self._inflate is None:
            self._keep(data)
            return
        if not self._started and data:
            self._start(data)
        try:
            self._unpack(data)
        except zlib.error as error:
            raise BodyError("bad-encoding", str(error)) from error

    def _start(self, data: bytes) -> None:
        """Choose the frame by the first byte: servers send each kind under any of the names."""
        self._started = True
        if data[0] == 0x1F:
            return
        framed = data[0] & 0x0F == 8 and (len(data) < 2 or (data[0] * 256 + data[1]) % 31 == 0)
        self._inflate = self._new(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)

    def _unpack(self, data: bytes) -> None:
        while data and self._inflate is not None:
            if self._inflate.eof:
                # Another gzip member may follow; anything else after the end is padding.
                if data[:2] != b"\x1f\x8b":
                    return
                self._inflate = self._new(_GZIP)
            self._keep(self._inflate.decompress(data, self._limit - self._length + 1))
            if self.full:
                return
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length > self._limit:
            if self._cut:
                self._pieces.append(piece[: self._limit - self._length])
                self.full = True
                return
            raise BodyError("too-large", f"body of more than {self._limit} bytes")
        if piece:
            self._pieces.append(piece)

    def finish(self) -> bytes:
        """Return the whole body; BodyError "truncated" if its compressed stream never ended."""
        unfinished = self._inflate is not None and self._started and not self._inflate.eof
        if unfinished and not self.full:
            raise BodyError("truncated", "the compressed body stops before its end")
        return b"".join(self._pieces)


def unpacked(data: bytes, encoding: str, limit: int) -> bytes:
    """Return `data` with its Content-Encoding undone, at most `limit` bytes; BodyError if not."""
    inflater = Inflater(encoding, limit)
    for start in range(0, len(data), _PIECE):
        inflater.feed(data[start : start + _PIECE])
    return inflater.finish()
