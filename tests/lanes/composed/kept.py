"""Programs that once failed, as small as they could be made: name -> (what it showed, program)."""

KEPT: dict[str, tuple[str, dict]] = {}
