"""The corpus, the configuration and the maker that the tests of LXMERT's batches share."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.lxmert import LxmertBatches
from pretrain.batches.pairs import Place
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.lxmert_config import LxmertConfig
from tests.pretrain import tiny_corpus

PUBLISHED = dict.fromkeys(
    ("mlm", "itm", "moc-confidence", "attributes", "mrfr-smooth-l1", "qa"), 1.0
)
SAMPLES = 40
PLACES: list[Place] = [(0, number, 0, number) for number in range(SAMPLES)]
EPOCHS: list[Place] = [(0, number, epoch, 0) for epoch in range(25) for number in range(SAMPLES)]
SETTINGS: dict[str, object] = {
    "visual_feat_dim": tiny_corpus.FEATURES,
    "num_object_labels": len(tiny_corpus.KINDS),
    "num_attr_labels": len(tiny_corpus.COLOURS),
    "answers": ["Red", "blue", "green"],  # white is not in the table
    "max_seq_length": 48,
    "max_regions": 4,
    "region_count": "sound",
}


def config(tokenizer: PreTrainedTokenizerBase, **changes: object) -> LxmertConfig:
    return LxmertConfig.of_size("tiny", **{"vocab_size": len(tokenizer), **SETTINGS, **changes})


def maker(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float] | None = None,
    as_published: bool = False,
    **changes: object,
) -> LxmertBatches:
    wanted = PUBLISHED if objectives is None else objectives
    return LxmertBatches(
        [corpus], tokenizer, config(tokenizer, **changes), wanted, 3, "one", as_published
    )


def write_corpus(folder: Path) -> Corpus:
    """A corpus with all that the published objectives need, and class distributions."""
    extras = {"questions": True, "unsure": True, "class_probs": len(tiny_corpus.KINDS)}
    return Corpus(tiny_corpus.write(folder, "lxmert", SAMPLES, **extras))


def learn_tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    """A tokenizer that knows all words of captions and questions."""
    texts = [corpus[number].meta["captions"][0]["text"] for number in range(len(corpus))]
    asked = [each["question"] for n in range(len(corpus)) for each in corpus[n].meta["questions"]]
    return train_tokenizer(texts + asked, 200)
