"""Exceptions for users. Each message says what is wrong, where, and what to do about it."""


class DualmodeError(Exception):
    """Base class of all errors raised on purpose; the CLI prints them without a traceback."""


class RecipeError(DualmodeError):
    """A recipe or an override is invalid; the message names the key."""


class AudioError(DualmodeError):
    """A file cannot be read as audio, or its samples cannot be used."""


class DataError(DualmodeError):
    """A table, a manifest or a CutSet cannot be used."""


class TextError(DualmodeError):
    """A transcript cannot be normalised or tokenised."""


class LanguageError(DualmodeError):
    """A phrase list, a grammar, hotwords or a language model cannot be used."""


class SubnetError(DualmodeError):
    """The model does not contain the requested subnet, or the subnet cannot do what was asked."""


class ModelError(DualmodeError):
    """A model directory is missing, incomplete or corrupt."""


class CheckpointError(DualmodeError):
    """A training checkpoint is missing, corrupt, or belongs to another recipe."""


class ExportError(DualmodeError):
    """A model cannot be written for another runtime."""
