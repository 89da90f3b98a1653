"""What `python -m gpusim.train --help` prints: every flag, its meaning, the value it would have."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from gpusim import agents
from gpusim.config import Command
from gpusim.envs import registry
from gpusim.parse import fields_of
from gpusim.spellings import SPELLINGS

# What people look for, in this order; a flag named nowhere is the learner's.
GROUPS: Mapping[str, Sequence[str]] = {
    "what to train": ("env", "physics", "learner", "total_steps", "num_envs", "seed", "num_seeds"),
    "the run folder": (
        *(
            "out",
            "config",
            "resume",
            "restore",
            "restore_parts",
            "dry_run",
            "checkpoint_seconds",
            "keep_checkpoints",
            "keep_best",
            "archive_steps",
        ),
        *("tensorboard", "csv", "wandb", "profile"),
    ),
    "episodes and evaluations": (
        *("episode_length", "training_episode_length"),
        *("evaluations", "evaluation_steps", "eval_envs"),
    ),
    "when to end, besides --steps": (
        *("max_updates", "max_seconds", "stop_return", "patience", "max_failures"),
    ),
    "speed and devices": ("devices", "spmd", "unroll_length", "updates_per_call"),
    "several processes as one run": ("coordinator", "num_processes", "process_id"),
}


def text(command: Command, width: int) -> str:
    """The whole page, in lines of at most `width` characters."""
    name = agents.name_of(command.train.learner)
    head = [
        "python -m gpusim.train --env ENV [flags]: train a policy and write a run folder",
        "environments (python -m gpusim.list says more):",
        *(f"  {title}: {', '.join(its)}" for title, its in registry.families().items()),
        "  one of your own: --env path/to/file.py:Class, --env package.module:Class",
        f"learners: {', '.join(agents.names())}",
    ]
    wrap = lambda part: textwrap.wrap(part, width, subsequent_indent="    ")
    lines = [line for part in head for line in wrap(part)]
    entries = _entries(command, name)
    rest = [flag for flag in entries if not any(flag in group for group in GROUPS.values())]
    for title, flags in (*GROUPS.items(), (f"how {name} learns", rest)):
        lines += ["", f"{title}:", *_section(entries, flags, width)]
    tail = [
        "options of an environment: --env.NAME VALUE, such as --env.reset-noise-scale 0.2",
        "files: --config A.yaml B.yaml; later ones win, and flags win over files",
        f"spellings: --{name}.NAME is --NAME; --no-NAME is --NAME false; 3e5 is 300000; lists are "
        "128 128 or 128,128",
    ]
    wrapped = [textwrap.wrap(part, width, subsequent_indent="  ") for part in tail]
    return "\n".join([*lines, "", *itertools.chain(*wrapped)])


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _section(entries: Mapping[str, tuple[str, str]], flags: Iterable[str], width: int) -> list[str]:
    lines = []
    for name in flags:
        flag, meaning = entries[name]
        others = [f"--{_dashed(short)}" for short, long in SPELLINGS.items() if name in long]
        meaning += f" Also {', '.join(others)}." if others else ""
        lines += [f"  {flag}", *textwrap.wrap(meaning, width, break_on_hyphens=False, **_INDENT)]
    return lines


_INDENT: Any = {"initial_indent": " " * 6, "subsequent_indent": " " * 6}


def _entries(command: Command, learner: str) -> dict[str, tuple[str, str]]:
    """name -> (--flag TYPE, meaning and default), of everything that can be said."""
    found = {"learner": ("--learner NAME", f"What learns. (default: {learner})")}
    for config, skip in (
        (command, {"train"}),
        (command.train, {"learner", "env_options"}),
        (command.train.learner, set()),
    ):
        found |= {name: (flag, meaning) for name, flag, meaning in _fields(config, skip)}
    return found


def _fields(config: Any, skip: set[str]) -> Iterator[tuple[str, str, str]]:
    """(name, --flag TYPE, meaning and default) of the fields of a dataclass."""
    meanings = docs(type(config))
    for name, kind in fields_of(type(config)).items():
        if name not in skip:
            value = getattr(config, name)
            default = " ".join(map(str, value)) or "none" if isinstance(value, tuple) else value
            default = f"{value:_}" if type(value) is int and value >= 10**5 else default
            other = f"/ --no-{_dashed(name)}" if kind is bool else _metavar(kind)
            flag = f"--{_dashed(name)} {other}"
            yield name, flag, f"{meanings.get(name, '')} (default: {default})"


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
            if not (isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)):
                continue
            if "ClassVar" not in ast.unparse(field.annotation):
                found[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return found
