"""Transcripts: normalisation to letters, apostrophes and spaces, and SentencePiece tokens."""

from __future__ import annotations

import io
import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sentencepiece

from dualmode.config import TextConfig
from dualmode.errors import TextError
from dualmode.whole_files import replace_bytes, replace_text

BLANK = 0  # id of the token that moves to the next frame
BLANK_PIECE = "<blk>"
UNKNOWN = "<unk>"
UNKNOWN_ID = 1
WORD_START = "\u2581"  # SentencePiece's mark for a space before a piece
TOKENS_MODEL = "tokens.model"
TOKENS_TXT = "tokens.txt"

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\u00b4`", "'"))
_WITHOUT_DECOMPOSITION = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\u0131": "i",
    }
)
# These stand for spoken words; dropping them would falsify the transcript.
_SPOKEN_PUNCTUATION = frozenset("%&@#*")
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\b")
_LARGEST_MODEL_BYTES = 1 << 24  # a vocabulary of 32000 tokens has about 1 MB
_LONGEST_NUMBER = 15  # digits; longer numbers, and those starting with 0, are read by digits


def normalize(text: str, config: TextConfig) -> str:
    """Reduce a transcript to words of a-z and apostrophes, separated by single spaces.

    Case is unified and accents are folded. Punctuation and hyphens separate words; apostrophes
    are kept between letters only. Digits are refused or spelled out, depending on
    ``config.digits``.

    Raises:
        TextError: the text contains digits that are refused or characters that cannot be read
            aloud, or no word is left.
    """
    lowered = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
    if config.digits == "spell":
        lowered = _spell_numbers(lowered)
    elif any(character.isdecimal() for character in lowered):
        raise TextError(
            f"digits in {_shown(text)}: write numbers as words, or set text.digits=spell"
        )
    words = _folded(lowered)
    unknown = sorted(set(words) - set(string.ascii_lowercase + "' "))
    if unknown:
        named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown)
        raise TextError(
            f"unknown symbols in {_shown(text)}: {named}; write them as they are spoken, "
            "or remove them"
        )
    words = re.sub(r"(?<![a-z])'+|'+(?![a-z])", " ", words)
    normalized = " ".join(words.split())
    if not normalized:
        raise TextError(f"no words in {_shown(text)}: leave the utterance out or transcribe it")
    return normalized.upper() if config.case == "upper" else normalized


def _folded(text: str) -> str:
    """Fold accents, drop invisible characters, and turn punctuation into spaces."""
    characters = []
    for character in unicodedata.normalize("NFKD", text.translate(_WITHOUT_DECOMPOSITION)):
        category = unicodedata.category(character)
        if character == "'" or character in _SPOKEN_PUNCTUATION:
            characters.append(character)
        elif category[0] in "ZP" or character.isspace():
            characters.append(" ")
        elif category not in ("Mn", "Cf"):
            characters.append(character)
    return "".join(characters)


def _spell_numbers(text: str) -> str:
    from num2words import num2words  # training and scoring spell numbers, transcribing does not

    text = _ORDINAL.sub(lambda match: f" {num2words(int(match[1]), to='ordinal')} ", text)
    return _NUMBER.sub(lambda match: f" {_spelled(match[0])} ", text)


def _spelled(number: str) -> str:
    from num2words import num2words

    digits = number.replace(",", "")
    whole = digits.partition(".")[0]
    if len(whole) > _LONGEST_NUMBER or (len(whole) > 1 and whole.startswith("0")):
        return " ".join(num2words(int(d)) if d.isdecimal() else "point" for d in digits)
    # num2words reads a string of digits as a Decimal and keeps zeros that end a fraction.
    return str(num2words(digits))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


@dataclass(frozen=True)
class Tokens:
    """A trained vocabulary of tokens. Blank is id 0, ``<unk>`` is id 1."""

    model: bytes

    @classmethod
    def load(cls, directory: str | Path) -> Tokens:
        """Read ``tokens.model`` from a directory.

        Raises:
            TextError: the file is missing, too large or not a SentencePiece model, or has another
                blank id.
        """
        path = Path(directory) / TOKENS_MODEL
        if not path.is_file():
            raise TextError(f"{path}: no such file; train tokens first, or check the directory")
        if path.stat().st_size > _LARGEST_MODEL_BYTES:
            raise TextError(f"{path}: too large for tokens: more than {_LARGEST_MODEL_BYTES} bytes")
        tokens = cls(path.read_bytes())
        try:
            first = tokens.pieces[:2]
        except (RuntimeError, UnicodeDecodeError):
            raise TextError(f"{path}: not a SentencePiece model; train the tokens again") from None
        if first != [BLANK_PIECE, UNKNOWN]:
            raise TextError(f"{path}: ids 0 and 1 must be {BLANK_PIECE} and {UNKNOWN}, not {first}")
        return tokens

    def save(self, directory: str | Path) -> None:
        """Write ``tokens.model`` and ``tokens.txt`` (one token a line: symbol, space, id)."""
        directory = Path(directory)
        lines = [f"{piece} {number}\n" for number, piece in enumerate(self.pieces)]
        replace_text(directory / TOKENS_TXT, "".join(lines))
        replace_bytes(directory / TOKENS_MODEL, self.model)

    def encode(self, text: str) -> list[int]:
        """Encode normalised text as token ids; symbols outside the vocabulary become id 1."""
        return [int(number) for number in self._processor.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Decode token ids to text; blank and ``<unk>`` are skipped."""
        pieces = (self.pieces[number] for number in ids if number > UNKNOWN_ID)
        return "".join(pieces).replace(WORD_START, " ").strip()

    @property
    def size(self) -> int:
        """V, the number of tokens, including blank and ``<unk>``."""
        return len(self.pieces)

    @cached_property
    def pieces(self) -> list[str]:
        """The symbol of each id."""
        count = self._processor.get_piece_size()
        return [self._processor.id_to_piece(number) for number in range(count)]

    @cached_property
    def scores(self) -> list[tuple[str, float]]:
        """The symbol and the SentencePiece score of each id, for other runtimes."""
        return [(piece, self._processor.get_score(n)) for n, piece in enumerate(self.pieces)]

    @cached_property
    def word_starts(self) -> list[bool]:
        """For each id, whether the token starts a word."""
        return [piece.startswith(WORD_START) for piece in self.pieces]

    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        return sentencepiece.SentencePieceProcessor(model_proto=self.model)


def train_tokens(texts: Iterable[str], config: TextConfig, out: str | Path) -> Tokens:
    """Train tokens on normalised texts and save them in ``out``. The result is deterministic.

    Every letter gets a token, so that any transcript can be encoded. A corpus that is too small for
    ``config.vocabulary_size`` yields fewer tokens; see ``size``.

    Raises:
        TextError: there is no text, or the vocabulary is too small for all letters.
    """
    sentences = [text for text in texts if text]
    if not sentences:
        raise TextError("no texts to train tokens on: check the training CutSets")
    letters = string.ascii_uppercase if config.case == "upper" else string.ascii_lowercase
    smallest = len(letters) + 4  # the apostrophe, the word mark, blank and <unk>
    if config.vocabulary_size < smallest:
        raise TextError(
            f"text.vocabulary_size={config.vocabulary_size} is too small for all letters: "
            f"make it at least {smallest}"
        )
    tokens = Tokens(_fit(sentences, config, letters + "'", config.vocabulary_size))
    tokens.save(out)
    return tokens


def _fit(sentences: list[str], config: TextConfig, letters: str, size: int) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=config.token_kind,
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            required_chars=letters,
            normalization_rule_name="identity",
            pad_id=BLANK,
            pad_piece=BLANK_PIECE,
            unk_id=UNKNOWN_ID,
            unk_piece=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise TextError(
            f"SentencePiece cannot train {size} tokens on these texts: {error}"
        ) from None
    return model.getvalue()
