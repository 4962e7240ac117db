"""The forms by name: what opens each for import, and what writes each."""

import importlib
from collections.abc import Callable

from data_pipeline.exchange.recipe import ImportRecipe
from data_pipeline.exchange.rows import Source
from trawl.errors import RequestError

_NAMED = ("source", "objects", "attributes")
# The class of each form, and the keys of the recipe that its constructor takes.
_OPENERS = {
    "lxmert-tsv": ("lxmert_tsv:LxmertTsv", _NAMED),
    "oscar-tsv": ("oscar_tsv:OscarTsv", ("source", "labels", "objects", "attributes")),
    "vilbert-lmdb": ("vilbert_lmdb:VilbertLmdb", _NAMED),
    "hf-frcnn": ("hf_frcnn:HfFrcnn", _NAMED),
    "xvlm-jsonl": ("xvlm_jsonl:XvlmJsonl", ("source",)),
}
IMPORTS = tuple(_OPENERS)
EXPORTS = ("lxmert-tsv", "oscar-tsv")


def open_source(recipe: ImportRecipe) -> Source:
    """Open the source of an import; RequestError says what is missing there."""
    target, keys = _OPENERS[recipe.kind]
    module, name = target.split(":")
    imported = importlib.import_module(f"{__package__}.{module}")
    opener: Callable[..., Source] = getattr(imported, name)
    return opener(*(getattr(recipe, key) for key in keys))


def check_kind(kind: str, known: tuple[str, ...], verb: str) -> None:
    """Raise RequestError that lists the known kinds unless `kind` is one."""
    if kind not in known:
        raise RequestError(f"{kind}: no form to {verb}; known are {', '.join(known)}")
