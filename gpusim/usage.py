"""What `python -m gpusim.train --help` prints: every flag, its meaning, the value it would have."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from gpusim import agents
from gpusim.config import ALIASES, Command
from gpusim.envs import registry
from gpusim.parse import fields_of


def text(command: Command, width: int) -> str:
    """The whole page, in lines of at most `width` characters."""
    learner = command.train.learner
    name = agents.name_of(learner)
    aliases = ", ".join(
        f"--{short} is --{long.replace('_', '-')}" for short, long in ALIASES.items()
    )
    head = [
        "python -m gpusim.train [flags]: train a policy and write a run folder",
        f"environments: {', '.join(registry.names())}; or one of your own: --env "
        "path/to/file.py:Class, --env package.module:Class",
        "options of an environment: --env.NAME VALUE, such as --env.reset-noise-scale 0.2",
        f"learners: {', '.join(agents.names())}",
        f"other spellings: {aliases}; --{name}.NAME is --NAME; --no-NAME is --NAME false",
        "files: --config A.yaml B.yaml; later ones win, and flags win over files",
    ]
    lines = [line for part in head for line in textwrap.wrap(part, width, subsequent_indent="  ")]
    sections = {
        "this command": _entries(command, skip={"train"}),
        "the run": _entries(command.train, skip={"learner", "env_options"}),
        f"the learner, {name}": _entries(learner, skip=set()),
    }
    for title, entries in sections.items():
        lines += ["", f"{title}:"]
        for flag, meaning in entries:
            lines.append(f"  {flag}")
            lines += textwrap.wrap(
                meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return "\n".join(lines)


def _entries(config: Any, skip: set[str]) -> Iterator[tuple[str, str]]:
    """(--flag TYPE, meaning and default) of the fields of a dataclass."""
    meanings = docs(type(config))
    for name, kind in fields_of(type(config)).items():
        if name not in skip:
            value = getattr(config, name)
            default = " ".join(map(str, value)) if isinstance(value, tuple) else value
            flag = f"--{name.replace('_', '-')} {_metavar(kind)}"
            yield flag, f"{meanings.get(name, '')} (default: {default})"


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"{_metavar(get_args(kind)[0])} ..."
    inner = [x for x in get_args(kind) if x is not type(None)]
    return _metavar(inner[0]) if inner else getattr(kind, "__name__", "value").upper()


def docs(kind: type) -> Mapping[str, str]:
    """The string below each field of a dataclass and its bases, on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, below in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return found
