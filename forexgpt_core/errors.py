"""Every error raised on purpose descends from ForexGPTError: one clear line, exit code 1, no traceback."""


class ForexGPTError(Exception):
    """Something the user can understand and mend; its text says what was wrong and what was expected."""


class BadInput(ForexGPTError, ValueError):
    """A value from outside (file, option, setting) is not what was expected."""


class UnknownName(ForexGPTError, LookupError):
    """A symbol, timeframe, family, column or other name that does not exist."""


class NotReady(ForexGPTError):
    """An earlier stage has not produced what this one needs yet."""


class BundleError(ForexGPTError):
    """A bundle is missing, altered or does not fit the data it is asked about."""


class StoreError(ForexGPTError):
    """The lake, the database or the registry could not be read or written."""


class StaleVersion(StoreError):
    """Another writer changed a table since it was read, so what was made from it is out of date; nothing was stored."""
