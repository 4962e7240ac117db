"""Regions of a build with and without the probabilities of all classes."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.reader import Corpus
from data_pipeline.steps.detect import loaded_detector
from tests.data_pipeline.builds import content, trawl_corpus
from trawl.demo.captions import write_captions
from trawl.errors import RequestError


def _built(folder: Path, name: str, *changes: str) -> Path:
    """Build a corpus of the captions of `folder`."""
    sources = {"captions": "captions.json", "images": "images", "regions": "regions.json"}
    sources |= {"questions": "questions.json"}
    every = [f"collect.source.{key}={folder / file}" for key, file in sources.items()]
    sets = [part for change in (*every, *changes) for part in ("--set", change)]
    trawl_corpus("build", "captions-demo", "--out", str(folder / name), *sets)
    return folder / name


@pytest.mark.slow
def test_a_build_keeps_class_probabilities_where_it_is_asked_to(tmp_path: Path) -> None:
    write_captions(tmp_path, 7, "train", 4, workers=1, captions_each=1)
    plain = _built(tmp_path, "plain")
    off = _built(tmp_path, "off", "regions.class_probabilities=false")
    assert content(plain) == content(off)
    without = Corpus(plain)
    corpus = Corpus(_built(tmp_path, "on", "regions.class_probabilities=true"))
    classes = 1 + len(corpus.manifest.detector.objects)
    for number in range(len(corpus)):
        regions, same = corpus.regions(number), without.regions(number)
        assert same.class_probs is None
        np.testing.assert_array_equal(regions.features, same.features)
        np.testing.assert_array_equal(regions.object_ids, same.object_ids)
        assert regions.class_probs is not None
        probabilities = regions.class_probs.astype(np.float32)  # [R, 1 + objects]
        assert probabilities.shape == (len(regions), classes)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=2e-3)
        rows = np.arange(len(regions))
        confidences = regions.object_conf.astype(np.float32)
        np.testing.assert_array_equal(probabilities[rows, regions.object_ids + 1], confidences)


def test_a_detector_without_class_probabilities_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"regions\.class_probabilities: torchvision has no"):
        loaded_detector("torchvision", str(tmp_path / "absent.pth"), True)
