"""Pronunciations of words that are in no dictionary, in the phones of the CMU dictionary.

eSpeak NG pronounces any word, in IPA; its symbols are translated.
"""

from __future__ import annotations

from collections.abc import Callable

Pronounce = Callable[[str], list[str] | None]
"""The phones of a word, or None if they are unknown."""

_STRESS = "ˈˌː̩̃ \u200d"  # stress, length, syllabic and nasal marks: not in the dictionary
# Symbols of eSpeak NG's American voice, of two characters first.
_TABLE = """
tʃ CH  dʒ JH  eɪ EY  aɪ AY  aʊ AW  ɔɪ OY  oʊ OW
ɐ AH  ə AH  ʌ AH  ɚ ER  ɜ ER  ɝ ER  ɛ EH  e EH  æ AE  a AE  ɑ AA  ɒ AA  ɔ AO  o AO
i IY  ɪ IH  ᵻ IH  ʊ UH  u UW
b B  d D  f F  ɡ G  g G  h HH  j Y  k K  x K  l L  ɬ L  m M  n N  ɲ N  ŋ NG  p P  ɹ R  r R
s S  ʃ SH  t T  ɾ T  ʔ T  θ TH  ð DH  v V  w W  z Z  ʒ ZH
"""
_PAIRS = _TABLE.split()
_PHONES = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))


def by_espeak() -> Pronounce | None:
    """Pronounce words as eSpeak NG's American voice does; None if eSpeak NG is not installed.

    eSpeak NG keeps its state in the process, so call this once in each.
    """
    try:
        import espeakng_loader  # noqa: F401
    except ImportError:
        return None
    from dualmode.data.espeak import Espeak

    espeak = Espeak()
    espeak.set_voice("en-us")
    return lambda word: from_ipa(espeak.phonemes(word))


def from_ipa(ipa: str) -> list[str] | None:
    """Translate eSpeak NG's transcription of an English word; None if it has other symbols."""
    plain = "".join(symbol for symbol in ipa if symbol not in _STRESS)
    phones, at = [], 0
    while at < len(plain):
        symbol = next((plain[at : at + n] for n in (2, 1) if plain[at : at + n] in _PHONES), None)
        if symbol is None:
            return None
        phones.append(_PHONES[symbol])
        at += len(symbol)
    return phones or None
