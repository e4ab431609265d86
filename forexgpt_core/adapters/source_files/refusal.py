"""Why a file cannot be read, in one line: file, row, column, value and what was expected."""

from pathlib import Path

from forexgpt_core.errors import BadInput


class BadFile(BadInput):
    """A file of candles or events is not what was expected; nothing was taken from it.

    Attributes:
        path: the file.
        problem: what is wrong, and what was expected.
        row: number of the first bad data row, counting from 1; None when it is not about a row.
        column: the column's name in the file, if it is about one.
        value: what stands there, if it is about a value.
    """

    def __init__(
        self, path: Path, problem: str, row: int | None = None, column: str | None = None, value: str | None = None
    ) -> None:
        super().__init__(path, problem, row, column, value)  # kept in .args, so it survives pickling
        self.path, self.problem, self.row, self.column, self.value = path, problem, row, column, value

    def __str__(self) -> str:
        place = [
            f"row {self.row}" if self.row is not None else "",
            f"column '{self.column}'" if self.column is not None else "",
            f"value '{_shortened(self.value)}'" if self.value is not None else "",
        ]
        where = ", ".join(part for part in place if part)
        return f"{self.path.name}: {where}: {self.problem}" if where else f"{self.path.name}: {self.problem}"


def _shortened(text: str) -> str:
    single = " ".join(text.split())
    return single if len(single) <= 60 else f"{single[:57]}..."
