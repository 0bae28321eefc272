"""The results as Markdown tables."""

from __future__ import annotations

from typing import Any

RECOGNISERS = ("server", "device")
_FORMATS = ("dense fp32", "dense int8", "sparse int8")


def markdown(results: dict[str, Any]) -> str:
    """Tables of rows with intervals and costs, of sizes, and of comparisons."""
    return "\n".join(
        [
            *_rows(results),
            "",
            *_warnings(results),
            *_by_corpus(results),
            *_sizes(results),
            "",
            *_comparisons(results),
            *_costs_to_match(results),
            "",
        ]
    )


def _rows(results: dict[str, Any]) -> list[str]:
    test = results["utterances"]
    known = len({*zip(test["corpus"], test["speaker"], strict=True)}) if all(test["speaker"]) else 0
    lines = [
        f"Profile `{results['profile']}`, lengths times {results['scale']:g}. WER in percent on "
        f"{len(test['id'])} utterances of {sum(test['words'])} words and {known or 'unknown'} "
        "speakers: mean over seeds (95 % interval by speakers within corpora; every seed). The "
        "intervals do not include the variation between seeds. Costs are means over seeds and "
        "include pre-training. TFLOP are forward and backward passes, in which the masked weights "
        "of device count as dense, since training computes with them. Minutes are by the clock.",
        "",
        "| row | | seeds | server | device | audio h | minutes | TFLOP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results["rows"].items():
        cost = row["cost"]
        cells = [_rates(row[r]["wer"]) if r in row else "" for r in RECOGNISERS]
        lines.append(
            f"| {name} | {row['title']} | {len(row['seeds'])} | {cells[0]} | {cells[1]} "
            f"| {cost['audio_hours']:.1f} | {cost['minutes']:.1f} | {cost['flops'] / 1e12:.3g} |"
        )
        lines += [
            f"| | {other} | | | {_rates(found['wer'])} | | | |"
            for other, found in row.items()
            if other not in RECOGNISERS and isinstance(found, dict) and "wer" in found
        ]
    return lines


def _warnings(results: dict[str, Any]) -> list[str]:
    """Warn if rows differ in the number of processes in addition to their titles."""
    filled = [
        seconds / row["batch_seconds"]
        for row in results["rows"].values()
        for seconds in row["step_seconds"]
    ]
    low, high = min(filled), max(filled)
    if high <= 1.5 * low:
        return []
    return [
        f"**Not all rows are comparable**: a step had {low:.1f} to {high:.1f} times the audio of a "
        "batch of its recipe, which is per process; was the number of processes the same?",
        "",
    ]


def _rates(wer: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in wer["ci95"])
    each = ", ".join(f"{100 * rate:.1f}" for rate in wer["seeds"])
    return f"{100 * wer['mean']:.2f} ({low:.1f} to {high:.1f}; {each})"


def _by_corpus(results: dict[str, Any]) -> list[str]:
    """Rates of each corpus of the test set; empty if there is only one."""
    scored = [
        (name, recogniser, row[recogniser]["corpora"])
        for name, row in results["rows"].items()
        for recogniser in RECOGNISERS
        if recogniser in row
    ]
    corpora = sorted({corpus for *_, found in scored for corpus in found})
    if len(corpora) < 2:
        return []
    lines = [
        f"| row | recogniser | {' | '.join(corpora)} |",
        f"|---|---|{'---|' * len(corpora)}",
    ]
    for name, recogniser, found in scored:
        cells = [_rates(found[corpus]) for corpus in corpora]
        lines.append(f"| {name} | {recogniser} | {' | '.join(cells)} |")
    return [*lines, ""]


def _sizes(results: dict[str, Any]) -> list[str]:
    """Sizes of recognisers, in one line for all rows whose recognisers are alike."""
    alike: dict[str, list[str]] = {}
    for name, row in results["rows"].items():
        for recogniser in (r for r in RECOGNISERS if r in row):
            size = row[recogniser]["size"]
            bytes_of = (size["bytes"].get(form) for form in _FORMATS)
            cells = [
                recogniser,
                f"{size['parameters'] / 1e6:.2f} M",
                *(f"{count / 1e6:.2f}" if count else "" for count in bytes_of),
            ]
            alike.setdefault(" | ".join(cells), []).append(name)
    return [
        "Sizes in MB, computed from shapes and masks:",
        "",
        f"| recogniser | parameters | {' | '.join(_FORMATS)} | rows |",
        f"|---|---|{'---|' * len(_FORMATS)}---|",
        *(f"| {cells} | {', '.join(names)} |" for cells, names in alike.items()),
    ]


def _comparisons(results: dict[str, Any]) -> list[str]:
    lines = [
        "Differences in points. For these trained models: 95 % by speakers within corpora; p by a "
        "sign test over speakers, and corrected for the number of lines by Holm's method. For "
        "models trained with other seeds: 95 % over seeds (Student's t). Work (FLOPs) and time (by "
        "the clock) are those of the first row over those of the rows in the column `of`.",
        "",
        "| compared | recogniser | difference | relative | 95 % | p | corrected | every seed "
        "| 95 % over seeds | work | time | of |",
        f"|{'---|' * 12}",
    ]
    for pair in results["comparisons"]:
        recogniser, other = pair["recogniser"], pair["second_recogniser"]
        who = recogniser if recogniser == other else f"{recogniser} - {other}"
        each = ", ".join(f"{100 * difference:+.1f}" for difference in pair["seeds"].values())
        over, cost = pair["ci95_over_seeds"], pair["cost"]
        lines.append(
            f"| {pair['first']} - {pair['second']} | {who} "
            f"| {100 * pair['difference']:+.2f} | {100 * pair['relative']:+.1f} % "
            f"| {_interval(pair['ci95'])} | {pair['p_value']:.4f} | {pair['p_holm']:.4f} | {each} "
            f"| {_interval(over) if over else ''} | {_ratio(cost['flops'])} "
            f"| {_ratio(cost['minutes'])} | {' + '.join(cost['of'])} |"
        )
    return lines


def _costs_to_match(results: dict[str, Any]) -> list[str]:
    lines = []
    for whole, seeds in results["cost_to_match"].items():
        for seed, share in seeds.items():
            reached, earliest = share["reached"], share["earliest"]
            when = (
                "never reaches"
                if reached is None
                else f"after {reached:.2f} of their FLOPs reaches"
            )
            lines += [
                "",
                f"Seed {seed}: {whole} {when} the best rates, on the development set, of the two "
                f"recognisers trained apart (earliest possible, with fixed masks: {earliest:.2f}).",
            ]
    return lines


def _interval(bounds: list[float]) -> str:
    return f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
