"""Knowledge of the text: closed lists, hotwords, language models, written form.

These modules score sequences of tokens and do not depend on audio. A beam search queries the scores
of all next tokens; see :class:`dualmode.language.knowledge.Knowledge`.
"""
