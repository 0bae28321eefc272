"""What an application knows of the text: closed lists, hotwords, language models, written form.

Everything here scores token histories and knows nothing of audio. A beam search asks it what each
token would cost; see :class:`dualmode.language.knowledge.Knowledge`.
"""
