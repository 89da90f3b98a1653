"""A page inside a notebook, and as a file."""

import contextlib
import dataclasses
import html
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A page that shows itself as the result of a notebook cell."""

    page: str  # a complete HTML document
    height: int = 480  # pixels

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{self.height}px;border:0;border-radius:8px"
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" style="{style}" allowfullscreen></iframe>'
        )


def write_page(path: Path, text: str) -> Path:
    """Write a page, which is the old one or the new one for who looks meanwhile; returns its path.
    Raises OSError, naming it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode(errors="replace"))  # a folder's name may be no Unicode
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # of a disk that is read-only, say
            part.unlink()
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
    return path
