"""A page inside a notebook."""

import dataclasses
import html


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
