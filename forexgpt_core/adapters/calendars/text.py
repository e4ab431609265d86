"""The text of a calendar file, or why there is none."""

from pathlib import Path

from forexgpt_core.adapters.source_files.refusal import BadFile

_LARGEST = 200 * 2**20  # bytes; ten years of every currency are under 10 MB


def text_of(path: Path) -> str:
    """Return a file's text.

    Raises:
        BadFile: it is missing, empty, too large or not UTF-8.
    """
    if not path.is_file():
        raise BadFile(path, f"there is no file {path}")
    try:
        if path.stat().st_size > _LARGEST:
            raise BadFile(path, f"is larger than {_LARGEST // 2**20} MB, which no calendar is")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise BadFile(path, f"cannot be read: {error.strerror}") from None
    if not text.strip():
        raise BadFile(path, "the file is empty; expected a calendar")
    return text
