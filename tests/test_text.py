"""Transcripts become words of letters and apostrophes, and tokens that spell them again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualmode.config import TextConfig
from dualmode.errors import TextError
from dualmode.text import (
    BLANK_PIECE,
    UNKNOWN,
    UNKNOWN_ID,
    WORD_START,
    Tokens,
    normalize,
    train_tokens,
)

PLAIN = TextConfig()
SPELL = TextConfig(digits="spell")
TEXTS = [
    "the town's present name honors a local politician",
    "he grew up in the north and never left it",
    "open the window and close the door",
    "it is half past nine",
] * 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("The town\u2019s name \u2014 W. A. Crooks", "the town's name w a crooks"),
        ("don\u02bct can`t won\u00b4t", "don't can't won't"),
        ("'quoted' rock 'n' roll o'clock", "quoted rock n roll o'clock"),
        ("twenty-five\u2011fold", "twenty five fold"),
        ("cr\u00e8me br\u00fbl\u00e9e, Stra\u00dfe, \u00c6sop", "creme brulee strasse aesop"),
        ("  \ttabs\u00a0and\n lines\u200b ", "tabs and lines"),
        ("end.Start (aside) \u00ab\u00a0oui\u00a0\u00bb\u2026", "end start aside oui"),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize(text, PLAIN) == expected
    assert normalize(text, TextConfig(case="upper")) == expected.upper()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25 minutes", "twenty five minutes"),
        ("1,234 miles", "one thousand two hundred and thirty four miles"),
        ("3.05", "three point zero five"),
        ("the 3rd of May", "the third of may"),
        ("agent 007", "agent zero zero seven"),
        ("b2b", "b two b"),
        ("9" * 20, " ".join(["nine"] * 20)),
    ],
)
def test_digits_are_spelled_if_asked_and_refused_otherwise(text: str, expected: str) -> None:
    assert normalize(text, SPELL) == expected
    with pytest.raises(TextError, match=r"digits in .*text\.digits=spell"):
        normalize(text, PLAIN)


@pytest.mark.parametrize(
    ("text", "named"),
    [("\u65e5\u672c", r"U\+65E5.*U\+672C"), ("5 % & more", r"'%'.*'&'|'&'.*'%'"), ("$", "'\\$'")],
)
def test_symbols_that_cannot_be_read_are_named(text: str, named: str) -> None:
    with pytest.raises(TextError, match=named):
        normalize(text, SPELL)


@pytest.mark.parametrize("text", ["", "   ", "...", "' - '", "\u200b"])
def test_no_words_is_an_error(text: str) -> None:
    with pytest.raises(TextError, match="no words"):
        normalize(text, PLAIN)


@given(st.text(max_size=40))
def test_normalising_is_idempotent_and_keeps_to_its_alphabet(text: str) -> None:
    try:
        once = normalize(text, SPELL)
    except TextError:
        return
    assert normalize(once, PLAIN) == once
    assert set(once) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert once == " ".join(once.split())


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("case", ["lower", "upper"])
def test_tokens_spell_every_text_again(tmp_path: Path, kind: str, case: str) -> None:
    config = TextConfig(case=case, token_kind=kind, vocabulary_size=60)
    texts = [normalize(text, config) for text in TEXTS]
    tokens = train_tokens(texts, config, tmp_path)
    unheard = normalize("jazz quiz vex", config)
    for text in [*texts, unheard]:
        ids = tokens.encode(text)
        assert tokens.decode(ids) == text
        assert min(ids) > UNKNOWN_ID
    assert tokens.pieces[:2] == [BLANK_PIECE, UNKNOWN]
    assert tokens.size <= 60
    words = sum(tokens.word_starts[i] for i in tokens.encode(texts[0]))
    assert words == len(texts[0].split())


def test_saved_tokens_are_the_same_and_listed(tmp_path: Path) -> None:
    config = TextConfig(vocabulary_size=50)
    tokens = train_tokens(TEXTS, config, tmp_path / "a")
    again = train_tokens(TEXTS, config, tmp_path / "b")
    assert tokens.model == again.model
    loaded = Tokens.load(tmp_path / "a")
    assert loaded.pieces == tokens.pieces
    lines = (tmp_path / "a" / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"{BLANK_PIECE} 0"
    assert [line.rsplit(" ", 1) for line in lines] == [
        [piece, str(number)] for number, piece in enumerate(tokens.pieces)
    ]


def test_blank_and_unknown_are_silent(tmp_path: Path) -> None:
    tokens = train_tokens(TEXTS, TextConfig(vocabulary_size=50), tmp_path)
    ids = tokens.encode("the door")
    assert tokens.decode([0, 1, *ids, 0]) == "the door"
    assert tokens.encode("door \u65e5").count(UNKNOWN_ID) == 1
    assert tokens.encode("") == []
    assert all(
        p.startswith(WORD_START) == s
        for p, s in zip(tokens.pieces, tokens.word_starts, strict=True)
    )


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_small_corpus_gives_fewer_tokens(tmp_path: Path, kind: str) -> None:
    config = TextConfig(token_kind=kind, vocabulary_size=5000)
    assert 30 <= train_tokens(TEXTS[:2], config, tmp_path).size < 200


def test_too_few_tokens_for_the_alphabet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="at least 30"):
        train_tokens(TEXTS, TextConfig(vocabulary_size=29), tmp_path)
    assert train_tokens(TEXTS, TextConfig(vocabulary_size=30), tmp_path).size == 30


def test_no_texts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no texts"):
        train_tokens(["", ""], PLAIN, tmp_path)


def test_damaged_or_missing_models_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no such file"):
        Tokens.load(tmp_path)
    (tmp_path / "tokens.model").write_bytes(b"not a model")
    with pytest.raises(TextError, match="not a SentencePiece model"):
        Tokens.load(tmp_path)
    with (tmp_path / "tokens.model").open("wb") as file:
        file.truncate(1 << 33)  # no byte of it is stored, and none may be read
    with pytest.raises(TextError, match="too large"):
        Tokens.load(tmp_path)


def test_a_model_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    train_tokens(TEXTS, TextConfig(vocabulary_size=40), tmp_path)
    model = (tmp_path / "tokens.model").read_bytes()
    assert BLANK_PIECE.encode() in model
    (tmp_path / "tokens.model").write_bytes(model.replace(BLANK_PIECE.encode(), b"\xff\xfe<bl"))
    with pytest.raises(TextError, match="not a SentencePiece model"):
        Tokens.load(tmp_path)
