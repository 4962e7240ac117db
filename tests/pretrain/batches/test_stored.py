"""Features cross as they are stored, and are on the device what the host would have made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.row_places import RowPlaces
from pretrain.batches.stored import FeatureForm, StoredRegions, assembled, tensors
from tests.data_pipeline.corpus.samples import write_corpus


def _corpora(folder: Path, forms: Sequence[str]) -> list[Corpus]:
    for form in forms:
        write_corpus(str(folder / form), (8,), form)
    return [Corpus(folder / form) for form in forms]


@pytest.mark.parametrize("width", [4, None])
@pytest.mark.parametrize("forms", [("float16",), ("int8",), ("float16", "int8")])
def test_assembled_features_are_those_of_the_host(
    tmp_path: Path, forms: tuple[str, ...], width: int | None
) -> None:
    corpora = _corpora(tmp_path, forms)
    samples = [sample for corpus in corpora for sample in corpus]
    counts = [min(4, sample.region_count) for sample in samples]
    places = RowPlaces.of(counts, width)
    stored = StoredRegions(FeatureForm(corpora), samples, places)
    batch = tensors(stored.arrays("features"))
    whole = {("float16",): torch.float16, ("int8",): torch.int8}
    assert batch["features"].dtype == whole.get(forms, torch.float32)
    found = assembled(batch)["features"].flatten(0, 1).numpy()
    for number, (sample, count) in enumerate(zip(samples, counts, strict=True)):
        own = stored.row(number)
        expected = sample.regions.float_features()[:count]
        np.testing.assert_array_equal(found[own], expected)
        np.testing.assert_array_equal(stored.values(own), expected)
        assert not found[own.stop : int(places.ends[number])].any()
    sizes = [sample.meta for sample in samples]
    where = stored.locations(sizes, 4).reshape(-1, 4)
    one = next(n for n, count in enumerate(counts) if count)
    boxes = samples[one].regions.boxes[: counts[one]] / np.float32([640, 480, 640, 480])
    np.testing.assert_array_equal(where[stored.row(one)], boxes)


def test_companions_go_into_their_features() -> None:
    features = torch.arange(12, dtype=torch.int8).reshape(1, 3, 4)
    scales = torch.tensor([[0.5, 1.0, 0.0999]], dtype=torch.float16)
    behind, before = torch.full((1, 3, 1), 9.0), torch.full((1, 1, 5), 7.0)
    batch = {"f.behind": behind, "f": features, "f.scales": scales, "f.before": before}
    found = assembled({**batch, "other": torch.ones(2)})
    assert set(found) == {"f", "other"}
    expected = features.float() * scales.float()[..., None]
    assert torch.equal(found["f"][:, 1:, :4], expected)
    assert torch.equal(found["f"][:, 1:, 4:], behind)
    assert torch.equal(found["f"][:, :1], before)
