"""What can go wrong outside the compiler's own stages. The message of each is what the user reads; the command line prints it and exits with 1."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can mend. The message says what and where, in one or a few lines."""

    code = 1  # what the command line exits with


class SpecError(UserError):
    """A spec that does not compile. The message is its rendered diagnostics."""


class WeightsError(UserError):
    """A safetensors file that cannot be read, or whose tensors are not those of the model."""


class DataError(UserError):
    """Data that cannot be read, do not fit the model or are too few."""


class RunError(UserError):
    """A run directory that is not what was asked for: missing, occupied, or of another model."""


class Stopped(UserError):
    """A run that a signal ended, its last whole step saved. Exits as the signal would."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.code = 128 + number
