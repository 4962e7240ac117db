"""The recipe of a corpus: what to collect, how to filter it, and how to pack it."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from data_pipeline.crawl.settings import DownloadSettings
from data_pipeline.plugged_in import fingerprints
from data_pipeline.sources import recipe as sources
from trawl import recipe as recipes
from trawl.recipe import Recipe

# What says where things lie and which machines do the work, and so changes no byte of the corpus.
PLACES = (
    "out",
    "compute",
    *(f"collect.source.{key}" for key in sources.PLACES),
    "download.connect_to",
    "regions.weights",
    "score.model",
)

_CLASSIFIER = ("labels", "threshold", "outputs")
# Keys that came after the first corpora: at their defaults they leave the hash as it was before.
LATER = (
    *(f"collect.source.{key}" for key in ("format", "splits", "file_names", "sitemaps")),
    *(f"regions.{key}" for key in ("class_probabilities", "number")),
    "text_filter.undivided_words",
    "image_filter.natural.model",
    *(f"image_filter.{kind}.{key}" for kind in ("unsafe", "watermark") for key in _CLASSIFIER),
    *("download.max_side", "download.http2"),
    "score.batch",
    "aggregate.decontaminate",
    *(f"text_filter.max_{key}" for key in ("placeholder", "list_parts", "capitals", "dates")),
    *(f"text_filter.{key}" for key in ("max_hits", "profanity", "personal_data", "hypernyms")),
)


def locate(recipe: str) -> str:
    """Return the file of `recipe`: a path or URI, or the name of one that ships."""
    return recipes.find(recipe, Path(__file__).parent / "recipes")


class Collect(Recipe):
    """Step 1: where candidates come from."""

    source: sources.Source

    languages: list[str] = ["en"]
    """Languages of pages and texts that are kept; empty: all."""

    respect_opt_out: bool = True
    """Drop candidates whose page or image says noai, noimageai or noimageindex."""

    min_dominance: float = Field(default=0.0, ge=0, le=1)
    """Drop candidates that stand out on their page by less than this share (0 to 1)."""

    partitions: int = Field(default=16, ge=1, le=65_536)
    """Groups by image address in which the later steps work; more for larger crawls."""


class Natural(Recipe):
    """Photographs or not, by a model on statistics of the pixels: logos, charts, text are not."""

    enabled: bool = True
    """Whether images that do not look natural are dropped."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Smallest probability (0 to 1) that an image is natural."""

    model: str = "builtin"
    """`builtin`, or a safetensors file that `trawl corpus train-natural` wrote."""


class Classifier(Recipe):
    """A classifier of images that is plugged in from a folder."""

    model: str | None = None
    """Folder of a transformers image classifier, or with an ONNX file; None: off."""

    labels: list[str] = []
    """Classes of the model that speak against an image; their probabilities are added up."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Smallest sum of these probabilities with which an image is dropped."""

    outputs: Literal["logits", "probabilities"] = "logits"
    """What the outputs of an ONNX model are."""


class ImageFilter(Recipe):
    """Step 2: which images are fit, by size, shape and looks."""

    min_side: int = Field(default=301, ge=1)
    """Smallest width and height in pixels: LAIT keeps more than 300 on each side."""

    max_aspect: float = Field(default=4.0, ge=1)
    """Largest ratio of the longer side to the shorter."""

    max_pixels: int = Field(default=50_000_000, ge=1)
    """Largest width times height; read from the header, before anything is decoded."""

    min_entropy: float = Field(default=1.5, ge=0)
    """Smallest entropy of the grey levels in bits (a photograph has 6 to 8)."""

    natural: Natural = Natural()
    unsafe: Classifier = Classifier()
    watermark: Classifier = Classifier()


class MaxHits(Recipe):
    """How many findings of a rule a text may have before it is dropped for it."""

    file_name: int = Field(default=0, ge=0)
    """File names."""

    spam: int = Field(default=0, ge=0)
    """Phrases of advertisement, and shouting."""

    price: int = Field(default=0, ge=0)
    """Prices."""

    boilerplate: int = Field(default=0, ge=0)
    """Phrases in which pages speak of themselves."""

    address: int = Field(default=0, ge=0)
    """Addresses of pages."""

    profanity: int = Field(default=0, ge=0)
    """Words of the list `text_filter.profanity`."""


class TextFilter(Recipe):
    """Step 3: which texts are sentences about an image."""

    enabled: bool = True
    """False takes texts as they are, but for repaired Unicode: for captions written by people."""

    min_words: int = Field(default=3, ge=1)
    """Fewest words in a text."""

    max_words: int = Field(default=60, ge=1)
    """Most words in a text; longer ones are cut into sentences first."""

    max_oov: float = Field(default=0.5, ge=0, le=1)
    """Largest share of words that do not look like words."""

    max_foreign: float = Field(default=0.7, ge=0, le=1)
    """Probability of a language not in `collect.languages` from which a text counts as foreign."""

    undivided_words: int = Field(default=0, ge=0)
    """Running text of at most this many words stays whole; what is longer is cut into sentences.

    0 cuts always. Captions of several short sentences say more together.
    """

    max_repetition: float = Field(default=0.5, ge=0, le=1)
    """Largest share of a text that its most frequent longer word may make up."""

    max_placeholder: float = Field(default=0.99, ge=0, le=1)
    """Largest share of words that say nothing, as in "click to enlarge image"."""

    max_list_parts: int = Field(default=4, ge=1)
    """Most parts between commas or bars in a text whose parts are a word or two: key words."""

    max_capitals: float = Field(default=1.0, ge=0, le=1)
    """Largest share of words that are written in capitals, in a text of at least four; 1 takes
    all, for books have their captions in capitals."""

    max_dates: float = Field(default=0.6, ge=0, le=1)
    """Largest share of words that are parts of dates, in a text that holds a date."""

    max_hits: MaxHits = MaxHits()

    profanity: str | None = "builtin"
    """Text file of words, one a line; `builtin`: a short mild list; None: no list."""

    personal_data: Literal["remove", "drop", "keep"] = "remove"
    """What happens to e-mail addresses, telephone numbers and web addresses: they are taken out
    of the text, or the text is dropped, or they stay."""

    hypernyms: str | None = None
    """Table of names and more general words, `PHRASE<TAB>HYPERNYM` a line, by which names and
    numbers are replaced as in Conceptual Captions; None: they stay."""

    sources: dict[str, float] = {
        "caption": 1.0,
        "figcaption": 1.0,
        "alt": 1.0,
        "aria": 0.9,
        "title": 0.8,
        "surrounding": 0.3,
        "heading": 0.3,
        "anchor": 0.2,
        "filename": 0.1,
    }
    """How far a text is trusted that nothing is known about, by where it was found (0 to 1)."""


class Score(Recipe):
    """Step 4: how well a text agrees with its image."""

    enabled: bool = True
    """False gives every text the score 1: for captions written by people."""

    model: str = "builtin"
    """`builtin` (the demo's world), `text`, a JSON file that `train-scorer` wrote, or the folder of
    a CLIP model of transformers or open_clip, whose cosine is the score.

    `text` judges each text by where it stands and what it shares with the other names of the
    picture, and looks at no image: for webs of things that the detector does not know.
    """

    batch: int = Field(default=32, ge=1)
    """Images, or texts, in one batch of a CLIP model."""

    threshold: float = Field(default=0.2, ge=0, le=1)
    """Smallest score of a pair that is kept."""


class Aggregate(Recipe):
    """Step 5: which pairs stand for many like them."""

    enabled: bool = True
    """False only joins samples of identical bytes: for caption sets."""

    near_duplicate_bits: int = Field(default=6, ge=0, le=12)
    """Images whose 64-bit perceptual hashes differ in at most this many bits are one."""

    max_images_per_text: int = Field(default=10, ge=1)
    """A text that stands with more images than this is dropped everywhere."""

    decontaminate: list[str] = []
    """Files with hashes of evaluation sets, SHA-256 or 64-bit perceptual in hex, one a line: images
    that are or look like one of them are dropped."""


class RegionSettings(Recipe):
    """How regions are detected and stored."""

    detector: str = "demo"
    """Name of the detector: demo, butd, butd-d2, vinvl, torchvision or detectron2."""

    weights: str = "builtin"
    """`builtin`, or a weights file of the detector."""

    selection: str = "butd-10-100"
    """Which of the detections become regions."""

    features: Literal["float16", "int8"] = "float16"
    """How features are stored; int8 with a scale per region takes half the space."""

    class_probabilities: bool = False
    """Keep each region's probabilities of all classes, the background first, as `class_probs`.

    demo, butd, butd-d2 and vinvl have them; the objective moc-kl needs them.
    """

    number: Literal["float32", "bfloat16"] = "float32"
    """Type of the convolutions of butd, butd-d2 and vinvl; with `compute.gpus` they run there."""

    batch: int = Field(default=4, ge=1)
    """Images in one batch of the detector."""

    unit: int = Field(default=96, ge=1)
    """Images in one unit of work."""


class Shards(Recipe):
    """How samples are packed."""

    samples: int = Field(default=1000, ge=1)
    """Samples in a shard."""

    image: Literal["original", "none"] = "original"
    """Whether the image's bytes go into the shard."""


class Compute(Recipe):
    """Which machines do the work; changes no byte of the corpus."""

    ray_address: str | None = None
    """Address of a running Ray cluster; None starts Ray on this machine."""

    cpus: int | None = Field(default=None, ge=1)
    """Processes on this machine; None: as many as it has cores."""

    gpus: int = Field(default=0, ge=0)
    """GPUs that detection, CLIP models and plugged-in classifiers may use."""

    attempts: int = Field(default=3, ge=1)
    """How often a unit of work is tried before the build stops."""

    keep_work: bool = True
    """Keep images and tables in `work/` when the corpus is whole, for `retry` and `select`."""

    bucket_pairs: int = Field(default=20_000, ge=1)
    """Pairs in a bucket of the steps that see the whole corpus: the memory of a worker, 1 to 3 KB
    a pair. A build goes on only with the number that it began with."""


class CorpusRecipe(Recipe):
    """A corpus, from its sources to its shards."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the corpus, as it stands in the manifest."""

    out: str | None = None
    """Folder or s3:// address of the corpus; `--out` replaces it."""

    collect: Collect
    download: DownloadSettings = DownloadSettings()
    image_filter: ImageFilter = ImageFilter()
    text_filter: TextFilter = TextFilter()
    score: Score = Score()
    aggregate: Aggregate = Aggregate()
    regions: RegionSettings = RegionSettings()
    shards: Shards = Shards()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _caption_sets_are_taken_as_they_are(cls, content: Any) -> Any:
        """Switch the steps off that judge web texts and looks, where the source is a caption set.

        A recipe that names the key `enabled` of a step is obeyed.
        """
        source = (content.get("collect") or {}).get("source") if isinstance(content, dict) else None
        if not isinstance(source, dict) or source.get("kind") != "captions":
            return content
        changed = {**content}
        for step in ("text_filter", "score", "aggregate"):
            changed[step] = {"enabled": False, **(content.get(step) or {})}
        images = content.get("image_filter") or {}
        changed["image_filter"] = {
            **images,
            "natural": {"enabled": False, **(images.get("natural") or {})},
        }
        return changed

    @model_validator(mode="after")
    def _warc_images_need_warc_pages(self) -> "CorpusRecipe":
        if self.download.source == "warc" and self.collect.source.kind in ("crawl", "wat", "table"):
            raise ValueError("download.source warc needs collect.source.kind warc")
        return self

    def digest(self) -> str:
        """Return the hash of all that shapes the corpus: not where things lie, nor the machines."""
        places = [key for key in PLACES if key != "score.model" or self.score.model != "text"]
        exclude = (*places, *recipes.at_defaults(self, LATER))
        return recipes.digest(self, exclude, fingerprints(self))
