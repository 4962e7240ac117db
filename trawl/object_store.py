"""S3 with bounded patience: every request is timed and, after a fault that may pass, made again.

s3fs repeats some faults itself, without jitter and without saying so, and leaves the rest to
botocore. Both are switched off here: one request is repeated in one place, and counted.
"""

import asyncio
import io
import secrets
from typing import Any

import s3fs
from aiohttp import ClientError as HttpError
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as LinkError
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper

from trawl import retries

CONNECT_SECONDS = 10
READ_SECONDS = 30
"""A server that says nothing for this long will not say anything any more."""
_CONNECTIONS = 32
_TOKEN = "writer"

# Codes of answers below 500 that ask for another try.
_ASKED_BACK = frozenset({"SlowDown", "RequestTimeout", "ConditionalRequestConflict"})
_THERE_ALREADY = frozenset({"PreconditionFailed", "412"})
_LINK_FAULTS = (HTTPClientError, LinkError, HttpError, ResponseParserError, asyncio.TimeoutError)


class _Body:
    """The content of an object that has been read whole."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    async def read(self, amount: int = -1) -> bytes:
        return self._content.read(amount)

    def close(self) -> None:
        self._content.close()


class S3(s3fs.S3FileSystem):
    """s3fs whose every request goes through `_call_s3` below."""

    # Of s3fs' own tries: one, so that ours are the only ones.
    retries = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": _CONNECTIONS,
            **kwargs.pop("config_kwargs", {}),
        }
        super().__init__(*args, config_kwargs=settings, **kwargs)

    async def _call_s3(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Make one request, again where its fault may pass; OSError when it did not."""
        waits = retries.waits()
        unsure = False
        while True:
            try:
                answer = await super()._call_s3(method, *arguments, **named)
                if method == "get_object":
                    # Here, so that a connection that breaks within the content counts as a fault.
                    async with answer["Body"] as stream:
                        answer["Body"] = _Body(await stream.read())
                return answer
            except Exception as error:
                if unsure and _done_before(method, error):
                    return await self._call_s3("head_object", **_place(named))
                wait = next(waits, None)
                if not may_pass(error):
                    raise
                if wait is None:
                    raise _lasting(method, error) from error
                unsure = True
                retries.note()
                await asyncio.sleep(wait)

    call_s3 = sync_wrapper(_call_s3)

    async def _create(self, path: str, content: bytes) -> bool:
        """Put an object unless there is one of its name; False if another was first.

        A try whose answer was lost may have put it, and aiohttp itself repeats a request whose
        connection broke: a token kept with the object tells whose it is.
        """
        bucket, key, _ = self.split_path(path)
        token = {_TOKEN: secrets.token_hex(16)}
        try:
            await self._call_s3(
                "put_object",
                Bucket=bucket,
                Key=key,
                Body=content,
                IfNoneMatch="*",
                Metadata=token,
            )
        except Exception as error:
            if not _is_there(error):
                raise
            found = await self._call_s3("head_object", Bucket=bucket, Key=key)
            return bool(found.get("Metadata", {}).get(_TOKEN) == token[_TOKEN])
        return True

    create = sync_wrapper(_create)


def may_pass(error: BaseException) -> bool:
    """Say whether the request that ended in `error` may succeed when it is made again."""
    answer = _answer(error)
    if answer is None:
        return isinstance(error, (*_LINK_FAULTS, ConnectionError, TimeoutError))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(answer.get("Error", {}).get("Code", ""))
    return code in _ASKED_BACK or status == 429 or status >= 500


def _lasting(method: str, error: Exception) -> OSError:
    """Return the error of a fault that did not pass."""
    return ConnectionError(f"{method} failed {retries.TRIES} times, at last with: {error}")


def _answer(error: BaseException) -> dict[str, Any] | None:
    """Return what the server answered, None if it did not; s3fs wraps it in another error."""
    cause = error if isinstance(error, ClientError) else error.__cause__
    return cause.response if isinstance(cause, ClientError) else None


def _is_there(error: BaseException) -> bool:
    """Say whether a conditional put failed because its object exists; servers differ in how."""
    answer = _answer(error) or {}
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = answer.get("Error", {}).get("Code")
    return isinstance(error, FileExistsError) or code in _THERE_ALREADY or status == 412


def _done_before(method: str, error: BaseException) -> bool:
    """Say whether `error` means that an earlier try, whose answer was lost, completed an upload."""
    code = (_answer(error) or {}).get("Error", {}).get("Code")
    return method == "complete_multipart_upload" and code == "NoSuchUpload"


def _place(named: dict[str, Any]) -> dict[str, Any]:
    return {name: named[name] for name in ("Bucket", "Key")}
