"""``dualmode pretrain``."""

from __future__ import annotations

from dualmode.commands.train import (
    FreshOption,
    InitOption,
    OutOption,
    RecipeArgument,
    SetOption,
    run,
)


def pretrain(
    recipe: RecipeArgument,
    out: OutOption,
    overrides: SetOption = None,
    init: InitOption = None,
    fresh: FreshOption = False,
) -> None:
    """Pre-train the encoder of a supernet on audio alone (wav2vec 2.0 or BEST-RQ), or on phones.

    Server and device train in the same steps, and pruning starts here. Transcripts are ignored,
    unless pretraining.objective is phones: then every supervision needs aligned phones.
    Ctrl-C saves after the current step and stops; run the same command again to resume.

    \b
    Examples:
      dualmode pretrain speech-pretrain --out runs/pretrained
      dualmode pretrain speech-pretrain --out runs/mine --set 'data.train=\\[data/audio]'
      dualmode pretrain speech-pretrain --init runs/pretrained --out runs/longer
      dualmode pretrain english-phones --out runs/encoder
      dualmode train speech --init runs/pretrained --out runs/speech
    """
    run(recipe, overrides, "pretrain", out, init, fresh)
