"""Retrieval: the metric by hand, and the fast score matrix against the plain one."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.oscar import OscarForPreTraining
from pretrain.models.oscar_config import OscarConfig
from pretrain.objectives import tag_contrast
from pretrain.tasks.pair_scores import score_matrix, scores_by_pairs
from pretrain.tasks.retrieval import evaluate_retrieval, ranks, recalls
from tests.pretrain import tiny_corpus
from trawl.errors import RequestError

COUNT = 12


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tiny_corpus.write(tmp_path_factory.mktemp("corpus"), "retrieval", COUNT))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    return train_tokenizer(texts(corpus) * 2, 200)


def texts(corpus: Corpus) -> list[str]:
    return [corpus[number].meta["captions"][0]["text"] for number in range(len(corpus))]


def model(tokenizer: PreTrainedTokenizerBase, **changes: object) -> OscarForPreTraining:
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(tokenizer),
        "img_feature_dim": tiny_corpus.FEATURES + 6,
        "max_seq_length": 40,
        "max_regions": 4,
        "texta_false_prob": 0.25,
        "initializer_range": 0.2,
        **changes,
    }
    return OscarForPreTraining(OscarConfig.of_size("tiny", **settings)).eval()


def test_recalls_by_hand() -> None:
    scores = np.array(
        [
            [9.0, 1.0, 2.0],  # the right image is first
            [5.0, 4.0, 1.0],  # second
            [3.0, 2.0, 0.0],  # third
        ],
        dtype=np.float32,
    )
    assert ranks(scores).tolist() == [1, 2, 3]
    assert ranks(scores.T).tolist() == [1, 1, 3]
    found = recalls(scores)
    assert (found["t2i_r1"], found["i2t_r1"]) == (0.3333, 0.6667)
    assert found["t2i_r5"] == found["i2t_r10"] == 1.0
    assert list(found) == ["t2i_r1", "t2i_r5", "t2i_r10", "i2t_r1", "i2t_r5", "i2t_r10"]


def test_a_model_that_says_the_same_of_all_earns_nothing() -> None:
    assert set(recalls(np.zeros((20, 20), dtype=np.float32)).values()) == {0.0}


def plain_score(
    network: OscarForPreTraining,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    text: str,
    image: int,
) -> float:
    """One pair through the whole model, laid out token by token and padded."""
    config = network.config
    sample = corpus[image]
    caption = tokenizer.encode(text, add_special_tokens=False)
    tags = tokenizer.encode(" ".join(sample.meta["tags"]), add_special_tokens=False)
    while len(caption) + len(tags) > config.max_seq_length - 3:
        (caption if len(caption) > len(tags) else tags).pop()
    first = [tokenizer.cls_token_id, *caption, tokenizer.sep_token_id]
    second = [*tags, tokenizer.sep_token_id]
    padding = config.max_seq_length - len(first) - len(second)
    boxes = torch.from_numpy(sample.regions.boxes.copy()) / 300
    geometry = torch.cat([boxes, boxes[:, 2:] - boxes[:, :2]], dim=1)
    features = torch.cat([torch.from_numpy(sample.regions.float_features()), geometry], dim=1)
    seen = [1] * len(first + second) + [0] * padding + [1] * len(features)
    with torch.no_grad():
        outputs = network(
            input_ids=torch.tensor([first + second + [0] * padding]),
            token_type_ids=torch.tensor([[0] * len(first) + [1] * len(second) + [0] * padding]),
            attention_mask=torch.tensor([seen]),
            img_feats=features[None],
        )
    return float(tag_contrast.clean_scores(outputs.seq_relationship_logits))


@pytest.mark.parametrize("limit", [40, 14])
def test_the_fast_matrix_equals_the_plain_one(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, limit: int
) -> None:
    network = model(tokenizer, max_seq_length=limit)
    fast = score_matrix(network, tokenizer, corpus, texts(corpus), COUNT)
    plain = [
        [plain_score(network, tokenizer, corpus, text, image) for image in range(COUNT)]
        for text in texts(corpus)
    ]
    assert np.ptp(fast) > 0.01
    assert np.abs(fast - np.array(plain)).max() <= 1e-4


@pytest.mark.parametrize("limit", [40, 14])
def test_the_fast_matrix_equals_the_one_by_pairs(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, limit: int
) -> None:
    network = model(tokenizer, max_seq_length=limit, match_head=True).eval()
    fast = score_matrix(network, tokenizer, corpus, texts(corpus), COUNT)
    slow = scores_by_pairs(network, tokenizer, corpus, texts(corpus), COUNT)
    assert np.ptp(fast) > 0.01
    assert np.abs(fast - slow).max() <= 1e-4


def test_an_evaluation_has_recalls_and_examples(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    network = model(tokenizer).train()
    found = evaluate_retrieval(network, tokenizer, corpus, count=10)
    assert found == evaluate_retrieval(network, tokenizer, corpus, count=10)
    assert network.training
    assert found["count"] == 10
    assert all(0 <= found[f"{way}_r{k}"] <= 1 for way in ("t2i", "i2t") for k in (1, 5, 10))
    example = found["examples"][0]
    assert example["direction"] == "t2i"
    assert example["query"] == texts(corpus)[0]
    assert len(example["ranking"]) == 5
    scores = [answer["score"] for answer in example["ranking"]]
    assert scores == sorted(scores, reverse=True)
    right = [answer["right"] for answer in example["ranking"]]
    assert sum(right) == (example["rank"] <= 5)
    other = next(one for one in found["examples"] if one["direction"] == "i2t")
    assert other["query"] == corpus[0].key


def test_the_match_head_ranks_where_a_model_has_one(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    network = model(tokenizer, match_head=True)
    scores = score_matrix(network, tokenizer, corpus, texts(corpus), COUNT)
    with torch.no_grad():
        network.cls.itm.weight.neg_()
        network.cls.itm.bias.neg_()
    turned = score_matrix(network, tokenizer, corpus, texts(corpus), COUNT)
    assert np.abs(scores + turned).max() <= 1e-4


def test_a_single_sample_is_no_gallery(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(RequestError, match="needs two at least"):
        evaluate_retrieval(model(tokenizer), tokenizer, corpus, count=1)
