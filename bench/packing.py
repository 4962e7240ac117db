"""A training step of Oscar, packed against padded to the longest sample, in CPU seconds.

    python bench/packing.py [--layers 2] [--samples 64]

The layers are as wide as BERT-base's. Lengths are drawn as detectors and captions give them: 10 to
50 regions (the published range is 10 to 100, cut at 50), 8 to 35 tokens. Both forms read the same
samples in the same run, in turn, and must have the same loss.
"""

import argparse
import time

import numpy as np
import torch

from pretrain.models.families import family


def batches(samples: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the same samples padded and packed."""
    draw = np.random.default_rng(0)
    text = draw.integers(8, 36, samples)
    regions = np.minimum(draw.integers(10, 101, samples), 50)
    ids = [torch.from_numpy(draw.integers(5, 30000, count)) for count in text]
    vectors = [torch.randn(count, 2054) for count in regions]
    columns = [torch.arange(count) for count in (text.max(), regions.max())]
    masks = [
        column[None] < torch.from_numpy(counts)[:, None]
        for column, counts in zip(columns, (text, regions), strict=True)
    ]
    padded = {
        "input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),
        "img_feats": torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True),
        "attention_mask": torch.cat(masks, dim=1).long(),
    }
    packed = {
        "input_ids": torch.cat(ids)[None],
        "img_feats": torch.cat(vectors)[None],
        "row_lengths": torch.from_numpy(np.stack([text, regions])),
    }
    return padded, packed


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Return the CPU seconds of a pass forward and back, and the loss."""
    model.zero_grad()
    began = time.process_time()
    loss = model(**batch).pooler_output.square().mean()
    loss.backward()
    return time.process_time() - began, float(loss.detach())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--samples", type=int, default=64)
    asked = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind = family("oscar")
    config = kind.configuration.of_size(
        "base",
        num_hidden_layers=asked.layers,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = kind.network(config)
    forms = dict(zip(("padded", "packed"), batches(asked.samples), strict=True))
    seconds, losses = {}, {}
    for _ in range(3):
        for name, batch in forms.items():
            spent, losses[name] = step(model, batch)
            seconds[name] = min(spent, seconds.get(name, spent))
    real = int(forms["packed"]["row_lengths"].sum())
    places = forms["padded"]["attention_mask"].numel()
    print(f"tokens and regions: {real} of {places} padded places, {places / real:.2f} times")
    for name, spent in seconds.items():
        rate = asked.samples / spent
        print(f"{name}: {spent:.2f} CPU s, {rate:.1f} samples/s, loss {losses[name]:.7f}")
    print(f"packed is {seconds['padded'] / seconds['packed']:.2f} times as fast")


if __name__ == "__main__":
    main()
