"""The quickstart corpus: reproducible, with held-out voices and sentences, and timed words."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dualmode.data.espeak import Espeak
from dualmode.data.manifests import read_cuts
from dualmode.data.parallel import map_in_processes
from dualmode.data.phrases import spoken
from dualmode.data.render import VOICES, Reading, Utterance, read_aloud
from dualmode.data.synth import SynthSettings, _is_finished, synthesize
from dualmode.errors import DataError

pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth")
    synthesize(out, train_hours=0.05, dev_utterances=5, test_utterances=9)
    return out


def test_splits_hold_what_was_asked_for(corpus: Path) -> None:
    train, dev, test = (read_cuts(corpus / split) for split in ("train", "dev", "test"))
    assert sum(cut.duration for cut in train) == pytest.approx(180, abs=60)
    assert (len(dev), len(test)) == (5, 9)
    summary = json.loads((corpus / "synth.json").read_text())["splits"]
    assert {name: entry["utterances"] for name, entry in summary.items()} == {
        "train": len(train),
        "dev": 5,
        "test": 9,
    }
    for cut in [*train, *dev, *test]:
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 16000, 1)
        assert info.frames == cut.num_samples
        assert 0.5 < cut.duration < 12


def test_voices_and_sentences_of_evaluation_are_new(corpus: Path) -> None:
    splits = {split: read_cuts(corpus / split) for split in ("train", "dev", "test")}
    voices = {k: {c.supervisions[0].speaker for c in cuts} for k, cuts in splits.items()}
    texts = {k: {c.supervisions[0].text for c in cuts} for k, cuts in splits.items()}
    assert len(voices["train"]) >= 12
    assert len(voices["test"]) == 4
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not voices[one] & voices[other]
        assert not texts[one] & texts[other]
    variants = {k: {v.espeak.partition("+")[2] for v in some} for k, some in VOICES.items()}
    assert not variants["train"] & (variants["dev"] | variants["test"])


def test_words_are_timed_where_they_sound(corpus: Path) -> None:
    for cut in read_cuts(corpus / "test"):
        (supervision,) = cut.supervisions
        words = supervision.alignment["word"]
        assert [word.symbol for word in words] == supervision.text.split()
        starts = [word.start for word in words]
        assert starts == sorted(starts)
        assert all(word.duration >= 0 for word in words)
        samples = cut.load_audio()[0]
        first, end = round(words[0].start * 16000), round(words[-1].end * 16000)
        speech = np.sqrt(np.mean(samples[first:end] ** 2))
        around = np.concatenate([samples[: first - 160], samples[end + 160 :]])
        assert 0 < first < end < len(samples)
        assert np.sqrt(np.mean(around**2)) < 0.15 * speech


def test_phones_fill_the_file_in_order(corpus: Path) -> None:
    """Phones follow each other without a gap; silence is before, after, and quieter."""
    for cut in read_cuts(corpus / "test"):
        alignment = cut.supervisions[0].alignment
        phones, words = alignment["phone"], alignment["word"]
        assert phones[0].symbol == phones[-1].symbol == "SIL"
        assert phones[0].start == 0
        assert phones[-1].end == pytest.approx(cut.duration, abs=1e-3)
        for one, following in pairwise(phones):
            assert one.end == pytest.approx(following.start, abs=2e-4)
        assert len(phones) > 2 * len(words)
        assert all(phone.symbol and not set(phone.symbol) & set("',_:;") for phone in phones)
        samples = cut.load_audio()[0]
        loud = [
            np.square(samples[round(p.start * 16000) : round(p.end * 16000)]).mean()
            for p in (phones[0], phones[-1])
        ]
        assert max(loud) < 0.05 * np.square(samples).mean()


def test_most_words_have_a_start_of_their_own(corpus: Path) -> None:
    durations = [
        word.duration
        for cut in read_cuts(corpus / "train")
        for word in cut.supervisions[0].alignment["word"]
    ]
    assert np.mean(np.array(durations) > 0.03) > 0.95


def readings(folder: Path, seed: int) -> list[Reading]:
    """Some seconds by every variant of voice: they differ in what they leave to chance."""
    voices = {v.espeak.partition("+")[2]: v for some in VOICES.values() for v in some}.values()
    for voice in voices:
        (folder / voice.name).mkdir(parents=True)
    return [Reading(voice, folder / voice.name, (seed,), 4.0) for voice in voices]


def read(folder: Path, seed: int, jobs: int) -> list[Utterance]:
    made = map_in_processes(
        read_aloud, readings(folder, seed), title="reading", jobs=jobs, fresh=True
    )
    return [utterance for utterances in made for utterance in utterances]


def test_the_same_seed_gives_the_same_samples_in_any_number_of_processes(tmp_path: Path) -> None:
    one = read(tmp_path / "one", 5, 1)
    time.sleep(1.1)  # eSpeak NG seeds chance by the second
    two = read(tmp_path / "two", 5, 2)
    other = read(tmp_path / "other", 6, 2)
    assert [u.text for u in one] == [u.text for u in two] != [u.text for u in other]
    assert [u.words for u in one] == [u.words for u in two]
    for a, b in zip(one, two, strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()


def test_a_finished_corpus_is_not_made_again(corpus: Path) -> None:
    before = (corpus / "train" / "cuts.jsonl.gz").stat().st_mtime_ns
    folders = synthesize(corpus, train_hours=0.05, dev_utterances=5, test_utterances=9)
    assert folders == {split: corpus / split for split in ("train", "dev", "test")}
    assert (corpus / "train" / "cuts.jsonl.gz").stat().st_mtime_ns == before


def test_a_corpus_of_an_older_edition_does_not_count(corpus: Path, tmp_path: Path) -> None:
    summary = json.loads((corpus / "synth.json").read_text())
    settings = SynthSettings(train_hours=0.05, dev_utterances=5, test_utterances=9)
    assert _is_finished(corpus, settings)
    del summary["settings"]["edition"]
    (tmp_path / "synth.json").write_text(json.dumps(summary))
    assert not _is_finished(tmp_path, settings)


def test_other_files_are_never_removed(tmp_path: Path) -> None:
    for name in ("notes.txt", "train/mine.wav"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(DataError, match=r"not part of a quickstart corpus"):
            synthesize(folder)
        assert (folder / name).read_text() == "mine"


def test_sizes_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="positive"):
        synthesize(tmp_path, test_utterances=0)


def test_spelled_letters_are_said_as_letters_in_every_accent() -> None:
    espeak = Espeak()
    for voice in sorted({voice.espeak for voices in VOICES.values() for voice in voices}):
        espeak.set_voice(voice)
        article = espeak.phonemes("spell a x").split()[1]
        letter = espeak.phonemes(spoken("spell A X")).split()[1]
        assert letter != article
        assert letter.strip("\u02c8\u02cc")[0] == "e"


def test_a_deep_installation_speaks_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import espeakng_loader

    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    espeak = Espeak()
    espeak.set_voice("en-us")  # the library remembers the voice of whoever spoke last
    speech = espeak.say("hello", words_per_minute=170, pitch=50, pitch_range=50)
    assert len(speech.samples) > 4000


def test_unknown_voices_are_named() -> None:
    with pytest.raises(DataError, match="xx-nowhere"):
        Espeak().set_voice("xx-nowhere")


def test_every_voice_speaks_audibly_and_unlike_the_others() -> None:
    espeak = Espeak()
    spectra = []
    for voice in (voice for voices in VOICES.values() for voice in voices):
        espeak.set_voice(voice.espeak)
        speech = espeak.say(
            "turn off the kitchen light",
            words_per_minute=voice.words_per_minute,
            pitch=voice.pitch,
            pitch_range=50,
        )
        assert 0.8 < len(speech.samples) / speech.sample_rate_hz < 4
        assert len(speech.word_starts) == 5
        power = np.abs(np.fft.rfft(speech.samples / 32768, 1 << 16)) ** 2
        bands = np.log(power[:24000].reshape(48, 500).mean(axis=1) + 1e-9)
        spectra.append(bands - bands.mean())
    distances = np.linalg.norm(np.array(spectra)[:, None] - np.array(spectra), axis=2)
    assert (distances + 100 * np.eye(len(spectra))).min() > 1.5
