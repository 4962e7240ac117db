"""Which files a source names: files themselves, folders, patterns, and lists of paths."""

import fnmatch
import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trawl import storage
from trawl.errors import RequestError

PATH_LISTS = (".paths", ".paths.gz", ".paths.txt")
"""How lists of paths are called, Common Crawl's `warc.paths.gz` and `wat.paths.gz` first of all."""

MAX_LIST_BYTES = 1 << 30
"""Longest list of paths, unpacked."""


@dataclass(frozen=True, order=True)
class SourceFile:
    """One file of a source; `listed` says that a path list named it and nobody asked for it yet."""

    uri: str
    listed: bool = False

    def inputs(self) -> dict[str, Any]:
        """Return what a unit that reads the file depends on: where it lies, and its size.

        The files of a path list may be a hundred thousand in a far store: their sizes are not
        asked for, and a file that is missing stops the build when its turn comes.
        """
        known = {} if self.listed else {"bytes": storage.size(self.uri)}
        return {"uri": self.uri, **known}


def files_of(
    uris: Iterable[str], endings: tuple[str, ...], key: str, base: str = ""
) -> list[SourceFile]:
    """Return the files with one of `endings` that `uris` name, sorted, each once.

    Path lists name files below `base`; without one there are no path lists. RequestError names
    `key` and the entry that leads to no file.
    """
    lists = PATH_LISTS if base else ()
    found: dict[str, SourceFile] = {}
    for uri in uris:
        paths = _paths_at(uri, (*endings, *lists))
        if not paths:
            raise RequestError(f"{key}: {uri}: no {' or '.join(endings)} there; mend the path")
        for path in paths:
            if lists and path.lower().endswith(lists):
                for listed in read_path_list(path, base):
                    found.setdefault(listed, SourceFile(listed, listed=True))
            else:
                found[path] = SourceFile(path)
    return sorted(found.values())


def _paths_at(uri: str, endings: tuple[str, ...]) -> list[str]:
    """Return the files at a path, below a folder, or of a pattern."""
    if "*" in uri:
        folder, _, _ = uri.partition("*")
        folder = folder.rpartition("/")[0] or ("." if not uri.startswith("/") else "/")
        return fnmatch.filter(storage.list_files(folder), uri)
    if uri.lower().endswith(endings) and storage.exists(uri):
        return [uri]
    return [path for path in storage.list_files(uri) if path.lower().endswith(endings)]


def read_path_list(uri: str, base: str) -> list[str]:
    """Return the addresses below `base` that the list at `uri` names, one a line, perhaps packed.

    Lines that are addresses of their own stay as they are. RequestError for what is no list.
    """
    try:
        with storage.open_read(uri) as file:
            source = gzip.GzipFile(fileobj=file) if uri.endswith(".gz") else file
            data = source.read(MAX_LIST_BYTES + 1)
        lines = io.StringIO(data.decode())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise RequestError(f"{uri}: no list of paths ({error}); fetch it again") from error
    if len(data) > MAX_LIST_BYTES:
        raise RequestError(f"{uri}: a list of more than {MAX_LIST_BYTES} bytes; split it")
    names = (line.strip() for line in lines)
    return [
        name if "://" in name or name.startswith("/") else storage.join(base, name)
        for name in names
        if name and not name.startswith("#")
    ]
