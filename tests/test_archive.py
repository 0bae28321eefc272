"""Archives: files found, records kept, killed runs resumed, a local Ray of two workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from dualmode import archive
from dualmode.archive import Counts, recognise_batch, sound_files, transcribe_archive
from dualmode.errors import DataError

Babble = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def recordings(babble: Babble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "deep").mkdir()
    for number in range(5):
        soundfile.write(folder / "deep" / f"{number}.flac", babble(1.0, number), 16000)
    (folder / "broken.wav").write_bytes(b"no sound")
    (folder / "notes.txt").write_text("not audio", encoding="utf-8")
    return folder


class HereAndNow:
    """The part of Ray that is used, in this process, so that a run can be killed at any task."""

    def __init__(self, dies_after: int = 10**9) -> None:
        self.dies_after = dies_after
        self.tasks = 0

    def __enter__(self) -> HereAndNow:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def remote(self, num_cpus: int) -> Callable[[Callable[..., Any]], Any]:
        class Task:
            def __init__(self, work: Callable[..., Any]) -> None:
                self.work = work

            def remote(self, *arguments: Any) -> tuple[Any, ...]:
                return (self.work, arguments[0], arguments[1], tuple(arguments[2]))

        assert num_cpus == 1
        return Task

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return running[:num_returns], running[num_returns:]

    def get(self, reference: tuple[Any, ...]) -> Any:
        if self.tasks == self.dies_after:
            raise KeyboardInterrupt
        self.tasks += 1
        return reference[0](*reference[1:])


def read(out: Path) -> dict[str, Any]:
    if out.suffix == ".jsonl":
        records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra [ray]")
        records = parquet.read_table(out).to_pylist()
    found = {record["file"]: record.get("text") or record.get("error") for record in records}
    assert len(found) == len(records), "a file has two records"
    return found


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_killed_run_goes_on(
    talkative_model: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra [ray]")
    out = tmp_path / f"texts.{ending}"

    def run(dies_after: int) -> tuple[Counts, int]:
        ray = HereAndNow(dies_after)
        monkeypatch.setattr(archive, "_cluster", lambda address: ray)
        counts = transcribe_archive(talkative_model, [recordings], out, address="-", batch=2)
        return counts, ray.tasks

    with pytest.raises(KeyboardInterrupt):
        run(dies_after=1)
    if ending == "jsonl":
        with out.open("a", encoding="utf-8") as file:
            file.write('{"file": "half a li')
    else:
        (out / ".part-killed").write_bytes(b"half a file")
    counts, tasks = run(dies_after=99)
    assert counts.before == 2
    assert counts.recognised + counts.failed == 4
    assert tasks == 2
    assert run(dies_after=0)[0] == Counts(0, 0, 6)
    wanted = {
        record["file"]: record.get("text") or record.get("error")
        for record in recognise_batch(
            str(talkative_model), "server", [str(p) for p in sound_files([recordings])]
        )
    }
    assert read(out) == wanted
    assert sum("not audio" in text for text in wanted.values()) == 1


def test_places(recordings: Path, tmp_path: Path) -> None:
    found = sound_files([recordings / "deep" / "0.flac", recordings])
    assert len(found) == 6
    assert found[0].name == "0.flac"
    for nothing in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError):
            sound_files([nothing])
    with pytest.raises(DataError, match=r"\.jsonl"):
        transcribe_archive(tmp_path, [recordings], tmp_path / "a.csv", address="local")


def test_a_local_ray(talkative_model: Path, recordings: Path, tmp_path: Path) -> None:
    """Two workers at least, of this machine's cores."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    out = tmp_path / "texts.jsonl"
    said: list[tuple[int, int]] = []
    counts = transcribe_archive(
        talkative_model,
        [recordings],
        out,
        address="local",
        batch=3,
        report=lambda done, of: said.append((done, of)),
    )
    assert counts == Counts(5, 1, 0)
    assert said == [(3, 6), (6, 6)]
    assert len(read(out)) == 6
