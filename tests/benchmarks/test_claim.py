"""The comparison of supernet and recognisers trained apart, at a size of seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import jiwer
import numpy as np
import pytest
import soundfile
import yaml
from lhotse import CutSet
from rich.console import Console

from benchmarks.claim import __main__ as claim
from benchmarks.claim import corpora, plots, stages
from benchmarks.claim.comparisons import APART, comparisons, over_seeds
from benchmarks.claim.corpora import Corpora
from benchmarks.claim.more_voices import VOICES, more_voices
from benchmarks.claim.plots import cost_points
from benchmarks.claim.profiles import PROFILES, Profile
from benchmarks.claim.report import markdown
from benchmarks.claim.results import cost_to_match
from benchmarks.claim.rows import MAIN, SPARSITIES, SPLIT, ablations, choose
from benchmarks.claim.scores import Scored, Utterances
from benchmarks.claim.stages import Comparison
from dualmode.data import render
from dualmode.data.manifests import read_cuts
from dualmode.errors import CheckpointError, DataError
from dualmode.evaluation.results import Evaluation, Scores
from dualmode.evaluation.scoring import evaluate
from dualmode.evaluation.significance import compare, holm
from dualmode.evaluation.wer import ErrorCounts
from dualmode.model.subnet import Subnet
from dualmode.recipe_files import load_recipe
from dualmode.recognizer import Recognizer, load

QUIET = Console(quiet=True)
NOWHERE = Corpora((Path("train"),), (Path("dev"),), (Path("test"),), (Path("more"),))
HIDING = {"entries": 12, "code_width": 16, "projection_width": 16, "distractors": 8}
GROUPS = ("main", "split", "scores", "objectives", "ablations")
ONE_PROCESS = ("training.processes=1", "data.workers=0")


@pytest.fixture(scope="module")
def comparison(
    tiny_recipe: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    """Tiny recipes on the tiny corpus, heard from test's six utterances at the end."""
    out = tmp_path_factory.mktemp("claim")
    tree = yaml.safe_load(tiny_recipe.read_text())
    tree["pruning"] = {**tree["pruning"], "sparsities": [0.7]}
    device = {**tree["training"]["device_subnet"], "sparsity": None}
    tree["training"] = {**tree["training"], "sampled_subnet": False, "device_subnet": device}
    finetune, pretrain = out / "finetune.yaml", out / "pretrain.yaml"
    finetune.write_text(yaml.safe_dump(tree))
    tree["training"] = {**tree["training"], "objective": "pretrain"}
    tree["data"] = {**tree["data"], "time_masks": 0, "frequency_masks": 0}
    pretrain.write_text(yaml.safe_dump({**tree, "pretraining": HIDING}))
    speech = Corpora(*((tiny_corpus / split,) for split in ("train", "dev", "test")))
    profile = Profile(
        "tiny",
        "seconds",
        {"pretrain": pretrain, "finetune": finetune},
        {"pretrain": 6, "finetune": 8},
        {"pretrain": 20, "finetune": 20},
        lambda *_: speech,
        ONE_PROCESS,
    )
    return Comparison(profile, speech, out, QUIET)


def garbled(recognizer: Recognizer, name: str, text: str) -> str:
    """A text with words left out at random: others for other weights, and for other recognisers."""
    weights = recognizer.model.model.encoder.norm.gain.detach().numpy().tobytes()  # type: ignore[attr-defined]
    rng = np.random.default_rng(crc32(weights + f"{name} {text}".encode()))
    return " ".join(word for word in text.split() if rng.random() < 0.7)


@pytest.fixture(scope="module", autouse=True)
def telling() -> Iterator[None]:
    """After eight steps all models are equally silent, so evaluations get texts that tell them
    apart."""

    def tell(
        recognizer: Recognizer, cuts: CutSet, subnets: Mapping[str, Subnet], **options: Any
    ) -> Evaluation:
        found = evaluate(recognizer, cuts, subnets, **options)
        results = {}
        for name, result in found.results.items():
            texts = tuple(garbled(recognizer, name, u.reference) for u in found.utterances)
            scores = Scores.of(found.utterances, texts)
            results[name] = replace(result, hypotheses=texts, scores=scores)
        return replace(found, results=results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "evaluate", tell)
        yield


@pytest.fixture(scope="module")
def results(comparison: Comparison, one_thread: None) -> dict[str, Any]:
    """Rows A1 to E, one seed."""
    assert claim.run(comparison, MAIN, [1])
    found: dict[str, Any] = json.loads((comparison.out / "results.json").read_text())
    return found


def test_every_row_has_the_recognisers_that_it_trained(results: dict[str, Any]) -> None:
    trained = {name: {"server", "device"} & set(found) for name, found in results["rows"].items()}
    both = {"server", "device"}
    assert trained == {
        "A1": {"server"},
        "A2": {"device"},
        "B1": {"server"},
        "B2": {"device"},
        "C": both,
        "D": both,
        "E": both,
    }
    server, device = (
        results["rows"]["E"][recogniser]["size"] for recogniser in ("server", "device")
    )
    assert server["bytes"]["dense fp32"] == 4 * server["parameters"]
    assert "sparse int8" not in server["bytes"]
    assert device["parameters"] < server["parameters"]
    assert device["bytes"]["sparse int8"] < server["bytes"]["dense int8"]


def test_rates_are_those_of_the_models_that_rows_left(
    comparison: Comparison, results: dict[str, Any]
) -> None:
    """Told again by the models themselves, and counted by jiwer."""
    cuts = read_cuts(comparison.speech.test)
    references = [cut.supervisions[0].text or "" for cut in cuts]
    words = sum(len(text.split()) for text in references)
    rates = set()
    for row, who in (("A1", "server"), ("A2", "device"), ("E", "server"), ("E", "device")):
        recognizer = load(comparison.out / "seed-1" / row)
        counted = jiwer.process_words(
            references, [garbled(recognizer, who, text) for text in references]
        )
        errors = counted.substitutions + counted.deletions + counted.insertions
        scored = results["rows"][row][who]
        assert sum(map(sum, scored["errors"]["1"].values())) == errors
        assert scored["wer"]["mean"] == pytest.approx(errors / words)
        assert scored["wer"]["seeds"] == [scored["wer"]["mean"]]
        low, high = scored["wer"]["ci95"]
        assert low < scored["wer"]["mean"] < high
        rates.add(scored["wer"]["mean"])
    assert len(rates) > 2


def test_costs_of_pre_training_are_counted_in(results: dict[str, Any]) -> None:
    rows = results["rows"]
    assert rows["A1"]["cost"]["steps"] == rows["C"]["cost"]["steps"] == 8
    assert rows["B1"]["cost"]["steps"] == rows["E"]["cost"]["steps"] == 14
    flops = {name: row["cost"]["flops"] for name, row in rows.items()}
    # All fine-tunings hear the same audio, so rows that begin alike differ by what they add.
    assert rows["A1"]["cost"]["audio_hours"] == rows["C"]["cost"]["audio_hours"]
    saved = flops["A1"] + flops["A2"] - flops["C"]
    seconds = 3600 * rows["C"]["cost"]["audio_hours"]
    assert saved == pytest.approx(front_end_flops() * seconds, rel=1e-6)
    assert flops["D"] - flops["B1"] == pytest.approx(flops["C"] - flops["A1"], rel=1e-6)
    pretraining_of_both = flops["E"] - flops["C"]
    assert 0 < flops["B1"] - flops["A1"] < pretraining_of_both
    assert rows["E"]["curves"]["1"][-1]["flops"] == pytest.approx(flops["E"])


def front_end_flops() -> float:
    """Of the subsampling, which a supernet's recognisers share: forward and backward, a second of
    an utterance of 5 s, by hand."""
    channels, width = 4, 16
    first = 9 * channels * 249 * 39  # 500 mel frames of 80 bins, in strides of 2
    second = 9 * channels**2 * 124 * 19
    projection = 124 * channels * 19 * width
    # A multiplication and an addition; backward to inputs, but for the features, and to weights.
    return 2 * (2 * first + 3 * (second + projection)) / 5


def test_all_rows_are_compared_on_the_same_utterances(results: dict[str, Any]) -> None:
    pairs = {(p["first"], p["second"], p["recogniser"]) for p in results["comparisons"]}
    assert pairs == {
        ("E", other, recogniser)
        for recogniser, others in (("server", "A1 B1 C D"), ("device", "A2 B2 C D"))
        for other in others.split()
    } | {("C", "A1", "server"), ("C", "A2", "device"), ("D", "B1", "server"), ("D", "B2", "device")}
    lengths = {
        len(errors)
        for row in results["rows"].values()
        for recogniser in {"server", "device"} & set(row)
        for kinds in row[recogniser]["errors"].values()
        for errors in kinds.values()
    }
    assert lengths == {6}


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Any]:
    """Draw results; the axes by the name of the picture."""

    def draw(results: dict[str, Any]) -> Any:
        from matplotlib import pyplot

        axes: dict[str, Any] = {}
        monkeypatch.setattr(
            plots, "_saved", lambda figure, path: axes.update({path.name: figure.axes}) or path
        )
        plots.draw(results, tmp_path)
        pyplot.close("all")
        return axes

    return draw


def lines(axis: Any) -> dict[str, list[tuple[float, float]]]:
    """The points of each line that the legend names."""
    return {
        line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axis.get_lines()
        if not line.get_label().startswith("_")
    }


def test_there_is_a_table_and_pictures_of_it(
    comparison: Comparison, results: dict[str, Any], drawn: Callable[[dict[str, Any]], Any]
) -> None:
    table = (comparison.out / "results.md").read_text()
    for row in MAIN:
        assert f"| {row.name} | {row.title} |" in table
    assert "| E - B1 | server |" in table
    for picture in ("wer.png", "curves.png"):
        assert (comparison.out / picture).read_bytes().startswith(b"\x89PNG")
    axes = drawn(results)
    assert set(axes) == {"wer.png", "curves.png"}
    (rates,) = axes["wer.png"]
    shown = [label.get_text() for label in rates.get_yticklabels()]
    assert shown == [f"{row.name}: {row.title}" for row in MAIN]
    marked = {
        (round(x, 6), round(y, 2))
        for line in rates.get_lines()
        if line.get_marker() == "o"
        for x, y in line.get_xydata()
    }
    assert marked == {
        (round(100 * found[who]["wer"]["mean"], 6), round(place + shift, 2))
        for place, found in enumerate(results["rows"].values())
        for who, shift in (("server", -0.12), ("device", 0.12))
        if who in found
    }
    for axis, who in zip(axes["curves.png"], ("server", "device"), strict=True):
        assert axis.get_title() == who
        points = cost_points(results, who)
        assert {*points} == {row for row, found in results["rows"].items() if who in found}
        assert lines(axis) == {
            row: [(flops, pytest.approx(100 * rate)) for flops, rate in series]
            for row, (series,) in points.items()
        }


def test_what_is_done_is_not_done_again(
    comparison: Comparison, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(stages, "train", never)
    monkeypatch.setattr(stages, "evaluate", never)
    assert claim.run(comparison, MAIN, [1])
    again = json.loads((comparison.out / "results.json").read_text())
    assert again["rows"] == results["rows"]


def test_another_test_set_is_scored_again_without_training(
    comparison: Comparison,
    results: dict[str, Any],
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(stages, "train", never)
    out = tmp_path / "copy"
    shutil.copytree(comparison.out, out)
    wider = Corpora(
        comparison.speech.train,
        comparison.speech.dev,
        (tiny_corpus / "test", tiny_corpus / "dev"),
    )
    profile = replace(comparison.profile, prepare=lambda *_: wider)
    monkeypatch.setitem(PROFILES, "tiny", profile)
    given = ["--profile", "tiny", "--out", str(out), "--score-only", "--rows"]
    # Rows of two test sets are not put into one table.
    assert claim.main([*given, "A1"]) == 1
    assert claim.main([*given, "main"]) == 0
    found = json.loads((out / "results.json").read_text())
    assert len(found["utterances"]["id"]) == 10
    assert set(found["rows"]) == {row.name for row in MAIN}
    old, new = (table["rows"]["E"]["device"]["errors"]["1"] for table in (results, found))
    place = {name: at for at, name in enumerate(found["utterances"]["id"])}
    kept = [place[name] for name in results["utterances"]["id"]]
    assert {kind: [new[kind][at] for at in kept] for kind in new} == old
    monkeypatch.setattr(stages, "evaluate", never)
    assert claim.main([*given, "main"]) == 0


def test_results_of_other_settings_are_not_taken_for_ours(
    comparison: Comparison, results: dict[str, Any]
) -> None:
    longer = replace(comparison, scale=2.0)
    with pytest.raises(CheckpointError, match="other settings"):
        claim.run(longer, MAIN, [1])


def test_a_stopped_comparison_reports_what_is_done(
    comparison: Comparison, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "train", stopped)
    assert not claim.run(comparison, choose(MAIN, "A1,E"), [1, 2])
    found = json.loads((comparison.out / "results.json").read_text())
    assert found["seeds"] == [1]  # of seed 2 there is nothing to tell
    assert found["rows"]["A1"]["server"]["wer"]["seeds"] == [
        results["rows"]["A1"]["server"]["wer"]["mean"]
    ]


@pytest.mark.parametrize("name", PROFILES)
def test_every_stage_of_every_profile_has_a_valid_recipe(name: str) -> None:
    profile = PROFILES[name]
    rows = profile.rows
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        for stage in row.stage.chain:
            init = Path("before") if stage.init else None
            recipe = profile.recipe(stage, 3, NOWHERE, init, scale=0.5)
            kind = "pretrain" if recipe.training.objective == "pretrain" else "finetune"
            assert kind == stage.kind
            assert recipe.training.steps == round(profile.steps[kind] * stage.length * 0.5)
            assert recipe.training.minutes is None
            assert ("more" in recipe.data.train) == (kind == "pretrain")
            assert (recipe.init.model is None) == (stage.init is None)
        assert row.subnets(recipe)


def test_an_ablation_changes_one_thing() -> None:
    profile = PROFILES["small"]
    rows = {row.name: row.stage for row in profile.rows}
    plain = leaves(profile.recipe(rows["E"], 1, NOWHERE, None).model_dump())
    changed = {
        name: {
            key
            for key, value in leaves(profile.recipe(stage, 1, NOWHERE, None).model_dump()).items()
            if value != plain[key]
        }
        for name, stage in rows.items()
        if name.startswith("E-") and not name.startswith("E-split")
    }
    one_sparsity = {"pruning.sparsities"}
    assert changed == {
        "E-no-distillation": {"training.distillation"},
        "E-lattice-distillation": {"training.distillation"},
        "E-global-allocation": {"pruning.allocation"},
        "E-one-shot": {"pruning.end"},
        "E-no-lookahead": {"training.device_subnet.lookahead_frames"},
        "E-keep-masks": {"init.masks"},
        "E-sampled": {"training.sampled_subnet"},
        "E-shared-norms": {"model.norms"},
        "E-three-quarters": {"training.steps"},
        "E-corners": set(),
        "E-sparsities": one_sparsity
        | {"training.sampled_subnet", "training.device_subnet.sparsity"},
        **{f"E-{sparsity}": one_sparsity for sparsity in (0.5, 0.85, 0.9)},
    }


def leaves(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= (
            leaves(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
        )
    return found


def test_corners_and_several_sparsities_are_scored(
    comparison: Comparison, results: dict[str, Any], drawn: Callable[[dict[str, Any]], Any]
) -> None:
    base = load_recipe(comparison.profile.recipes["finetune"])
    rows = (*MAIN, *ablations(base))
    chosen = choose(rows, "E,E-corners,E-sparsities,E-0.5")
    assert claim.run(comparison, chosen, [1])
    results = json.loads((comparison.out / "results.json").read_text())
    found = results["rows"]
    assert {"full context, sparse", "streaming, dense"} <= set(found["E-corners"])
    sparsities = {
        found["E-sparsities"][f"device at {s:g}"]["size"]["bytes"]["sparse int8"]
        for s in SPARSITIES
    }
    assert len(sparsities) == len(SPARSITIES)
    # A sampled subnet counts as device, which shares nothing but the front end.
    third = (
        found["A2"]["cost"]["flops"] - front_end_flops() * 3600 * found["A2"]["cost"]["audio_hours"]
    )
    more = found["E-sparsities"]["cost"]["flops"] - found["E"]["cost"]["flops"]
    assert more == pytest.approx(third, rel=1e-6)
    assert "| device at 0.85 |" in (comparison.out / "results.md").read_text()
    (axis,) = drawn(results)["sparsity.png"]
    wer = {s: found["E-sparsities"][f"device at {s:g}"]["wer"]["mean"] for s in SPARSITIES}
    alone = {0.5: found["E-0.5"]["device"]["wer"]["mean"], 0.7: found["E"]["device"]["wer"]["mean"]}
    assert lines(axis) == {
        label: [(pytest.approx(100 * s), pytest.approx(100 * rate)) for s, rate in series.items()]
        for label, series in (("one supernet for all", wer), ("a supernet each", alone))
    }
    pairs = {
        (p["first"], p["recogniser"], p["second"], p["second_recogniser"])
        for p in results["comparisons"]
        if p["first"] in {"E-corners", "E-sparsities", "E-0.5"}
    }
    assert pairs == {
        ("E-sparsities", "server", "E", "server"),
        ("E-sparsities", "device at 0.5", "E-0.5", "device"),
        ("E-sparsities", "device at 0.7", "E", "device"),
        ("E-0.5", "server", "E", "server"),
    } | {
        ("E-corners", corner, "E", who)
        for corner in ("full context, sparse", "streaming, dense")
        for who in ("server", "device")
    }


def test_the_command_says_how_it_ended(
    comparison: Comparison, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "tiny", comparison.profile)
    given = ["--profile", "tiny", "--out", str(comparison.out), "--rows"]
    assert claim.main([*given, "main"]) == 0
    assert claim.main([*given, "main,E-none"]) == 1

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "train", stopped)
    assert claim.main([*given, "A1", "--only-seed", "2"]) == 3
    (comparison.out / "results.json").unlink()
    assert claim.main([*given, "all", "--seeds", "2", "--report-only"]) == 0
    found = json.loads((comparison.out / "results.json").read_text())
    assert {row.name for row in MAIN} <= set(found["rows"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a code other than 0 would be a crash")
    assert claim.main([*given, "A1", "--only-seed", "2"]) == 0


def test_speakers_that_are_not_known_do_not_make_seeds_independent() -> None:
    nobody = utterances(["", ""], "xx")
    found = Scored(nobody, (1, 2), (counts([1, 5]), counts([1, 5])), {})
    once = Scored(nobody, (1,), (counts([1, 5]),), {})
    assert found.summary()["wer"]["ci95"] == once.summary()["wer"]["ci95"] == [0.1, 0.5]


def test_rows_are_chosen_by_name_or_group() -> None:
    rows = (*MAIN, *ablations(load_recipe("quickstart")))
    assert [row.name for row in choose(rows, "main")] == [row.name for row in MAIN]
    assert [row.name for row in choose(rows, "E,A1")] == ["A1", "E"]
    assert len(choose(rows, "all")) == len(choose(rows, "main")) + len(choose(rows, "ablations"))
    assert choose(rows, "main,E-corners") == [*MAIN, *choose(rows, "E-corners")]
    with pytest.raises(ValueError, match="no row F"):
        choose(rows, "A1,F")
    everything = PROFILES["small"].rows
    groups = [choose(everything, group) for group in GROUPS]
    assert sorted(row.name for row in everything) == sorted(r.name for g in groups for r in g)


def test_the_other_objective_changes_pre_training_alone() -> None:
    best_rq = {"pretraining.objective", "pretraining.random_quantizer.entries"}
    profile = PROFILES["small"]
    stages = {row.name: row.stage for row in profile.rows}
    for ours, theirs, changed in (
        (stages["E-split-best-rq"], stages["E-split"], set()),
        (stages["E-split-best-rq"].init, stages["E-split"].init, best_rq),
    ):
        assert ours is not None
        assert theirs is not None
        first, second = (
            leaves(profile.recipe(stage, 1, NOWHERE, None).model_dump()) for stage in (ours, theirs)
        )
        assert {key for key, value in first.items() if value != second[key]} == changed


@pytest.mark.parametrize(
    ("base", "name", "changed"),
    [
        ("C-split", "activation", {"pruning.score"}),
        ("C-split", "taylor", {"pruning.score"}),
        ("C-split", "device-share", {"training.device_share_when_pruned"}),
        ("E-split", "activation", {"pruning.score"}),
        ("E-split", "taylor", {"pruning.score"}),
    ],
)
def test_a_score_changes_fine_tuning_alone(base: str, name: str, changed: set[str]) -> None:
    profile = PROFILES["small"]
    stages = {row.name: row.stage for row in profile.rows}
    ours, theirs = stages[f"{base}-{name}"], stages[base]
    assert ours.init == theirs.init
    first, second = (
        leaves(profile.recipe(stage, 1, NOWHERE, None).model_dump()) for stage in (ours, theirs)
    )
    assert {key for key, value in first.items() if value != second[key]} == changed
    assert stages[f"{base}-{name}-corners"] is ours


def counts(errors: list[int]) -> ErrorCounts:
    none = np.zeros(len(errors), dtype=np.int64)
    return ErrorCounts(none + 10, none, none, np.asarray(errors, dtype=np.int64))


def utterances(speakers: Sequence[str], corpora: Sequence[str]) -> Utterances:
    """A test set of ten words an utterance."""
    ids = tuple(str(at) for at in range(len(speakers)))
    return Utterances("", ids, tuple(speakers), tuple(corpora), (10,) * len(ids))


def test_a_recogniser_trained_alone_is_charged_for_the_other_as_well() -> None:
    def row(flops: float, **curve: float) -> dict[str, Any]:
        return {"cost": {"flops": flops}, "curves": {"1": [{"flops": flops / 2, **curve}]}}

    both = {"server": 0.4, "device": 0.5}
    rows = {"A1": row(2e12, server=0.3), "A2": row(4e12, device=0.6), "C": row(6e12, **both)}
    assert cost_points({"rows": rows}, "server") == {"A1": [[(3.0, 0.3)]], "C": [[(3.0, 0.4)]]}
    assert cost_points({"rows": rows}, "device") == {"A2": [[(3.0, 0.6)]], "C": [[(3.0, 0.5)]]}
    split = {"F": row(2e12, device=0.3), "C-split": row(6e12, **both), "A1-half": rows["A1"]}
    assert cost_points({"rows": split}, "device") == {
        "F": [[(2.0, 0.3)]],
        "C-split": [[(3.0, 0.5)]],
    }
    del split["A1-half"]
    assert cost_points({"rows": split}, "device") == {
        "F (without A1-half)": [[(1.0, 0.3)]],
        "C-split": [[(3.0, 0.5)]],
    }


def test_seeds_are_averaged_and_speakers_drawn_together() -> None:
    speakers = ["ann", "ann", "bob", "bob", "ann", "bob"]
    each = (counts([1, 1, 5, 5, 9, 0]), counts([3, 3, 7, 7, 9, 0]))
    found = Scored(utterances(speakers, "xxxxyy"), (1, 2), each, {}).summary()
    assert found["wer"]["mean"] == pytest.approx(0.416667, abs=1e-6)
    assert found["wer"]["seeds"] == pytest.approx([21 / 60, 29 / 60])
    assert found["corpora"]["x"]["mean"] == pytest.approx(0.4)
    # Two speakers: the bootstrap draws one or the other, whatever the seeds, in each corpus.
    assert found["corpora"]["x"]["ci95"] == pytest.approx([0.2, 0.6])
    assert found["corpora"]["y"]["ci95"] == pytest.approx([0.0, 0.9])
    assert found["wer"]["ci95"] == pytest.approx([(4 * 0.2) / 6, (4 * 0.6 + 2 * 0.9) / 6])


def test_cost_to_match_is_read_off_the_curves() -> None:
    def row(flops: float, **curve: list[float]) -> dict[str, Any]:
        names = list(curve)
        points = [
            {"flops": flops * (at + 1) / 4, "settled": float(at > 0)}
            | {n: curve[n][at] for n in names}
            for at in range(4)
        ]
        return {"cost": {"flops": flops}, "curves": {"1": points}}

    # Neither the best of B1 nor E's first rates are of what is kept; B2 was best before its end.
    table = {
        "B1": row(40.0, server=[0.1, 0.5, 0.3, 0.2]),
        "B2": row(60.0, device=[0.9, 0.6, 0.3, 0.4]),
        "E": row(96.0, server=[0.1, 0.2, 0.1, 0.1], device=[0.1, 0.4, 0.3, 0.2]),
    }
    reached = {"reached": pytest.approx(0.72), "earliest": pytest.approx(0.48)}
    assert cost_to_match(table) == {"E": {"1": reached}}
    table["E"] = row(96.0, server=[0.5] * 4, device=[0.1] * 4)
    assert cost_to_match(table) == {"E": {"1": {**reached, "reached": None}}}
    table = {"A1-half": table["B1"], "A2-half": table["B2"], "C-split": table["E"]}
    assert cost_to_match(table) == {"C-split": {"1": {**reached, "reached": None}}}


def test_a_row_is_compared_with_the_cost_of_both_it_replaces() -> None:
    """And on common seeds only: F has none of seed 2."""
    test = utterances("abcdef", "xxxyyy")

    def scored(*seeds: int) -> Scored:
        return Scored(test, seeds, tuple(counts([s] * 6) for s in seeds), {"sparsity": 0.0})

    def costs(**flops: float) -> dict[str, Any]:
        each = {seed[1:]: {"flops": f, "minutes": 2 * f} for seed, f in flops.items()}
        return {"costs": each}

    table = {
        "A1-half": costs(s1=20.0, s2=30.0),
        "A2-half": costs(s1=30.0, s2=30.0),
        "C-split": costs(s1=40.0, s2=50.0),
        "F": costs(s1=12.0),
    }
    found = comparisons(
        {
            ("A1-half", "server"): scored(1, 2),
            ("A2-half", "device"): scored(1, 2),
            ("C-split", "server"): scored(1, 2),
            ("C-split", "device"): scored(1, 2),
            ("F", "device"): scored(1),
        },
        table,
    )
    assert [(pair["first"], pair["second"]) for pair in found] == [
        ("C-split", "A1-half"),
        ("C-split", "A2-half"),
        ("C-split", "F"),
    ]
    server, device, small = (pair["cost"] for pair in found)
    assert server == {"of": ["A1-half", "A2-half"], "flops": 90 / 110, "minutes": 90 / 110}
    assert device == {**server, "of": ["A2-half", "A1-half"]}
    assert small == {"of": ["F", "A1-half"], "flops": 40 / 32, "minutes": 40 / 32}
    names = {row.name for row in (*MAIN, *SPLIT)}
    assert {*APART, *APART.values()} <= names


def test_all_figures_can_be_computed_again(results: dict[str, Any]) -> None:
    """From what the file lists of every utterance."""
    listed = results["utterances"]
    assert len(listed["id"]) == len(set(listed["id"])) == 6
    assert all(len(column) == 6 for column in listed.values())

    def errors(row: str, who: str) -> ErrorCounts:
        kinds = results["rows"][row][who]["errors"]["1"]
        columns = (kinds[kind] for kind in ("insertions", "deletions", "substitutions"))
        return ErrorCounts(np.array(listed["words"]), *map(np.array, columns))

    for pair in results["comparisons"]:
        first = errors(pair["first"], pair["recogniser"])
        second = errors(pair["second"], pair["second_recogniser"])
        found = compare(first, second, listed["speaker"], listed["corpus"])
        assert pair["difference"] == pytest.approx(found.difference)
        assert (pair["p_value"], tuple(pair["ci95"])) == (found.p_value, found.ci95)
    p_values = [pair["p_value"] for pair in results["comparisons"]]
    assert [pair["p_holm"] for pair in results["comparisons"]] == holm(p_values)


def test_seeds_have_an_interval_of_their_own(results: dict[str, Any]) -> None:
    assert all(pair["ci95_over_seeds"] is None for pair in results["comparisons"])
    # Two seeds whose differences are -0.1 and -0.3: Student's 12.7 standard errors of 0.1.
    assert over_seeds([-0.1, -0.3]) == pytest.approx([-0.2 - 1.2706, -0.2 + 1.2706], abs=1e-4)


def test_rows_that_had_other_amounts_of_audio_a_step_are_warned_of(
    results: dict[str, Any],
) -> None:
    assert "Not all rows are comparable" not in markdown(results)
    twice = {**results["rows"]["E"], "step_seconds": [2 * results["rows"]["E"]["step_seconds"][0]]}
    other = {**results, "rows": {**results["rows"], "E": twice}}
    assert "Not all rows are comparable" in markdown(other)


def libri(folder: Path, part: str, speaker: int, sentences: list[str]) -> None:
    """A part of LibriSpeech with one chapter, as it is unpacked."""
    chapter = folder / part / str(speaker) / "7"
    chapter.mkdir(parents=True)
    lines = []
    for number, sentence in enumerate(sentences):
        name = f"{speaker}-7-{number:04d}"
        lines.append(f"{name} {sentence.upper()}")
        tone = np.sin(np.arange(32000) * (0.05 + 0.01 * number)) * 8000
        soundfile.write(chapter / f"{name}.flac", tone.astype(np.int16), 16000)
    (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A LibriSpeech of seconds: every part, two speakers in training."""
    folder = tmp_path / "LibriSpeech"
    sentences = ["he was not here", "open the door", "and so they went", "it is late"]
    for speaker, part in enumerate(p for parts in corpora.LIBRISPEECH.values() for p in parts):
        libri(folder, part, 100 + speaker, sentences)
    return folder


def test_librispeech_trains_and_is_scored_by_its_parts(unpacked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    speech = corpora.librispeech(out / "data", unpacked, QUIET)
    assert len(speech.train) == 3
    profile = PROFILES["librispeech"]
    small = (
        *("model.width=16", "model.layers=1", "model.heads=2", "model.feed_forward=32"),
        *("model.subsampling_channels=4", "text.vocabulary_size=30"),
    )
    heads = ("model.predictor_width=16", "model.joiner_width=16", *ONE_PROCESS)
    tiny = Profile(
        profile.name,
        "",
        profile.recipes,
        {"pretrain": 2, "finetune": 2},
        {"pretrain": 20, "finetune": 20},
        profile.prepare,
        (*profile.changes, *small, *heads),
    )
    comparison = Comparison(tiny, speech, out, QUIET)
    assert claim.run(comparison, choose(MAIN, "E"), [1])
    found = json.loads((out / "results.json").read_text())
    assert set(found["rows"]["E"]["device"]["corpora"]) == {"test-clean", "test-other"}
    again = corpora.librispeech(out / "data", unpacked, QUIET)
    assert again == speech


def test_librispeech_without_its_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder LibriSpeech"):
        corpora.librispeech(tmp_path, tmp_path / "none", QUIET)


def test_more_voices_read_new_sentences(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = more_voices(tiny_corpus, tmp_path / "more", each=2)
    cuts = read_cuts(folder)
    spoken = [cut.supervisions[0] for cut in cuts]
    assert {s.speaker for s in spoken} == {voice.name for voice in VOICES}
    texts = [s.text for s in spoken]
    assert len(texts) == len(set(texts)) == 2 * len(VOICES)
    known = read_cuts([tiny_corpus / split for split in ("train", "dev", "test")])
    assert not set(texts) & {cut.supervisions[0].text for cut in known}
    levels = {cut.id: float(np.abs(cut.load_audio()).max()) for cut in cuts}
    assert min(levels.values()) > 0.15
    heard = {s.speaker: soundfile.read(folder / "audio" / f"{s.id}.flac")[0] for s in spoken}
    assert len({samples.tobytes() for samples in heard.values()}) == len(VOICES)
    before = (folder / "cuts.jsonl.gz").stat().st_mtime_ns
    more_voices(tiny_corpus, folder, each=2)
    assert (folder / "cuts.jsonl.gz").stat().st_mtime_ns == before


def test_more_voices_are_of_no_other_part() -> None:
    """Neither name nor variant; an accent without a variant is a voice, too."""
    others = [voice for voices in render.VOICES.values() for voice in voices]
    used = {voice.espeak.partition("+")[2] or voice.espeak for voice in others}
    new = {voice.espeak.partition("+")[2] or voice.espeak for voice in VOICES}
    assert len(new) == len(VOICES) == 20
    assert not new & used
    assert not {voice.name for voice in VOICES} & {voice.name for voice in others}


def test_an_4_is_taken_from_the_tables_with_speakers_apart(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    for split, speakers in (("train", 10), ("test", 2)):
        lines = ["id\tpath\ttext\tspeaker\tcorpus"]
        for number in range(speakers):
            tone = np.sin(np.arange(16000) * 0.1 * (number + 1)) * 8000
            soundfile.write(tables / f"{split}{number}.wav", tone.astype(np.int16), 16000)
            corpus = "an4" if number else "other"
            lines.append(f"{split}{number}\t{split}{number}.wav\tYES\t{split}-s{number}\t{corpus}")
        (tables / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    learnt = corpora._from_table(tables / "train.tsv", tmp_path / "an4-train", only="an4")
    train, dev = corpora._split_speakers(learnt, tmp_path)
    ids = [{cut.id for cut in read_cuts(folder)} for folder in (train, dev)]
    assert ids[1] == {"train1", "train9"}
    assert ids[0] == {f"train{number}" for number in range(2, 9)}
