"""What an import is asked to do; written beside the corpus as its `recipe.yaml`."""

from typing import Literal

from pydantic import Field

from trawl.recipe import Recipe

# Keys that say where things lie: they change no byte of the corpus.
PLACES = ("source", "images", "captions", "labels", "objects", "attributes")

Kind = Literal["lxmert-tsv", "oscar-tsv", "vilbert-lmdb", "hf-frcnn", "xvlm-jsonl"]


class ImportRecipe(Recipe):
    """An import of features that others extracted."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the corpus, as it stands in the manifest."""

    kind: Kind
    """Form of the source."""

    source: str
    """File or folder of the features."""

    labels: str | None = None
    """File of labels (oscar-tsv); None: predictions.tsv or label.tsv beside the features."""

    objects: str | None = None
    """File with the names of objects; None: objects_vocab.txt beside the source, else numbers."""

    attributes: str | None = None
    """File with the names of attributes."""

    images: str | None = None
    """Folder of the images, found by image id; None leaves the samples without images."""

    captions: str | None = None
    """COCO caption JSON, by image id."""

    features: Literal["float16", "int8"] = "float16"
    """Form of the features in the shards."""

    samples: int = Field(default=1000, ge=1)
    """Rows to a shard."""

    detector: str | None = None
    """Name of the detector for the manifest; None: the kind."""

    selection: str | None = None
    """Name of the rule by which the regions were chosen, for the manifest."""
