"""A training step of each family on a CPU: ours, and a plain padded one of the same model.

    python bench/train.py [--families oscar xvlm] [--sizes tiny base] [--rounds 2] [--threads 1]

Ours is the trainer's: rows packed, heads at masked places alone, the recipe's AdamW. The plain step
is what a script in the style of Hugging Face's does, and what the scripts of all five families do:
texts and regions padded to the model's `max_seq_length` and `max_regions`; all heads, and the last
layer, at all positions; losses that ignore what is not masked; torch's AdamW as it comes. The same
padded to the longest of the batch is measured beside it. All take the same weights (the rate is 0),
samples and masks in turn, without dropout, and must give the same loss to 1e-5.

A step is forward pass, losses, backward pass and optimizer; batches are made before it, and
DeepSpeed is left out of all of them. CPU seconds are of all threads, the least of the rounds; they
hold on a busy machine, wall seconds do not. Tokens are tokens, regions and patches that are real.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from step.plain import Batch, dense, plain_loss
from step.samples import LXMERT_CAPTIONS, WORDS, write
from torch import Tensor, nn
from transformers import BertTokenizer

from data_pipeline.corpus.reader import Corpus
from pretrain import objectives, optimizers
from pretrain.batches.stored import assembled
from pretrain.batches.tokenise import SPECIAL_TOKENS
from pretrain.models.families import family
from pretrain.recipe import OptimizerRecipe

# X-VLM learns from batches of images and, one time in three, of regions.
REGION_SHARE = 1 / 3


@dataclass(frozen=True)
class Setting:
    """What a family learns here, by its published recipe, and where its model departs from it."""

    name: str
    objectives: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    captions: float = 1.0
    """The share of captions among its texts; the others are as short as questions."""


LXMERT = ("mlm", "itm", "moc-confidence", "attributes", "mrfr-smooth-l1")
# Images of fewer than 36 regions, which the released code cannot read.
LXMERT_CHANGES = {"region_count": "sound", "answer_head": False, "questions": False}
SETTINGS = {
    "oscar": Setting("oscar", ("mlm", "contrast")),
    "imagebert": Setting("imagebert", ("mlm", "moc", "mrfr", "itm")),
    "vilbert": Setting(
        "vilbert",
        ("mlm", "moc-kl", "itm"),
        {
            "v_hidden_dropout_prob": 0.0,
            "v_attention_probs_dropout_prob": 0.0,
            "fusion_dropout_prob": 0.0,
        },
    ),
    "lxmert": Setting("lxmert", LXMERT, LXMERT_CHANGES, LXMERT_CAPTIONS),
    "lxmert, captions": Setting("lxmert", LXMERT, LXMERT_CHANGES),
    "xvlm, images": Setting(
        "xvlm",
        ("itc", "itm-hard", "mlm", "bbox"),
        {"region_share": 0.0, "drop_path_rate": 0.0},
    ),
    "xvlm, regions": Setting(
        "xvlm",
        ("itc", "itm-hard", "mlm", "bbox"),
        {"region_share": 1.0, "drop_path_rate": 0.0},
    ),
}
SAMPLES = {"tiny": {"xvlm": 32}, "base": {"xvlm": 8}}
USUAL_SAMPLES = {"tiny": 64, "base": 16}
SIZES = list(USUAL_SAMPLES)


class Model:
    """One family's model, its samples in three layouts, and the steps to compare."""

    def __init__(self, corpus: Corpus, setting: Setting, size: str, samples: int) -> None:
        kind = family(setting.name)
        plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.config = kind.configuration.of_size(size, **plain, **setting.changes)
        torch.manual_seed(0)
        self.network: Any = kind.pretraining(self.config)
        self.weights = dict.fromkeys(setting.objectives, 1.0)
        words = [*SPECIAL_TOKENS, *WORDS]
        tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
        places = [(0, number, 0, number) for number in range(samples)]

        def made(**layout: bool) -> Batch:
            maker = kind.batches([corpus], tokenizer, self.config, self.weights, 0, "s", **layout)
            return assembled(maker.make_stored(places))

        self.packed = made(packed=True)
        self.padded = {"max": made(as_published=True), "longest": made()}
        self.dense = {name: dense(batch, setting.name) for name, batch in self.padded.items()}

    def ours(self) -> Tensor:
        """Return the loss as the trainer computes it."""
        outputs = self.network(**self.packed)
        return objectives.compute(outputs, self.packed, self.weights)[0]

    def plain(self, layout: str) -> Tensor:
        """Return the loss with all heads at all positions of padded rows."""
        return plain_loss(self.network, *self.dense[layout], self.weights)

    def tokens(self) -> int:
        """Return the real tokens, regions and patches of the samples."""
        rows = int(self.packed["row_lengths"].sum())
        if "pixel_values" in self.packed:
            rows += len(self.packed["pixel_values"]) * self.config.patch_grid**2
        return rows

    def places(self, layout: str) -> int:
        """Return the tokens, regions and patches of the padded samples, padding included."""
        batch, rows = self.padded[layout], 0
        for name in ("input_ids", "img_feats", "features", "visual_feats"):
            if name in batch:
                rows += batch[name].shape[0] * batch[name].shape[1]
        if "pixel_values" in batch:
            rows += len(batch["pixel_values"]) * self.config.patch_grid**2
        return rows


@dataclass
class Spent:
    """The least seconds of a step: CPU of forward and backward pass, of the optimizer, and wall."""

    passes: float = float("inf")
    optimizer: float = float("inf")
    wall: float = float("inf")
    loss: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds of the whole step."""
        return self.passes + self.optimizer

    def mixed(self, other: "Spent", share: float) -> "Spent":
        """Return a step that is `other` in `share` of the cases."""
        parts = ("passes", "optimizer", "wall")
        return Spent(
            *((1 - share) * getattr(self, part) + share * getattr(other, part) for part in parts)
        )


def step(loss: Callable[[], Tensor], network: nn.Module, optimizer: Any, spent: Spent) -> None:
    """Take one step and keep its times where they are the least so far."""
    network.zero_grad()
    began, wall = time.process_time(), time.monotonic()
    value = loss()
    value.backward()
    passed = time.process_time()
    optimizer.step()
    ended = time.process_time()
    spent.wall = min(spent.wall, time.monotonic() - wall)
    spent.passes = min(spent.passes, passed - began)
    spent.optimizer = min(spent.optimizer, ended - passed)
    spent.loss = float(value.detach())


def measured(model: Model, rounds: int) -> dict[str, Spent]:
    """Return what each form of a step takes; AssertionError where their losses differ."""
    ours = optimizers.build(model.network, OptimizerRecipe())
    plain = torch.optim.AdamW(model.network.parameters(), lr=1e-4, weight_decay=0.01)
    for group in (*ours.param_groups, *plain.param_groups):
        group["lr"] = 0.0
    spent = {name: Spent() for name in ("ours", "max", "longest")}
    for _ in range(rounds):
        step(model.ours, model.network, ours, spent["ours"])
        for layout in ("max", "longest"):
            step(partial(model.plain, layout), model.network, plain, spent[layout])
        for layout in ("max", "longest"):
            difference = abs(spent[layout].loss / spent["ours"].loss - 1)
            assert difference <= 1e-5, f"the losses differ by {difference:.1e}"
    return spent


def show(name: str, size: str, samples: float, tokens: float, spent: dict[str, Spent]) -> None:
    ours, most, longest = spent["ours"], spent["max"], spent["longest"]
    print(
        f"{name:16} {size:5} {samples / ours.cpu:10.2f} {tokens / ours.cpu:10.0f} "
        f"{samples / most.cpu:10.2f} {most.cpu / ours.cpu:7.2f} {most.wall / ours.wall:6.2f} "
        f"{most.passes / ours.passes:8.2f} {longest.cpu / ours.cpu:8.2f}",
        flush=True,
    )


def compare(corpora: Mapping[float, Corpus], names: list[str], size: str, rounds: int) -> None:
    """Measure the families `names` of one size, and print a line for each."""
    pieces = {}
    for name, setting in SETTINGS.items():
        if setting.name not in names:
            continue
        count = SAMPLES[size].get(setting.name, USUAL_SAMPLES[size])
        model = Model(corpora[setting.captions], setting, size, count)
        spent, tokens = measured(model, rounds), model.tokens()
        show(name, size, count, tokens, spent)
        print(
            f"    {count} samples, {tokens} tokens in {model.places('max')} places "
            f"({model.places('longest')} padded to the longest); losses "
            + ", ".join(f"{key} {value.loss:.6f}" for key, value in spent.items())
            + f"; optimizer {spent['ours'].optimizer:.3f} of {spent['ours'].cpu:.3f} CPU s, plain "
            f"{spent['max'].optimizer:.3f} of {spent['max'].cpu:.3f}",
            flush=True,
        )
        pieces[name] = (count, tokens, spent)
    if "xvlm" in names:
        (count, some, images), (_, other, regions) = (
            pieces[f"xvlm, {kind}"] for kind in ("images", "regions")
        )
        tokens = (1 - REGION_SHARE) * some + REGION_SHARE * other
        both = {key: images[key].mixed(regions[key], REGION_SHARE) for key in images}
        show("xvlm", size, count, tokens, both)


def main() -> None:
    families = list(dict.fromkeys(setting.name for setting in SETTINGS.values()))
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--families", nargs="+", choices=families, default=families)
    options.add_argument(
        "--sizes", nargs="+", choices=list(USUAL_SAMPLES), default=["tiny", "base"]
    )
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--threads", type=int, default=1)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    print(
        f"{'family':16} {'size':5} {'samples/s':>10} {'tokens/s':>10} {'plain':>10} {'ratio':>7} "
        f"{'wall':>6} {'passes':>8} {'longest':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        corpora = {
            share: write(Path(folder) / str(share), max(USUAL_SAMPLES.values()), share)
            for share in {setting.captions for setting in SETTINGS.values()}
        }
        for size in asked.sizes:
            compare(corpora, asked.families, size, asked.rounds)


if __name__ == "__main__":
    main()
