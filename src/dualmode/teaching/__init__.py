"""Data that make themselves: a teacher writes down recordings, voices read text aloud.

``label`` turns recordings into a CutSet with text and confidence; ``read`` turns sentences into a
CutSet of speech. A teacher is anything that answers :class:`teachers.Teacher`, a synthesiser
anything that answers :class:`voices.Synthesiser`.
"""
