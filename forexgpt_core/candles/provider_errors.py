"""Why a provider of candles gave nothing, in one line: who, what was asked, what came, what to do.

No text here ever holds a key: what comes from outside is cleared of secrets before it gets here.
"""

from forexgpt_core.errors import ForexGPTError, UnknownName


class ProviderError(ForexGPTError):
    """A provider did not give what was asked for; nothing of its answer was taken.

    Attributes:
        provider: its name as in `source.kind`.
        asked: what was asked for, without secrets.
        came: what came instead.
        mend: what a person can do.
    """

    def __init__(self, provider: str, asked: str, came: str, mend: str) -> None:
        super().__init__(provider, asked, came, mend)  # kept in .args, so it survives pickling
        self.provider, self.asked, self.came, self.mend = provider, asked, came, mend

    def __str__(self) -> str:
        return f"{self.provider}: asked for {self.asked}, {self.came}; {self.mend}"


class KeyMissing(ProviderError):
    """The provider needs a key and none is set."""


class KeyRefused(ProviderError):
    """The provider does not accept the key, or the key's plan does not include what was asked."""


class QuotaUsedUp(ProviderError):
    """Everything the plan allows for the day or month has been asked for: trying again soon is of no use."""


class Passing(ProviderError):
    """Something that may be over after a while.

    Attributes:
        wait_seconds: how long the provider asked to be left alone, None where it did not say.
    """

    def __init__(self, provider: str, asked: str, came: str, mend: str, wait_seconds: float | None = None) -> None:
        super().__init__(provider, asked, came, mend)
        self.args = (provider, asked, came, mend, wait_seconds)
        self.wait_seconds = wait_seconds


class RateLimited(Passing):
    """The provider wants fewer questions per time."""


class Unreachable(Passing):
    """No complete answer came, in every attempt that was worth making."""


class UnknownSymbol(ProviderError, UnknownName):
    """The provider does not know this pair."""


class UnreadableAnswer(ProviderError):
    """An answer came that is not what the provider's format says."""
