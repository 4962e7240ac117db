"""The formats of other programs' checkpoints, one file for each family."""

from pretrain.checkpoints.formats.format import Format
from trawl.errors import RequestError

NAMES = ("oscar", "vinvl", "xvlm", "vilbert", "vilbert-mt", "lxmert", "lxmert-hf", "bert")


def format_named(name: str, family: str | None) -> Format:
    """Return the format called `name`; `family` says which model has the text weights of `bert`.

    Raises RequestError for an unknown name, and for a family that is missing or another.
    """
    from pretrain.checkpoints.formats import bert, lxmert, oscar, vilbert, xvlm

    if name == "bert":
        return bert.format_for(family)
    formats = (*oscar.FORMATS, *xvlm.FORMATS, *vilbert.FORMATS, *lxmert.FORMATS)
    known = {form.name: form for form in formats}
    if name not in known:
        raise RequestError(f"--format {name}: unknown; take {', '.join(NAMES)}")
    form = known[name]
    if family not in (None, form.family):
        raise RequestError(f"--format {name} is of the family {form.family}, not {family}")
    return form
