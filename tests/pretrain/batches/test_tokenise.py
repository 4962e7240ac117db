"""Tokenisers: learned ones are the same each time, loaded ones split as BERT does."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pretrain.batches.tokenise import SPECIAL_TOKENS, TextEncoder, load_tokenizer, train_tokenizer
from pretrain.batches.vocabulary import count_words, learn_pieces
from trawl.errors import RequestError

TEXTS = ["A red umbrella, beside two UMBRELLAS.", "the red kite above the sea", "a kité at sea"]


def test_with_room_enough_each_word_that_comes_twice_is_one_piece() -> None:
    tokenizer = train_tokenizer(TEXTS * 2, 1000)
    assert tokenizer.tokenize("Red umbrellas above a KITÉ!") == [
        *("red", "umbrellas", "above", "a", "kite", "[UNK]")
    ]
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


def test_the_size_is_kept_and_pieces_still_spell_each_word() -> None:
    tokenizer = train_tokenizer(TEXTS * 2, 40)
    assert len(tokenizer) == 40
    pieces = tokenizer.tokenize("umbrellas beside")
    assert "[UNK]" not in pieces
    assert "".join(piece.removeprefix("##") for piece in pieces) == "umbrellasbeside"


def test_merges_are_those_done_by_hand() -> None:
    words = count_words(["hug " * 10 + "pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5])
    assert learn_pieces(words, 11) == [
        *("##u", "##g", "p", "##n", "h", "##s", "b"),  # 36, 20, 17, 16, 15, 5 and 4 times
        *("##ug", "##un", "hug", "pun"),  # 20, 16, 15 and 12 times
    ]


def test_a_word_that_comes_once_is_not_merged() -> None:
    assert learn_pieces(count_words(["ab"]), 100) == ["##b", "a"]


def test_the_vocabulary_is_the_same_in_every_process() -> None:
    code = """
import random
from pretrain.batches.tokenise import train_tokenizer
draw = random.Random(1)
words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 8))) for _ in range(300)]
texts = [" ".join(draw.choices(words, k=9)) for _ in range(200)]
print(sorted(train_tokenizer(texts, 400).get_vocab().items()))
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) > 1000


def test_a_saved_tokenizer_loads_as_ours_and_with_the_auto_class(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS * 2, 80)
    tokenizer.save_pretrained(tmp_path)
    for again in (load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert again.get_vocab() == tokenizer.get_vocab()
        assert again(TEXTS[0]).input_ids == tokenizer(TEXTS[0]).input_ids
    assert tokenizer("sea").input_ids[0] == 2  # [CLS]


def test_the_bert_vocabulary_loads_from_its_plain_text(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "bert")
    encoder = TextEncoder(tokenizer)
    special = encoder.special
    assert (special.pad, special.start, special.separator, special.mask) == (0, 101, 102, 103)
    assert encoder.words == 30522
    words = tokenizer.convert_ids_to_tokens(encoder.encode("Unbelievable Umbrellas").tolist())
    assert words == ["unbelievable", "umbrella", "##s"]


def test_encoded_texts_are_remembered_and_may_not_be_changed() -> None:
    encoder = TextEncoder(train_tokenizer(TEXTS * 2, 80))
    first = encoder.encode(TEXTS[0])
    assert encoder.encode(TEXTS[0]) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"neither tokenizer\.json nor vocab\.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n")
    with pytest.raises(RequestError, match=r"no \[MASK\]"):
        load_tokenizer(tmp_path)


def test_merging_many_words_takes_no_quadratic_time() -> None:
    draw = random.Random(2)
    words = {"".join(draw.choices("abcdefghijklmnop", k=8)) for _ in range(5000)}
    assert len(learn_pieces(count_words([" ".join(words)] * 2), 3000)) == 3000
