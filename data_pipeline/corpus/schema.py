"""The schema of a sample's `KEY.json`, strict, and the names of a sample's members."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trawl.errors import WorkError

KEY_LENGTH = 24
IMAGE_EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp"}
MAX_META_BYTES = 4 << 20

Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class _Strict(BaseModel):
    """Base of the models below: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Caption(_Strict):
    """One text of a sample: where on the page it was found and how well it agrees, 0 to 1."""

    text: str = Field(min_length=1)
    source: str
    score: float = Field(ge=0, le=1)


class RegionText(_Strict):
    """A phrase about one box of the image, in pixels x1 y1 x2 y2."""

    box: Box
    phrase: str


class QuestionAnswer(_Strict):
    """A question about the image and its answer."""

    question: str
    answer: str


class SampleMeta(_Strict):
    """All that a sample says beside its pixels and regions; the content of `KEY.json`.

    captions best first, none where nobody described the image; tags are object names by
    confidence; phash is 16 hex digits; robots are the opt-out signals met on the way (for example
    noai); empty strings stand for "not known".
    """

    captions: list[Caption]
    tags: list[str]
    url: str
    page: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    phash: str = Field(pattern="^([0-9a-f]{16})?$")
    licence: str = ""
    robots: list[str] = []
    regions_text: list[RegionText] = []
    questions: list[QuestionAnswer] = []

    def to_bytes(self) -> bytes:
        """Return the JSON text that lies in the shard: sorted keys, so that it is reproducible."""
        value = self.model_dump(mode="json")
        return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def key_of(image: bytes) -> str:
    """Return the key of a sample: the first 24 hex digits of the SHA-256 of its image bytes."""
    return hashlib.sha256(image).hexdigest()[:KEY_LENGTH]


def is_key(text: str) -> bool:
    """Say whether `text` has the form of a sample's key."""
    return len(text) == KEY_LENGTH and all(letter in "0123456789abcdef" for letter in text)


def parse_meta(data: bytes, key: str) -> SampleMeta:
    """Read and check the bytes of a `KEY.json`; WorkError names the key and the first fault."""
    if len(data) > MAX_META_BYTES:
        raise WorkError(f"{key}.json: {len(data)} bytes, the limit is {MAX_META_BYTES}")
    try:
        return SampleMeta.model_validate_json(data)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        place = ".".join(str(part) for part in first["loc"])
        raise WorkError(f"{key}.json: {place}: {first['msg']}") from error
