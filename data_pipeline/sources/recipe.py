"""The part `collect.source` of a corpus recipe: one model for each kind of source."""

import contextlib
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_pipeline.crawl.frontier import CrawlScope
from data_pipeline.crawl.sitemaps import Sitemaps
from trawl.recipe import Recipe

# Keys of sources that say where things lie, and so change no byte of the corpus.
PLACES = ("uris", "base", "seeds", "captions", "regions", "questions", "answers", "images")


class WarcSource(Recipe):
    """Pages out of WARC files."""

    kind: Literal["warc"]

    uris: list[str] = Field(min_length=1)
    """Files, folders (every *.warc and *.warc.gz below), patterns with `*`, or Common Crawl's path
    lists (*.paths, *.paths.gz), which name files below `base`."""

    base: str = "https://data.commoncrawl.org/"
    """What stands before each line of a path list: s3://commoncrawl/ on AWS, or a mirror."""


class WatSource(Recipe):
    """Images and their alt texts out of Common Crawl's WAT files, the metadata of its pages."""

    kind: Literal["wat"]

    uris: list[str] = Field(min_length=1)
    """Files, folders (every *.wat, *.warc.wat.gz below), patterns with `*`, or path lists."""

    base: str = "https://data.commoncrawl.org/"
    """What stands before each line of a path list: s3://commoncrawl/ on AWS, or a mirror."""


class CrawlSource(CrawlScope):
    """Pages fetched live, from seed addresses outwards."""

    kind: Literal["crawl"]

    seeds: list[str] = Field(min_length=1)
    """Addresses of first pages, or files that hold one address a line."""

    sitemaps: Sitemaps = Sitemaps()


Column = str | Annotated[int, Field(ge=0)]


class Columns(Recipe):
    """Which columns of a table hold what: names where it has them, else numbers from 0."""

    url: Column
    """The image's address."""

    caption: Column
    """The text."""

    licence: Column | None = None
    """The licence of the image; None: the table does not say."""


TableFormat = Literal["cc3m", "cc12m", "sbu", "laion", "datacomp", "columns"]


class TableSource(Recipe):
    """Addresses of images with their captions, as data sets are published: TSV, JSON, parquet."""

    kind: Literal["table"]

    format: TableFormat
    """Whose form the files have; `columns` for any other table, whose `columns` are then named."""

    uris: list[str] = Field(min_length=1)
    """Files, folders, or patterns with `*`; for sbu as text, the file of the addresses first and
    then that of the captions."""

    columns: Columns | None = None
    """For format `columns`: where address and caption are."""

    header: bool = True
    """For format `columns`: whether the first line of a TSV or CSV file names the columns."""

    text_source: str | None = None
    """What the captions count as in `text_filter.sources`; None: alt for laion and datacomp, whose
    texts are alt texts as found, else caption."""

    @model_validator(mode="after")
    def _columns_belong_to_their_format(self) -> "TableSource":
        if (self.format == "columns") != (self.columns is not None):
            raise ValueError(
                "format columns needs the key columns, and the others must not have it"
            )
        return self


CaptionFormat = Literal["coco", "karpathy", "flickr30k", "visual-genome", "vqa", "gqa"]


class CaptionsSource(Recipe):
    """Captions, region phrases and questions that already lie on disk; the images in a folder."""

    kind: Literal["captions"]

    format: CaptionFormat = "coco"
    """Whose form the files have; docs/build-a-corpus.md shows each."""

    captions: str | None = None
    """coco: JSON with `images` and `annotations`; karpathy: JSON with splits; flickr30k: token
    file; visual-genome: image_data.json. vqa and gqa have none."""

    images: str
    """Folder that the file names start from."""

    regions: str | None = None
    """File of region phrases, kept with each sample; None: there are none."""

    questions: str | None = None
    """File of questions and answers, for gqa also a folder of them; None: there are none."""

    answers: str | None = None
    """VQA's annotations, which hold the answers to `questions`; None: they are in there."""

    splits: list[str] = []
    """karpathy: the splits that are taken, of train, restval, val, test; empty: all."""

    file_names: str | None = None
    """How images are called by their id, as `COCO_val2014_{id:012d}.jpg`; None: as published."""

    @model_validator(mode="after")
    def _files_fit_the_format(self) -> "CaptionsSource":
        if self.format in ("vqa", "gqa"):
            if self.questions is None or self.captions is not None:
                raise ValueError(f"format {self.format} needs the key questions, and no captions")
        elif self.captions is None:
            raise ValueError(f"format {self.format} needs the key captions")
        if self.format == "vqa" and self.answers is None:
            raise ValueError("format vqa needs the key answers, the file of its annotations")
        if self.splits and self.format != "karpathy":
            raise ValueError("only format karpathy has splits")
        if self.file_names is not None:
            _check_pattern(self.file_names)
        return self

    def file_name(self, image: int | str) -> str:
        """Return what `file_names` makes of an image id; ValueError where it makes nothing."""
        pattern = self.file_names or "{id}.jpg"
        values = (str(image), int(image)) if str(image).isdigit() else (str(image),)
        for value in values:  # the text first: ids of GQA may begin with zeros
            with contextlib.suppress(ValueError):
                return pattern.format(id=value)
        raise ValueError(f"{pattern!r} names no file for image {image!r}")


def _check_pattern(pattern: str) -> None:
    """Raise ValueError for a pattern of file names that does not name images apart."""
    try:
        same = pattern.format(id=1) == pattern.format(id=2)
    except (KeyError, IndexError, AttributeError, ValueError):
        same = True
    if same:
        raise ValueError(f"file_names {pattern!r}: write the image's id as {{id}} or {{id:012d}}")


Source = Annotated[
    WarcSource | WatSource | CrawlSource | TableSource | CaptionsSource,
    Field(discriminator="kind"),
]
