"""Exceptions whose messages name the cause and the remedy.

Every mistake of a user raises a subclass of :class:`FaceDetError`; the command-line tools print its message in one
line and exit with status 1. Any other exception is a bug.
"""


class FaceDetError(Exception):
    """Base class of all errors caused by input, files or the installation.

    Example:
        >>> from facedet_mm import build_detector
        >>> try:
        ...     build_detector("scrfd_5g")
        ... except FaceDetError as error:
        ...     print(str(error)[:24])
        unknown model 'scrfd_5g'
    """


class ImageError(FaceDetError):
    """An image is missing, unreadable, truncated or not an image."""


class ModelError(FaceDetError):
    """A model file, config or checkpoint is missing, unknown or does not fit."""


class AnnotationError(FaceDetError):
    """An annotation, prediction or ground-truth file is missing or malformed."""


class TrainingError(FaceDetError):
    """Training cannot start or continue."""


class MissingDependencyError(FaceDetError):
    """A feature needs a package that is not installed; the message contains the command that installs it."""


class VideoError(FaceDetError):
    """A video, camera or stream can't be opened or written, or ends unexpectedly."""
