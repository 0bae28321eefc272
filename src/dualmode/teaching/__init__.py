"""Automatic training data: recordings transcribed by a teacher, and text read by synthesisers.

``label`` turns recordings into a CutSet with texts and confidences; ``read`` turns sentences into a
CutSet of speech. Teachers implement :class:`teachers.Teacher`, synthesisers
:class:`voices.Synthesiser`.
"""
