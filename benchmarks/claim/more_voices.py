"""More voices for the test set of the profile ``small``.

The quickstart's test set has four voices. Error rates of a few speakers say little about others, so
the comparison adds twenty. They are variants of eSpeak NG that no other part of the corpus uses:
whispering, hoarse and artificial ones too, as there are few that training does not use.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dualmode.data.manifests import CUTS, read_cuts, write_cuts
from dualmode.data.parallel import map_in_processes
from dualmode.data.phrases import draw_phrase, transcript
from dualmode.data.render import Reading, Voice, read_aloud
from dualmode.data.synth import SPLITS, cut_of

VOICES = tuple(
    Voice(name, espeak, 50, 155 + 5 * (at % 5))
    for at, (name, espeak) in enumerate(
        (
            ("anika", "en-gb-x-rp+anika"),
            ("bert", "en-us+announcer"),
            ("cuthbert", "en+kaukovalta"),
            ("dirk", "en-gb-scotland+croak"),
            ("emil", "en-us+Storm"),
            ("finn", "en-029+AnxiousAndy"),
            ("gustav", "en-us+Mr serious"),
            ("hanna", "en-gb-x-gbclan+Tweaky"),
            ("igor", "en-us+whisper"),
            ("jana", "en-gb-x-rp+whisperf"),
            ("kurt", "en+Gene2"),
            ("lars", "en-us+edward2"),
            ("moritz", "en-gb-x-gbcwmd+iven2"),
            ("nils", "en-us+mike2"),
            ("olga", "en-us+steph2"),
            ("pavel", "en+klatt2"),
            ("rolf", "en-us+klatt4"),
            ("stefan", "en-gb-scotland+victor"),
            ("tilo", "en-029+RicishayMax3"),
            ("uwe", "en-us-nyc"),
        )
    )
)
UTTERANCES = 25  # of each voice: a third of the words that the four voices read
_SEED = 7
_FEWEST_WORDS = 4  # as in the quickstart's test set


def more_voices(synthetic: Path, out: Path, *, each: int = UTTERANCES) -> Path:
    """The folder ``out`` with ``each`` utterances of every voice, made if it is not there.

    Sentences are drawn from the language of the quickstart corpus in the folder ``synthetic``, and
    are in none of its splits.
    """
    if (out / CUTS).is_file():
        return out
    cuts = read_cuts([str(synthetic / split) for split in SPLITS])
    known = {cut.supervisions[0].text for cut in cuts}
    phrases = _new_phrases(known, each * len(VOICES))
    folder = out / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    readings = [
        Reading(voice, folder, (_SEED, at), float("inf"), phrases=tuple(phrases[at :: len(VOICES)]))
        for at, voice in enumerate(VOICES)
    ]
    # Fresh processes, because the output of eSpeak NG depends on what it spoke before.
    spoken = map_in_processes(read_aloud, readings, title="Synthesising test voices", fresh=True)
    write_cuts((cut_of(utterance) for voice in spoken for utterance in voice), out / CUTS)
    return out


def _new_phrases(known: set[str | None], count: int) -> list[str]:
    rng = np.random.default_rng(_SEED)
    phrases: dict[str, str] = {}
    while len(phrases) < count:
        phrase = draw_phrase(rng)
        text = transcript(phrase)
        if len(phrase.split()) >= _FEWEST_WORDS and text not in known:
            phrases[text] = phrase
    return list(phrases.values())
