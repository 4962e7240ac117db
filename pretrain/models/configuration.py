"""What the configurations of all families do alike: be made by size, and be checked."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig

from trawl.errors import RequestError

Config = TypeVar("Config", bound=PreTrainedConfig)


def check_size(
    kind: type[PreTrainedConfig],
    family: str,
    sizes: Mapping[str, Any],
    size: str,
    changes: Mapping[str, Any],
) -> None:
    """Raise RequestError if `family` has no `size`, or its configuration no field to change."""
    if size not in sizes:
        raise RequestError(f"model.size: {family} has no size {size}; take {', '.join(sizes)}")
    known = {field.name for field in fields(kind)}
    for key in changes:
        if key not in known:
            raise RequestError(f"model.config: unknown key {key}; see {kind.__name__}")


def made(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """Return the configuration with `settings`; RequestError for a value of the wrong kind."""
    try:
        return kind(**settings)
    except (StrictDataclassError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"model.config: {reason}") from error


def check_text_length(longest: int, positions: int) -> None:
    """Raise ValueError if a text may be longer than there are positions."""
    if longest > positions:
        raise ValueError(
            f"max_seq_length {longest} is more than max_position_embeddings {positions}"
        )
