"""What AstrID raises.

A wrong argument is a `ValueError` at the door. Everything else that a user can
cause or mend is one of these, and its message names the file or key, the value
and the remedy.
"""


class AstridError(Exception):
    """Base of the errors that a user can understand and mend."""


class UsageError(AstridError):
    """A command line or configuration that cannot be carried out."""


class DataError(AstridError):
    """An input file that cannot be read or does not hold what it should."""


class SchemaError(AstridError):
    """Stored data that breaks the contract of `astrid.schema`."""


class AlgorithmError(AstridError):
    """A method that did not converge; the message holds the numbers."""


class CellSkipped(AstridError):
    """A cell with nothing to do; the message is the reason."""
