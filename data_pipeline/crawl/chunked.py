"""HTTP's chunked transfer coding, undone for bodies that a WARC keeps as they came."""


def dechunked(body: bytes) -> bytes:
    """Return `body` without its chunk frames, or as it is if it has none or they break off.

    Crawlers often store the plain body and keep the header that announces chunks.
    """
    pieces: list[bytes] = []
    position = 0
    while position < len(body):
        end = body.find(b"\r\n", position, position + 256)
        size_text = body[position:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            size = int(size_text, 16) if size_text.isalnum() else -1
        except ValueError:
            size = -1
        if size < 0:
            return b"".join(pieces) if pieces else body
        if size == 0:
            break
        pieces.append(body[end + 2 : end + 2 + size])
        position = end + 2 + size + 2
    return b"".join(pieces)
