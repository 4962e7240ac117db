"""The recipe of a pretraining: model, stages, checkpoints and publication."""

import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_pipeline.corpus.reading import DEFAULT_BYTES, Reading
from pretrain.guard_recipe import GuardRecipe
from pretrain.kernels import selection
from pretrain.watch_recipe import WatchRecipe
from trawl.recipe import Recipe, find

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def locate(recipe: str) -> str:
    """Return the file of `recipe`: a path or URI, or the name of one that ships."""
    return find(recipe, Path(__file__).parent / "recipes")


class ModelInit(Recipe):
    """Where the weights of the first stage come from; nothing given: drawn from the seed."""

    published: str | None = None
    """A published stage: local folder or s3:// URI."""
    bert: str | None = None
    """A BERT folder of plain transformers, whose text weights are taken over."""


class ModelRecipe(Recipe):
    """What is trained."""

    family: str = "oscar"
    """The model family: oscar."""
    size: str = "base"
    """A size that the family knows: tiny or base."""
    init: ModelInit = ModelInit()
    """Where the first stage's weights come from."""
    config: dict[str, Any] = {}
    """Single values of the family's configuration that differ from the size's."""


class TokenizerRecipe(Recipe):
    """The tokenizer: a given one, or a WordPiece learned from the captions of the corpora."""

    path: str | None = None
    """Folder of a saved tokenizer; nothing: learn one."""
    vocabulary: int = Field(default=4000, ge=64)
    """Entries of a learned tokenizer."""
    samples: int = Field(default=20000, ge=1)
    """Samples of each corpus whose captions a learned tokenizer sees."""


class DataRecipe(Recipe):
    """One corpus of a mixture."""

    corpus: str
    """The corpus: local folder or s3:// URI."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of the samples, relative to the other weights of the stage."""


class StageInit(Recipe):
    """Where a stage's weights come from; exactly one key, besides `format`."""

    stage: str | None = None
    """An earlier stage of this recipe."""
    published: str | None = None
    """A published stage: local folder or s3:// URI."""
    scratch: bool = False
    """Draw new weights from the seed."""
    original: str | None = None
    """A checkpoint of an original repository: its file or folder. It is imported first."""
    format: str | None = None
    """The format of `original`, as in `trawl checkpoint import`: oscar, lxmert, and so on."""
    bert: str | None = None
    """A BERT folder of plain transformers, whose text weights are taken over."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        sources = (self.stage, self.published, self.original, self.bert, self.scratch or None)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give exactly one of stage, published, original, bert and scratch")
        if (self.original is None) != (self.format is None):
            raise ValueError("original and format go together; give both or neither")
        return self


class BatchRecipe(Recipe):
    """How many samples make a step, and how many pass through the model at once."""

    samples: int = Field(ge=1)
    """Samples of one optimizer step, over all ranks."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Samples in one pass of one rank; nothing: samples / ranks. Given, the numbers of a step do
    not depend on the count of ranks."""
    tokens_per_micro_batch: int | None = Field(default=None, ge=1)
    """Tokens and regions of one pass; sets micro_batch. Padded, it is an upper bound, from the
    longest sample; packed, what fewer than one pass in a hundred goes beyond."""
    packing: Literal["padded", "packed"] = "padded"
    """Whether samples are padded to the longest of a pass, or lie end to end without padding: the
    same numbers for less arithmetic. Of xvlm, the texts."""
    balance: int = Field(default=1, ge=1)
    """Micro-batches of a step among which their samples are dealt so that each has about as many
    tokens, and no rank waits for another; 1: samples stay in order. Not xvlm."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.micro_batch is not None and self.tokens_per_micro_batch is not None:
            raise ValueError("give micro_batch or tokens_per_micro_batch, not both")
        return self


class RateScale(Recipe):
    """Parameters that learn faster or slower than the rest."""

    match: str
    """Regular expression that is searched for in the parameter's name."""
    scale: float = Field(ge=0)
    """What their learning rate is multiplied by."""

    @field_validator("match")
    @classmethod
    def _compiles(cls, match: str) -> str:
        try:
            re.compile(match)
        except re.error as error:
            raise ValueError(f"{match} is no regular expression: {error}") from error
        return match


class OptimizerRecipe(Recipe):
    """The optimizer and its schedule."""

    name: Literal["adamw", "hf-adamw", "bert-adam"] = "adamw"
    """The optimizer: torch's AdamW; that of earlier transformers (Oscar, X-VLM, ViLBERT-MT); or
    BERT's Adam without bias correction (LXMERT, ViLBERT)."""
    lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of the parameters that `decay_groups` picks."""
    decay_groups: Literal["sound", "oscar", "xvlm", "lxmert", "vilbert-beta", "vilbert-mt"] = (
        "sound"
    )
    """What decays. sound: all but biases and normalisation gains; else as the family's release:
    lxmert everything, vilbert-beta biases and gains alone (its bug), oscar, xvlm and vilbert-mt by
    parts of the names."""
    rate_scales: list[RateScale] = []
    """Parameters with a rate of their own; the first entry that matches a name counts."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear rise from zero to `lr`."""
    decay: Literal["linear", "linear-from-zero", "triangle", "constant", "multistep"] = "linear"
    """The schedule: a linear fall to zero after the rise (linear), the same with a first rate of
    zero as in transformers (linear-from-zero) or in BERT's Adam (triangle), no fall (constant), or
    a factor `gamma` at each of `milestones` (multistep)."""
    milestones: list[int] = []
    """Steps of a multistep schedule at which the rate falls, in order."""
    gamma: float = Field(default=0.1, gt=0)
    """What a multistep schedule multiplies the rate by at a milestone."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two moments."""
    eps: float = Field(default=1e-8, gt=0)
    """Adam's epsilon; BERT's Adam was published with 1e-6."""
    clip: float = Field(default=1.0, ge=0)
    """Largest global norm of the gradient; 0: no clipping."""
    clip_each: float = Field(default=0.0, ge=0)
    """Largest norm of each parameter's gradient, for bert-adam under ZeRO stage 0, as ViLBERT was
    published with 1.0; 0: no clipping."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.clip_each > 0 and self.name != "bert-adam":
            raise ValueError(f"clip_each is for bert-adam, not {self.name}; use clip")
        if bool(self.milestones) != (self.decay == "multistep"):
            raise ValueError("milestones and decay multistep go together; give both or neither")
        if self.milestones != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise ValueError("milestones are steps from 1 on, each greater than the one before")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} are not from 0 to below 1")
        return self


class StageRecipe(Recipe):
    """One leg of pretraining."""

    name: str = Field(pattern=_NAME)
    """The stage's name; it names folders."""
    init: StageInit | None = None
    """Where the weights come from; nothing: `model.init` for the first stage, the stage before for
    the others."""
    data: list[DataRecipe] = Field(min_length=1)
    """The mixture of corpora."""
    shuffle_shards: int | None = Field(default=None, ge=1)
    """Shards of a corpus whose samples are shuffled together, one such window after another, for
    corpora in an object store that are larger than the cache; nothing: each corpus as a whole."""
    objectives: dict[str, float] = Field(min_length=1)
    """Weight of each objective's loss."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    batch: BatchRecipe
    """The batch."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """The optimizer and its schedule."""
    deepspeed: str = "zero1"
    """A preset of `deepspeed_configs/` (zero0 to zero3, some with -offload or -bf16) or the path of
    a JSON file."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of weights and activations."""
    activation_checkpointing: bool = False
    """Keep the inputs of each layer alone and compute the rest anew in the backward pass: the same
    numbers in much less memory, for about a third more arithmetic."""
    compile: bool = False
    """Compile each layer with torch.compile; ZeRO 0 to 2."""
    dropout: Literal["drawn", "counted"] = "drawn"
    """Whether masks are drawn one after another, of one micro-batch the same each time, or are a
    function of sample and token: then also the same padded, packed, dealt among micro-batches, and
    in the fused kernels. Not xvlm."""
    kernels: dict[str, str] = {}
    """Implementations to take in place of the first that runs on the machine, by operation, as in
    {packed_attention: plain}: see `trawl doctor`."""

    @field_validator("kernels")
    @classmethod
    def _known(cls, kernels: dict[str, str]) -> dict[str, str]:
        selection.check(kernels)
        return kernels


class FeedingRecipe(Recipe):
    """How the corpora are read; but for `bad_shards` nothing here changes a number of the run."""

    cache: str | None = None
    """Local folder for copies of shards in an object store; nothing: `$TRAWL_CACHE`, else
    ~/.cache/trawl. All ranks of a machine share it."""
    cache_bytes: int = Field(default=DEFAULT_BYTES, ge=1)
    """Most that the copies take together; the least recently used go first."""
    check: Literal["never", "fetched", "always"] = "fetched"
    """When a shard's SHA-256 is compared with the manifest's: as it is fetched; also whenever a
    process opens a local one (always); never."""
    bad_shards: Literal["fail", "skip"] = "fail"
    """What a shard means that is missing or not as the manifest says: the end of the run, or that
    its samples are replaced by others, the same ones on any number of ranks, and counted."""
    read_ahead_samples: int = Field(default=65536, ge=0)
    """How far before their use shards of an object store are fetched, in samples of the stage."""
    fetches: int = Field(default=4, ge=1)
    """Shards that each rank fetches at the same time."""
    workers: int = Field(default=0, ge=0)
    """Processes of each rank that make batches; 0: a thread of the rank itself."""

    def reading(self) -> Reading:
        """Return the same for a `Corpus`."""
        folder = None if self.cache is None else Path(self.cache)
        return Reading(folder, self.cache_bytes, self.check, self.bad_shards)


class CheckpointRecipe(Recipe):
    """Where the run lies and how often it saves."""

    uri: str
    """The run's folder: local or s3:// URI."""
    every_steps: int = Field(default=1000, ge=1)
    """Steps between two checkpoints; the last step of a stage always makes one."""
    keep_last: int = Field(default=3, ge=1)
    """Checkpoints kept of a stage, the newest ones."""
    keep_every: int | None = Field(default=None, ge=1)
    """Checkpoints after a multiple of this many steps are kept too; nothing: none of them."""
    grace_seconds: float = Field(default=600.0, gt=0)
    """Time from SIGTERM to the kill by whoever sent it. A run that cannot save within it ends in
    time all the same, with the checkpoint before."""


class PublishRecipe(Recipe):
    """Where finished stages are copied to, besides the run's own folder."""

    uri: str | None = None
    """Folder of releases, local or s3://; each stage becomes a folder of its name in it."""
    licence: str = "unknown"
    """Licence of the released weights, for the model card."""
    notes: str = ""
    """A paragraph for the model card."""


class EvaluationRecipe(Recipe):
    """What is evaluated after each stage, before it is published."""

    corpus: str | None = None
    """Held-out corpus of the retrieval task; nothing: no evaluation."""
    count: int = Field(default=200, ge=2)
    """Images, and as many texts, of the retrieval task."""


class PretrainRecipe(Recipe):
    """A pretraining in stages."""

    name: str = Field(pattern=_NAME)
    """Name of the model that comes out."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn."""
    model: ModelRecipe = ModelRecipe()
    """What is trained."""
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    """The tokenizer, the same for all stages."""
    stages: list[StageRecipe] = Field(min_length=1)
    """The stages, in order."""
    feeding: FeedingRecipe = FeedingRecipe()
    """How the corpora are read."""
    checkpoint: CheckpointRecipe
    """Where the run lies and how often it saves."""
    guards: GuardRecipe = GuardRecipe()
    """What is done about steps that are not finite or a spike, and about ranks that hang."""
    watch: WatchRecipe = WatchRecipe()
    """How the run is watched."""
    publish: PublishRecipe = PublishRecipe()
    """Where finished stages are copied to."""
    evaluation: EvaluationRecipe = EvaluationRecipe()
    """What is evaluated after each stage."""

    @field_validator("stages")
    @classmethod
    def _stages(cls, stages: list[StageRecipe]) -> list[StageRecipe]:
        seen: set[str] = set()
        for stage in stages:
            if stage.name in seen:
                raise ValueError(f"two stages are called {stage.name}; rename one")
            if stage.init and stage.init.stage is not None and stage.init.stage not in seen:
                raise ValueError(
                    f"stage {stage.name} starts from {stage.init.stage}, which is no earlier stage"
                )
            seen.add(stage.name)
        return stages

    def stage(self, name: str) -> StageRecipe:
        """Return the stage called `name`; KeyError if there is none."""
        return next(stage for stage in self.stages if stage.name == name)

    def parent_stage(self, stage: StageRecipe) -> str | None:
        """Return the name of the earlier stage that `stage` starts from, if it starts from one."""
        if stage.init is not None:
            return stage.init.stage
        index = self.stages.index(stage)
        return self.stages[index - 1].name if index else None

    def publish_uri(self, stage: StageRecipe) -> str | None:
        """Return where the release of `stage` is copied to, if anywhere."""
        if self.publish.uri is None:
            return None
        return self.publish.uri.rstrip("/") + "/" + PurePosixPath(stage.name).name
