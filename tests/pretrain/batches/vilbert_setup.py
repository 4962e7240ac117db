"""A corpus with all that ViLBERT can use, and its batches, for the tests of both."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.pairs import Place
from pretrain.batches.tokenise import train_tokenizer
from pretrain.batches.vilbert import ViLBertBatches
from pretrain.models.vilbert_config import ViLBertConfig
from tests.pretrain import tiny_corpus

SAMPLES = 40
CLASSES = len(tiny_corpus.KINDS) + 1
PUBLISHED = {"mlm": 1.0, "moc-kl": 1.0, "itm": 1.0}


def full_corpus(folder: Path) -> Corpus:
    return Corpus(tiny_corpus.write(folder, "vilbert", SAMPLES, class_probs=CLASSES, unsure=True))


def tokenizer_of(corpus: Corpus) -> PreTrainedTokenizerBase:
    texts = [corpus[number].meta["captions"][0]["text"] for number in range(len(corpus))]
    return train_tokenizer(texts, 200)


def config(tokenizer: PreTrainedTokenizerBase, **changes: object) -> ViLBertConfig:
    settings = {
        "vocab_size": len(tokenizer),
        "v_feature_size": tiny_corpus.FEATURES,
        "v_target_size": CLASSES,
        "max_seq_length": 32,
        "max_regions": 4,
        **changes,
    }
    return ViLBertConfig.of_size("tiny", **settings)


def batches(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float] | None = None,
    as_published: bool = False,
    **changes: object,
) -> ViLBertBatches:
    return ViLBertBatches(
        [corpus],
        tokenizer,
        config(tokenizer, **changes),
        PUBLISHED if objectives is None else objectives,
        3,
        "one",
        as_published,
    )


def caption_of(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> str:
    words = tokenizer.convert_ids_to_tokens(ids.tolist())
    return " ".join(words[1 : words.index("[SEP]")])


def own_captions(corpus: Corpus, places: Sequence[Place]) -> list[str]:
    return [corpus[number].meta["captions"][0]["text"] for _, number, _, _ in places]
