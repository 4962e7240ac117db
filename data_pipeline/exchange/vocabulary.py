"""The names of objects and attributes that foreign features leave to a file beside them."""

from trawl import storage
from trawl.errors import RequestError

OBJECTS_FILE = "objects_vocab.txt"
ATTRIBUTES_FILE = "attributes_vocab.txt"
UNKNOWN_NAME = "unknown"
MAX_NAMES = (1 << 15) - 1


def read_names(given: str | None, folder: str, name: str) -> list[str] | None:
    """Return the names in the file `given`, else in `name` beside the source, None if neither is.

    One class a line; of synonyms, separated by commas, the first counts.
    """
    beside = storage.join(folder, name)
    place = given or (beside if storage.exists(beside) else None)
    if place is None:
        return None
    names = [line.split(",")[0].strip() for line in storage.read_text(place).splitlines()]
    if not names or not all(names) or len(names) > MAX_NAMES:
        raise RequestError(f"{place}: one name a line, at most {MAX_NAMES}, none empty; mend it")
    return names


def numbered(kind: str, count: int) -> list[str]:
    """Return stand-ins for names that nobody told: object 0, object 1, ..."""
    return [f"{kind} {number}" for number in range(count)]
