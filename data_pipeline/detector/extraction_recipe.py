"""What an extraction is asked to do; written beside its corpus as `recipe.yaml`."""

from typing import Literal

from pydantic import Field, field_validator

from data_pipeline.detector import kernels as detector_kernels
from trawl.errors import RequestError
from trawl.recipe import Recipe

# Keys that say where things lie and what computes; they change no byte of the corpus.
PLACES = (
    "source",
    "weights",
    "boxes_from",
    "device",
    "compiled",
    "chunks",
    "kernels",
    "workers",
    "ray_address",
)

_DEFAULT_RULES = {"butd-d2": "frcnn-36"}
_GIVEN = "given-boxes"


class ExtractRecipe(Recipe):
    """Regions for the images of a corpus or of a folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the corpus to be made."""

    source: str
    """Corpus with images, or folder of images."""

    detector: str = "demo"
    """demo, butd, butd-d2, vinvl, torchvision or detectron2."""

    weights: str = "builtin"
    """Weights file of the detector."""

    random_weights: int | None = Field(default=None, ge=0)
    """Seed of random weights in place of a file."""

    selection: str | None = None
    """Rule by which regions are chosen; None: the detector's usual one, vinvl has none."""

    boxes_from: str | None = None
    """TSV whose boxes are taken in place of detected ones."""

    features: Literal["float16", "int8"] = "float16"
    """Form of the features in the shards."""

    batch: int = Field(default=8, ge=1)
    """Images that go to the detector together."""

    samples: int = Field(default=1000, ge=1)
    """Images to a shard, for a folder; a corpus keeps its own shards."""

    max_pixels: int = Field(default=50_000_000, ge=1)
    """Pixels that an image may have."""

    device: str = "cpu"
    """cpu, cuda or cuda:N."""

    number: Literal["float32", "bfloat16"] = "float32"
    """Type of the convolutions."""

    compiled: bool = False
    """Whether torch.compile prepares backbone and res5."""

    chunks: tuple[int, ...] = (300, 100, 36)
    """Numbers of regions that res5 is compiled for, falling; others are filled up to them."""

    kernels: dict[str, str] = {}
    """Implementations to take in place of the first that runs on the GPU, by operation, as in
    {roi_pool: cuda-c++}: see `trawl doctor`."""

    workers: int = Field(default=0, ge=0)
    """Ray actors that work on shards; 0: this process alone."""

    ray_address: str | None = None
    """Running Ray cluster for the actors; None starts Ray on this machine."""

    @field_validator("kernels")
    @classmethod
    def _known(cls, kernels: dict[str, str]) -> dict[str, str]:
        detector_kernels.check(kernels)
        return kernels

    def rule(self) -> str:
        """Return the name of the selection; RequestError where it has to be chosen."""
        if self.boxes_from is not None:
            return _GIVEN
        if self.selection is None and self.detector == "vinvl":
            raise RequestError(
                "--selection: VinVL was published with several; choose vinvl-filter1 or "
                "vinvl-filter2, or vinvl-filter0 for every pair of box and class"
            )
        return self.selection or _DEFAULT_RULES.get(self.detector, "butd-10-100")
