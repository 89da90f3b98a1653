"""How an unknown name is answered: with the nearest that is known, and all of them."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The name that was meant perhaps, as a question and a space; nothing where none is near."""
    spelt = {k.lower(): k for k in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.lower(), spelt, n=1)
    begun = [k for k in sorted(spelt) if len(name) > 2 and k.startswith(name.lower())]
    found = [spelt[k] for k in (*near, *begun)]
    return f"did you mean {found[0]!r}? " if found else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say what is not known, the nearest name that is, and all of them."""
    known = sorted(known)
    if not known:
        return f"unknown {what} {name!r}: there is none with a name"
    return f"unknown {what} {name!r}; {listed(name, known)}"


def listed(name: str, known: Iterable[str]) -> str:
    """The nearest name that is known, as a question, and all of them."""
    hint = nearest(name, known)
    return f"{hint}{'There' if hint else 'there'} are: {', '.join(known)}"
