"""Which character encoding a page is in, and its text as UTF-8, as browsers would decide it.

The order is that of the HTML standard: byte order mark, Content-Type header, meta in the first
bytes, then a guess; except that bytes which are whole UTF-8 are taken as such whatever a
single-byte label says, because such a label is then wrong.
"""

import re

_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HEAD_BYTES = 4096
_LABEL = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)
_META = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]+)", re.IGNORECASE)

# Labels of the WHATWG Encoding standard, folded, to Python codecs; others are not believed.
_CODECS = {
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 x-unicode20utf8 utf-16 utf-16le utf-16be ucs-2",
    "cp1252": "windows-1252 cp1252 x-cp1252 iso-8859-1 iso8859-1 iso88591 latin1 l1 ascii us-ascii",
    "cp1250": "windows-1250 cp1250 x-cp1250",
    "cp1251": "windows-1251 cp1251 x-cp1251",
    "cp1253": "windows-1253 cp1253",
    "cp1254": "windows-1254 cp1254 iso-8859-9 iso8859-9 latin5 l5",
    "cp1255": "windows-1255 cp1255",
    "cp1256": "windows-1256 cp1256",
    "cp1257": "windows-1257 cp1257",
    "cp1258": "windows-1258 cp1258",
    "cp874": "windows-874 tis-620 iso-8859-11 dos-874",
    "iso8859-2": "iso-8859-2 iso8859-2 latin2 l2",
    "iso8859-3": "iso-8859-3 latin3",
    "iso8859-4": "iso-8859-4 latin4",
    "iso8859-5": "iso-8859-5 cyrillic",
    "iso8859-6": "iso-8859-6 arabic",
    "iso8859-7": "iso-8859-7 greek",
    "iso8859-8": "iso-8859-8 iso-8859-8-i hebrew",
    "iso8859-10": "iso-8859-10 latin6",
    "iso8859-13": "iso-8859-13",
    "iso8859-14": "iso-8859-14",
    "iso8859-15": "iso-8859-15 latin9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "koi8-r koi8 koi",
    "koi8-u": "koi8-u koi8-ru",
    "mac-roman": "macintosh mac x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic",
    "cp866": "ibm866 cp866",
    "gb18030": "gb18030 gbk gb2312 gb-2312 chinese x-gbk",
    "big5hkscs": "big5 big5-hkscs cn-big5 x-x-big5",
    "cp932": "shift-jis shift_jis sjis x-sjis windows-31j ms-kanji",
    "euc-jp": "euc-jp x-euc-jp",
    "iso2022-jp": "iso-2022-jp",
    "cp949": "euc-kr korean ks_c_5601-1987 ksc5601 windows-949",
}
_BY_LABEL = {label: codec for codec, labels in _CODECS.items() for label in labels.split()}
_MULTIBYTE = frozenset({"gb18030", "big5hkscs", "cp932", "euc-jp", "iso2022-jp", "cp949"})


def declared_encoding(html: bytes, content_type: str) -> str | None:
    """Return the codec that header or markup declares, None if neither does in a known name."""
    found = _LABEL.search(content_type)
    if found and (codec := _BY_LABEL.get(found[1].lower())):
        return codec
    head = html[:_HEAD_BYTES]
    for pattern in (_META, _XML):
        match = pattern.search(head)
        if match and (codec := _BY_LABEL.get(match[1].decode("ascii").lower())):
            return codec
    return None


def to_utf8(html: bytes, content_type: str) -> bytes:
    """Return the page as valid UTF-8 without byte order mark; bytes that fit nowhere are U+FFFD."""
    for mark, codec in _MARKS:
        if html.startswith(mark):
            return _recoded(html[len(mark) :], codec)
    if html.isascii() and b"\x1b" not in html:
        return html
    declared = declared_encoding(html, content_type)
    if declared not in _MULTIBYTE:
        try:
            html.decode("utf-8")
        except UnicodeDecodeError as error:
            return _recoded(html, declared or _guess(html, error))
        return html
    return _recoded(html, declared)


def _recoded(html: bytes, codec: str) -> bytes:
    return html.decode(codec, "replace").encode("utf-8", "replace")


def _guess(html: bytes, error: UnicodeDecodeError) -> str:
    """Choose for bytes that are no clean UTF-8: mostly so, perhaps cut off, or Western European."""
    if error.reason == "unexpected end of data":
        return "utf-8"
    sample = html[: 256 << 10].decode("utf-8", "replace")
    broken = sample.count("\ufffd")
    multibyte = sum(character > "\x7f" for character in sample) - broken
    return "utf-8" if multibyte > 4 * broken else "cp1252"
