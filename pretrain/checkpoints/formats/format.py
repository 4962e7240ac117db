"""What is to be known of a format: its files, its names, its sizes, and which class is a match."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pretrain.checkpoints.formats.keys import Shapes

Settings = dict[str, Any]
"""Values of a family's configuration; None for what neither the tensors nor a file say."""


@dataclass(frozen=True)
class MatchHead:
    """A head whose two or more classes say whether image and text belong together."""

    prefix: str
    """Our name of its linear layer, without `.weight` and `.bias`."""
    match_class: int
    """The published class of a pair that belongs together."""
    follows_config: bool = True
    """Its rows are in the order of the configuration's match_class; else always as published."""


@dataclass(frozen=True)
class Format:
    """One format of checkpoints, as the programs of a family write and read it."""

    name: str
    family: str
    """The family of ours that reads it."""
    files: tuple[str, ...]
    """Patterns of the file of tensors in a folder; the first, without wildcards, is written."""
    settings: Callable[[Shapes, Mapping[str, Any]], Settings]
    """From the shapes by our names and the original configuration: ours, where it differs."""
    original: Callable[[Any, Shapes], dict[str, Any]]
    """From our configuration and shapes: the original one."""
    names: re.Pattern[str]
    """Our names of what the format has; a model's other heads are left out of an export."""
    core: re.Pattern[str] = re.compile(r"bert\.")
    """Our names of the network under the prediction heads, without which nothing is imported."""
    heads: tuple[MatchHead, ...] = ()
    ours: Callable[[str], str] = str
    """Our name of a key in its plain spelling."""
    theirs: Callable[[str], str] = str
    """The key of a name of ours."""
    complete: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """Adds to a translated model what the format holds besides: second names, fixed tables."""
    unused: re.Pattern[str] = re.compile(r"(?!)")
    """Plain keys of tensors that our model has no use for: they are kept in a side file."""
    whole_folder: bool = False
    """Written as a folder with config.json and vocab.txt; else as a file, its configuration beside
    or inside it."""
    wrapped_in: str | None = None
    """Key of the file's mapping under which the tensors lie."""
    drawn_new: bool = False
    """What the file lacks is drawn new, since it holds no more than a part of the model."""
