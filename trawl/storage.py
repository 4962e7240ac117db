"""Files on local disk and in object stores behind one set of functions; none appears half written.

A URI is a local path or anything that fsspec opens, `s3://bucket/key` first of all. Credentials and
endpoint of S3 come from the usual AWS settings (`AWS_ENDPOINT_URL` for a server of one's own).
Faults of S3 that may pass are waited out: see trawl.object_store.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from trawl.errors import RequestError, WorkError

_COPY_BYTES = 8 << 20


class NotFoundError(RequestError):
    """No file lies there."""


def is_remote(uri: str | Path) -> bool:
    """Say whether `uri` lies outside the local file system."""
    return "://" in str(uri) and not str(uri).startswith("file://")


def join(uri: str | Path, *parts: str) -> str:
    """Append path `parts` to `uri`."""
    base = str(uri).removeprefix("file://")
    return "/".join([base.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def _local(uri: str | Path) -> Path:
    return Path(str(uri).removeprefix("file://"))


def _remote(uri: str | Path) -> tuple[Any, str]:
    """Return the fsspec file system of a remote `uri` and the path in it."""
    import fsspec

    scheme = str(uri).split("://", 1)[0]
    if scheme in ("s3", "s3a"):
        return _s3(), str(uri).removeprefix(f"{scheme}://").rstrip("/")
    try:
        return fsspec.core.url_to_fs(str(uri))
    except (ValueError, ImportError) as error:
        raise RequestError(f"{uri}: no storage for {scheme}:// ({error})") from error


def _s3() -> Any:
    """Return the client of S3; there is one for each endpoint, process and thread."""
    from trawl.object_store import S3

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return S3(use_listings_cache=False, endpoint_url=endpoint)


def exists(uri: str | Path) -> bool:
    """Say whether a file or a folder lies at `uri`."""
    if not is_remote(uri):
        return _local(uri).exists()
    system, path = _remote(uri)
    return bool(system.exists(path))


def size(uri: str | Path) -> int:
    """Return the bytes of the file at `uri`; RequestError if there is none."""
    if not is_remote(uri):
        try:
            return _local(uri).stat().st_size
        except OSError as error:
            raise NotFoundError(f"{uri}: no such file") from error
    system, path = _remote(uri)
    try:
        return int(system.size(path))
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri}: no such file") from error


@contextlib.contextmanager
def open_read(uri: str | Path) -> Iterator[BinaryIO]:
    """Open `uri` for reading bytes; RequestError if it is not there."""
    try:
        if is_remote(uri):
            system, path = _remote(uri)
            file = cast(BinaryIO, system.open(path, "rb"))
        else:
            file = _local(uri).open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError(f"{uri}: no such file") from error
    except PermissionError as error:
        raise RequestError(f"{uri}: may not be read ({error})") from error
    with file:
        yield file


def read_bytes(uri: str | Path) -> bytes:
    """Return the whole file at `uri`."""
    with open_read(uri) as file:
        return file.read()


def read_range(uri: str | Path, start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop` - 1 of the file at `uri`, fewer where it ends earlier."""
    if is_remote(uri):
        system, path = _remote(uri)
        try:
            return bytes(system.cat_file(path, start=start, end=stop))
        except FileNotFoundError as error:
            raise NotFoundError(f"{uri}: no such file") from error
    with open_read(uri) as file:
        file.seek(start)
        return file.read(stop - start)


def read_text(uri: str | Path) -> str:
    """Return the whole UTF-8 file at `uri`; RequestError if it is not UTF-8."""
    try:
        return read_bytes(uri).decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{uri}: not a UTF-8 text file ({error.reason})") from error


def read_json(uri: str | Path) -> Any:
    """Return the JSON value in the file at `uri`; RequestError names the line of an error."""
    try:
        return json.loads(read_text(uri))
    except json.JSONDecodeError as error:
        raise RequestError(f"{uri}: line {error.lineno}: not JSON ({error.msg})") from error


@contextlib.contextmanager
def open_atomic(uri: str | Path) -> Iterator[BinaryIO]:
    """Open `uri` for writing; the file appears when the block ends, and not at all if it raises."""
    if is_remote(uri):
        with _open_atomic_remote(uri) as file:
            yield file
        return
    path = _local(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with aside.open("wb") as local_file:
            yield local_file
            local_file.flush()
            os.fsync(local_file.fileno())
        aside.replace(path)
    except OSError as error:
        raise WorkError(f"{uri}: could not be written ({error.strerror or error})") from error
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _open_atomic_remote(uri: str | Path) -> Iterator[BinaryIO]:
    """Write an object whose upload completes only when the block ends well."""
    system, path = _remote(uri)
    file = system.open(path, "wb", autocommit=False)
    try:
        yield file
    except BaseException:
        with contextlib.suppress(Exception):
            file.discard()
        file.closed = True  # else the collector of garbage would try to complete the upload
        raise
    file.close()
    file.commit()


def write_bytes(uri: str | Path, data: bytes) -> None:
    """Write `data` to `uri`, whole or not at all."""
    if is_remote(uri):
        system, path = _remote(uri)
        system.pipe_file(path, data)
        return
    with open_atomic(uri) as file:
        file.write(data)


def write_text(uri: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `uri`, whole or not at all."""
    write_bytes(uri, text.encode())


def write_json(uri: str | Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, so that equal values make equal bytes."""
    write_text(uri, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def create_exclusive(uri: str | Path, data: bytes) -> bool:
    """Create `uri` with `data` unless it exists; False if another was first.

    The local file is written aside and hard-linked, the object is put with `If-None-Match: *`: in
    both the first creator wins and readers never see a part of it.
    """
    if is_remote(uri):
        return _create_exclusive_remote(uri, data)
    path = _local(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def _create_exclusive_remote(uri: str | Path, data: bytes) -> bool:
    """Put an object on the condition that there is none under its name yet."""
    system, path = _remote(uri)
    if hasattr(system, "create"):
        return bool(system.create(path, data))
    try:
        system.pipe_file(path, data, mode="create")
    except OSError:  # servers differ in the error: FileExistsError, or a bare OSError
        if not system.exists(path):
            raise
        return False
    return True


def list_files(uri: str | Path) -> list[str]:
    """Return every file below `uri` as a full URI, sorted; files half written are left out."""
    if not is_remote(uri):
        found = (path for path in _local(uri).rglob("*") if path.is_file())
        return sorted(str(path) for path in found if not path.name.endswith(".part"))
    system, name = _remote(uri)
    scheme = str(uri).split("://", 1)[0]
    try:
        found_files = system.find(name, detail=True)
    except FileNotFoundError:
        return []
    # A folder that fills while it is listed may be listed itself.
    return sorted(
        f"{scheme}://{found}" for found, info in found_files.items() if info["type"] == "file"
    )


def remove(uri: str | Path) -> None:
    """Delete the file or the whole folder at `uri`, if there is one."""
    if not is_remote(uri):
        path = _local(uri)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        return
    system, name = _remote(uri)
    with contextlib.suppress(FileNotFoundError):
        system.rm(name, recursive=True)


def local_path(uri: str | Path, cache_folder: str | Path) -> Path:
    """Return a local path with the content of `uri`: itself, or a copy fetched once."""
    if not is_remote(uri):
        return _local(uri)
    name = hashlib.sha256(str(uri).encode()).hexdigest()[:16] + "-" + str(uri).rsplit("/", 1)[-1]
    copy = Path(cache_folder) / name
    if not copy.exists():
        with open_read(uri) as source, open_atomic(copy) as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)
    return copy


def upload(path: str | Path, uri: str | Path) -> None:
    """Copy the local file `path` to `uri`, whole or not at all."""
    with Path(path).open("rb") as source, open_atomic(uri) as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)


def sha256_of(uri: str | Path) -> str:
    """Return the SHA-256 of the file at `uri` in hex, read in pieces."""
    digest = hashlib.sha256()
    with open_read(uri) as file:
        while piece := file.read(_COPY_BYTES):
            digest.update(piece)
    return digest.hexdigest()
