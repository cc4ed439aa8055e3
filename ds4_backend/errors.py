"""Every error a caller can meet, in one tree.

    DS4Error
    ├── RequestError              the request cannot be served as asked; the caller can fix it
    │   ├── ContextOverflow       prompt + answer do not fit the context
    │   └── UnsupportedContent    images, audio, files: this model reads text
    ├── ModelError                the model cannot be used
    │   ├── UnknownModel          no such name
    │   ├── NotInstalled          known, but its weights are not on this machine
    │   ├── DoesNotFit            this machine's memory or disk is too small for it
    │   └── FileError             the file is damaged, or not what it claims to be
    │       └── UnsupportedType   a tensor's block format has no decoder here
    ├── ConversionError           a checkpoint cannot be converted as asked
    ├── DownloadError             the network, the hub or a checksum said no
    ├── SettingsError             an option, environment variable or config file holds nonsense
    ├── Busy                      too many requests wait already; the same request works later
    ├── TookTooLong               the answer was not complete in the time that the caller gave it
    ├── HostError                 the resident host cannot be started or reached, or is of another version
    └── EngineError               the engine itself failed; a bug, or the machine

A message says what happened, with the numbers, and what to do next. Front ends print `str(error)` and nothing else,
so it must stand alone.
"""


class DS4Error(Exception):
    """Base of every error raised on purpose by ds4-backend."""


class RequestError(DS4Error):
    """The request cannot be served as asked; the caller can fix it."""


class ContextOverflow(RequestError):
    """The prompt, or the prompt and the answer asked for, do not fit the context."""


class UnsupportedContent(RequestError):
    """The request holds content that a text model cannot read."""


class ModelError(DS4Error):
    """The model cannot be used."""


class UnknownModel(ModelError):
    """No model of that name is known."""


class NotInstalled(ModelError):
    """The model is known, but its weights are not on this machine."""


class DoesNotFit(ModelError):
    """This machine's memory or disk is too small for the model."""


class FileError(ModelError):
    """A model file is damaged, or not what it claims to be."""


class UnsupportedType(FileError):
    """A tensor is stored in a block format that has no decoder here."""


class ConversionError(DS4Error):
    """A checkpoint cannot be converted as asked."""


class DownloadError(DS4Error):
    """The network, the hub or a checksum said no."""


class SettingsError(DS4Error):
    """An option, environment variable or config file holds something unusable."""


class Busy(DS4Error):
    """Too many requests wait already; the same request works later."""


class TookTooLong(DS4Error, TimeoutError):
    """The answer was not complete in the time that the caller gave it."""


class HostError(DS4Error):
    """The resident host cannot be started or reached, or is of another version."""


class EngineError(DS4Error):
    """The engine itself failed: a bug, or the machine."""
