"""Words in IPA become phones of the CMU dictionary, much like the dictionary's own."""

from __future__ import annotations

import jiwer
import pytest

from dualmode.sections import PHONES
from dualmode.teaching.pronunciations import by_espeak, from_ipa

COMMON = """
water button measure church judge yacht singing thing this fire hour oil poor near hair seventeen
february thirtieth alarm kitchen volume louder question window january double people nation vision
music language thought would enough rough through daughter laughing
"""


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("tʃˈɜːtʃ", "CH ER CH"),
        ("bˈʌʔn̩", "B AH T N"),
        ("dʒˈænjuːˌɛɹi", "JH AE N Y UW EH R IY"),
        ("ˈɔɪl", "OY L"),
    ],
)
def test_marks_are_dropped_and_long_symbols_come_first(ipa: str, phones: str) -> None:
    assert from_ipa(ipa) == phones.split()


@pytest.mark.parametrize("ipa", ["", "ˈː", "ʘa", "(en)"])
def test_other_symbols_are_not_guessed(ipa: str) -> None:
    assert from_ipa(ipa) is None


def test_espeak_agrees_with_the_dictionary_about_common_words() -> None:
    pytest.importorskip("pocketsphinx", reason="the extra 'align' is not installed")
    pronounce = by_espeak()
    if pronounce is None:
        pytest.skip("the extra 'synth' is not installed")
    from dualmode.teaching.aligning import _open_pocketsphinx

    decoder = _open_pocketsphinx()
    ours = [" ".join(pronounce(word) or ["?"]) for word in COMMON.split()]
    theirs = [decoder.lookup_word(word) for word in COMMON.split()]
    assert jiwer.wer(theirs, ours) < 0.15
    assert {phone for word in ours for phone in word.split()} <= set(PHONES)


def test_any_word_is_pronounced() -> None:
    pronounce = by_espeak()
    if pronounce is None:
        pytest.skip("the extra 'synth' is not installed")
    for word in ("thermopylae", "henderson's", "vusi", "xqzt", "aaaa", "o'", "llewellyn"):
        assert pronounce(word), word
