"""``dualmode lm``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dualmode.language.ngram_estimate import Estimate
    from dualmode.text import Tokens


def lm(
    text: Annotated[
        Path, typer.Argument(help="A text file with one sentence per line, or .arpa, .arpa.gz.")
    ],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    model: Annotated[
        Path, typer.Option("--model", help="A model, or a shipped one's name, for its tokens.")
    ],
    order: Annotated[int, typer.Option("--order", help="Tokens in the longest n-gram.")] = 6,
    megabytes: Annotated[
        float, typer.Option("--megabytes", help="Largest size; n-grams are pruned to fit.")
    ] = 8.0,
) -> None:
    """Make a language model over a recogniser's tokens, for --lm.

    Lines that cannot be normalised are left out and counted. Digits are spelled out.

    \b
    Examples:
      dualmode lm sentences.txt english.lm --model runs/mine
      dualmode transcribe runs/mine recording.wav --lm english.lm
      dualmode lm kenlm.arpa.gz english.lm --model runs/mine
    """
    from dualmode.language.ngram_build import build
    from dualmode.model.shipped import model_folder
    from dualmode.text import Tokens
    from dualmode.whole_files import check_writable

    check_writable(out)
    tokens = Tokens.load(model_folder(model))
    if text.name.endswith((".arpa", ".arpa.gz")):
        from dualmode.language.arpa import read_arpa

        estimate = read_arpa(text, tokens)
    else:
        estimate = _estimated(text, tokens, order, megabytes)
    made = build(estimate)
    made.write(out)
    counts = ", ".join(str(len(found.keys)) for found in estimate.orders)
    typer.echo(f"{out}: {made.nbytes / 1e6:.1f} MB; n-grams of orders 1 to {made.order}: {counts}")


def _estimated(path: Path, tokens: Tokens, order: int, megabytes: float) -> Estimate:
    from dualmode.config import TextConfig
    from dualmode.errors import LanguageError, TextError
    from dualmode.language.ngram_estimate import estimate
    from dualmode.text import normalize

    upper = any(piece.isupper() for piece in tokens.pieces[2:])
    config = TextConfig(case="upper" if upper else "lower", digits="spell")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageError(f"{path}: cannot read the text: {error}") from None
    texts, left_out = [], 0
    for line in lines:
        try:
            texts.append(tokens.encode(normalize(line, config)))
        except TextError:
            left_out += bool(line.strip())
    if left_out:
        typer.secho(f"{left_out} of {len(lines)} lines left out", fg="yellow", err=True)
    return estimate(texts, tokens, order, megabytes)
