"""A smaller program that fails in the same way.

Edits are tried in turn, the boldest first, and kept while the program still fails; most make
programs that JAX does not take, which is found out by trying. The result is a fixed point of all
edits, unless time runs out.
"""

import ast
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from tests.lanes.composed import program as programs

Path = tuple[int, ...]  # statement, block, statement, block..., statement
CALLS = ("lax.cond", "lax.switch", "jax.jit", "jax.checkpoint", "kernel", "with_jvp", "with_vjp")


def shrink(
    program: dict,
    fails: Callable[[dict], bool],
    seconds: float = 120,
    types: Callable[[dict], dict] | None = None,
) -> dict:
    """The smallest program found within so much time of processors. `types`: as types_of."""
    stop, types = spent() + seconds, types or types_of
    progress = True
    while progress:
        progress = False
        for edits in EDITS:
            smaller = _first(program, edits, types, fails, stop)
            while smaller:
                program, progress = smaller, True
                smaller = _first(program, edits, types, fails, stop)
    return program


def spent() -> float:
    """Seconds that processors gave to this process and its children."""
    return sum(os.times()[:4])


def _first(program, edits, types, fails, stop) -> dict | None:
    """The first of the edited programs that is smaller and fails."""
    known, limit = types(program), cost(program)
    for candidate in edits(program, known):
        if spent() > stop:
            return None
        if cost(candidate) < limit and ends(candidate) and fails(candidate):
            return candidate
    return None


def cost(program: dict) -> float:
    """Length of the text, and a little for its numbers."""
    text = repr({k: v for k, v in program.items() if k != "seed"})
    return len(text) + 1e-3 * sum(int(n) for n in re.findall(r"\b\d{1,4}\b", text))


def ends(program: dict) -> bool:
    """Whether every `while` still counts its trips as the generator wrote it."""
    for _, (_, template, _, blocks) in walk(program["body"]):
        if template.startswith("lax.while_loop"):
            (asked, test, more), (params, inner, out) = blocks
            tests = [s[0] for s in test if "<" in s[1] and s[2][:1] == asked[0][:1]]
            both = [s[0] for s in test if s[1] == "{0} & {1}" and s[2][0] in tests]
            step = [s[0] for s in inner if s[1] == "{0} + 1" and s[2] == params[0][:1]]
            if more not in tests + both or out[:1] != step[:1] or not step:
                return False
    return True


# -- the parts -------------------------------------------------------------------------------------


def walk(body, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every statement with its path, later ones and outer ones first."""
    for k in reversed(range(len(body))):
        yield (*path, k), body[k]
        for j, block in enumerate(body[k][3]):
            yield from walk(block[1], (*path, k, j))


def replaced(body: list, path: Path, new: list) -> list:
    """The body with other statements in place of the one at the path."""
    k = path[0]
    if len(path) == 1:
        return [*body[:k], *new, *body[k + 1 :]]
    targets, template, operands, blocks = body[k]
    params, inner, results = blocks[path[1]]
    block = (params, replaced(inner, path[2:], new), results)
    blocks = [*blocks[: path[1]], block, *blocks[path[1] + 1 :]]
    return [*body[:k], (targets, template, operands, blocks), *body[k + 1 :]]


def renamed(part: Any, by: dict[str, Any]) -> Any:
    """The part with other names where they are read."""
    if isinstance(part, str):
        return by.get(part, part)
    if isinstance(part, tuple) and len(part) == 4:  # a statement
        return (part[0], part[1], renamed(part[2], by), [renamed(b, by) for b in part[3]])
    if isinstance(part, tuple) and len(part) == 3:  # a block
        return (part[0], renamed(part[1], by), renamed(part[2], by))
    return [renamed(p, by) for p in part]


def flat(part: Any) -> list[str]:
    return [part] if isinstance(part, str) else [n for p in part for n in flat(p)]


def read(body, results) -> set[str]:
    """All names that are read."""
    found = set(flat(results))
    for _, statement in walk(body):
        found |= set(flat(statement[2]))
        for block in statement[3]:
            found |= set(flat(block[2]))
    return found


def live(body: list, results) -> list:
    """The statements that something reads."""
    while True:
        needed = read(body, results)
        dead = [path for path, s in walk(body) if not needed & set(flat(s[0]))]
        if not dead:
            return body
        body = replaced(body, dead[0], [])


def types_of(program: dict) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every name, in the one world."""
    found: dict[str, Any] = {}

    def note(names, values):
        if isinstance(names, str):
            aval = jax.typeof(values)
            found[names] = str(aval.dtype), aval.shape
        else:
            for n, v in zip(names, values, strict=True):
                note(n, v)

    def noted(body):
        out = []
        for targets, template, operands, blocks in body:
            blocks = [(p, [note_of(p), *noted(b)] if p else noted(b), r) for p, b, r in blocks]
            out += [(targets, template, operands, blocks), note_of(targets)]
        return out

    def note_of(names):
        return ("_", f"note({names!r}, {programs.text(names)})", [], [])

    whole = program | {"body": [note_of([a[0] for a in program["args"]]), *noted(program["body"])]}
    one = program | {"worlds": (), "args": [(*a[:4], ()) for a in program["args"]]}
    with jax.enable_x64(program["x64"]):
        fn = programs.function(whole, lambda f: f, note=note)
        jax.eval_shape(fn, *programs.arguments(one))
    return found


def constant(dtype: str, shape: tuple[int, ...]) -> str | None:
    """A constant of this type as Python; there is none for keys."""
    if dtype.startswith("key"):
        return None
    value = {"b": "True", "f": "0.5"}.get(dtype[0], "1")
    return f"jnp.full({shape}, {value}, '{dtype}')" if shape else f"jnp.array({value}, '{dtype}')"


# -- edits: each yields programs -------------------------------------------------------------------


def without_results(program, known):
    names, outside = program["results"], program["outside"]
    if any(isinstance(x, tuple) for x in outside):
        yield program | {"outside": [x for x in outside if not isinstance(x, tuple)]}
    for k in range(len(names)):
        yield _with_results(program, [k])
    for k in range(len(names)):
        yield _with_results(program, [j for j in range(len(names)) if j != k])


def _with_results(program, kept):
    outside = [
        (x[0], x[1], tuple((a, kept.index(r)) for a, r in x[2] if r in kept))
        if isinstance(x, tuple)
        else x
        for x in program["outside"]
    ]
    names = [program["results"][k] for k in kept]
    return program | {"results": names, "outside": outside, "body": live(program["body"], names)}


def without_surroundings(program, known):
    for key in ("inside", "outside"):
        for k in range(len(program[key])):
            yield program | {key: [x for j, x in enumerate(program[key]) if j != k]}
    for k, x in enumerate(program["outside"]):
        if isinstance(x, tuple):
            for j in range(len(x[2])):
                scan = (*x[:2], (*x[2][:j], *x[2][j + 1 :]))
                yield program | {
                    "outside": [*program["outside"][:k], scan, *program["outside"][k + 1 :]]
                }
    yield program | {"closed": []}
    yield program | {"limits": {}}
    for name in program["limits"]:
        yield program | {"limits": {k: v for k, v in program["limits"].items() if k != name}}
    for level in range(len(program["worlds"])):
        drop = lambda axes, level=level: (*axes[:level], *axes[level + 1 :])
        args = [(*a[:4], drop(a[4])) for a in program["args"]]
        yield program | {"worlds": drop(program["worlds"]), "args": args}
        for n in (1, 2, 3, 17):
            worlds = (*program["worlds"][:level], n, *program["worlds"][level + 1 :])
            yield program | {"worlds": worlds}
    yield program | {"x64": False}
    if program["float"] == "float64":
        yield ast.literal_eval(repr(program).replace("float64", "float32"))


def without_statements(program, known):
    body, results = program["body"], program["results"]
    yield program | {"body": live(body, results)}
    paths = list(walk(body))
    for size in (len(body) // 2, len(body) // 4):  # the first half at once, by constants
        for start in range(0, len(body), size) if size > 1 else ():
            gone = [n for s in body[start : start + size] for n in flat(s[0])]
            by = {n: constant(*known[n]) for n in gone}
            if None not in by.values():
                rest = [*body[:start], *body[start + size :]]
                new, out = renamed(rest, by), renamed(results, by)
                yield program | {"body": live(new, out), "results": out}
    for path, (targets, _, operands, _) in paths:
        near = [n for n in flat(operands) if n in known]
        near += [a[0] for a in program["args"]]
        for others in (near, []):
            by: dict[str, Any] = {}
            for n in flat(targets):
                if n not in known:
                    continue
                alike = [m for m in others if known[m] == known[n]]
                by[n] = alike[0] if alike else constant(*known[n])
            if None not in by.values():
                new, out = renamed(replaced(body, path, []), by), renamed(results, by)
                yield program | {"body": live(new, out), "results": out}


def inlined(program, known):
    """A block in place of the statement that has it."""
    body, results = program["body"], program["results"]
    for path, (targets, template, operands, blocks) in walk(body):
        for params, inner, out in blocks:
            given = _first_trip(template, operands)
            by = dict(_pairs(params, given))
            after: dict[str, Any] = dict(_pairs(targets, renamed(out, by)))
            for n in flat(targets):  # what is not alike: stacked results
                new = after.get(n)
                if new in known and n in known and known[new] != known[n]:
                    after[n] = constant(*known[n])
            if None in by.values() or None in after.values():
                continue
            new = renamed(replaced(body, path, renamed(inner, by)), after)
            new, ends = renamed(new, after), renamed(results, after)
            yield program | {"body": live(new, ends), "results": ends}


def _first_trip(template, operands):
    """What the parameters of a block are, the first time it runs."""
    if template.startswith("lax.fori_loop"):
        return ["jnp.int32(0)", operands[0]]
    if template.startswith("lax.scan"):
        return [operands[0], [f"{x}[0]" for x in operands[1]]]
    if template.startswith("jax.vmap"):
        return [f"{x}[0]" for x in operands]
    return operands[-1:]


def _pairs(names, values):
    if isinstance(names, str):
        yield names, values if isinstance(values, str) else programs.text(values)
    elif not isinstance(values, str):
        for n, v in zip(names, values, strict=False):
            yield from _pairs(n, v)


def narrowed(program, known):
    """Less by a carried value, an operand or a result of branches, a row, a stacked result."""
    body = program["body"]
    for path, statement in walk(body):
        for column in _columns(statement):
            yield program | {"body": live(replaced(body, path, [column]), program["results"])}


def _columns(statement):
    """The statement without one of its columns."""
    targets, template, operands, blocks = statement
    less = lambda names, k: [*names[:k], *names[k + 1 :]]
    head = template.split("(")[0]
    if head in ("lax.fori_loop", "lax.while_loop"):
        for k in range(len(targets)):
            (*asked, (params, inner, out)) = blocks
            asked = [([less(p[0], k)], b, r) for p, b, r in asked]
            block = ([*params[:-1], less(params[-1], k)], inner, less(out, k))
            given = [less(operands[0], k), *operands[1:]]
            yield less(targets, k), template, given, [*asked, block]
    elif head == "lax.scan":
        ((carry, rows), inner, (out, ys)) = blocks[0]
        for k in range(len(out)):
            block = ([less(carry, k), rows], inner, [less(out, k), ys])
            yield (
                [less(targets[0], k), targets[1]],
                template,
                [less(operands[0], k), operands[1]],
                [block],
            )
        for k in range(len(ys)):
            block = ([carry, rows], inner, [out, less(ys, k)])
            yield [targets[0], less(targets[1], k)], template, operands, [block]
        for k in range(len(rows)) if len(rows) > 1 else ():
            block = ([carry, less(rows, k)], inner, [out, ys])
            yield targets, template, [operands[0], less(operands[1], k)], [block]
    elif head in CALLS:
        for k in range(len(targets)) if len(targets) > 1 else ():
            yield less(targets, k), template, operands, [(p, b, less(r, k)) for p, b, r in blocks]
        for k in range(len(operands[-1])):
            given = [*operands[:-1], less(operands[-1], k)]
            yield targets, template, given, [([less(p[0], k)], b, r) for p, b, r in blocks]


def with_constants(program, known):
    """A constant, or a parameter, in place of an operand or of a result of a block."""
    body = program["body"]
    for path, (targets, template, operands, blocks) in walk(body):
        for n in dict.fromkeys(flat(operands)):
            new = constant(*known[n]) if n in known else None
            if new:
                one = (targets, template, renamed(operands, {n: new}), blocks)
                yield program | {"body": live(replaced(body, path, [one]), program["results"])}
        for j, (params, inner, out) in enumerate(blocks):
            for n in dict.fromkeys(flat(out)):
                own = [
                    m for m in flat(params) if m in known and n in known and known[m] == known[n]
                ]
                for new in [*own[:2], *([constant(*known[n])] if n in known else [])]:
                    if new and new != n:
                        block = (params, inner, renamed(out, {n: new}))
                        one = (targets, template, operands, [*blocks[:j], block, *blocks[j + 1 :]])
                        yield program | {
                            "body": live(replaced(body, path, [one]), program["results"])
                        }


def smaller_numbers(program, known):
    """Smaller numbers in the text of statements: trips, sizes, places."""
    for path, (targets, template, operands, blocks) in walk(program["body"]):
        for match in re.finditer(r"(?<![\w.{])\d+(?![\w.}])", template):
            n = int(match[0])
            for less in sorted({0, 1, 2, 3, n // 2, n - 1}):
                if less < n and not (less == 0 and template[: match.start()].endswith("% ")):
                    text = template[: match.start()] + str(less) + template[match.end() :]
                    one = (targets, text, operands, blocks)
                    yield program | {"body": replaced(program["body"], path, [one])}


def smaller_arguments(program, known):
    used = read(program["body"], program["results"])
    for k, (name, dtype, shape, numbers, axes) in enumerate(program["args"]):
        others = [*program["args"][:k], *program["args"][k + 1 :]]
        carried = [a for x in program["outside"] if isinstance(x, tuple) for a, _ in x[2]]
        if name not in used and k not in carried and others:
            outside = [
                (*x[:2], tuple((a - (a > k), r) for a, r in x[2])) if isinstance(x, tuple) else x
                for x in program["outside"]
            ]
            closed = [n for n in program["closed"] if n != name]
            yield program | {"args": others, "outside": outside, "closed": closed}
        changes = [(name, dtype, shape, n, axes) for n in ("small", "grid") if n != numbers]
        changes += [
            (name, dtype, shape[1:], numbers, axes),
            (name, dtype, shape[:-1], numbers, axes),
        ]
        for d, n in enumerate(shape):
            for less in sorted({1, 2, 3, n // 2, n - 1, 17, 129}):
                if 0 < less < n:
                    changes.append(
                        (name, dtype, (*shape[:d], less, *shape[d + 1 :]), numbers, axes)
                    )
        changes.append((name, dtype, shape, numbers, tuple(None if a is None else 0 for a in axes)))
        changes.append((name, dtype, shape, numbers, tuple(0 for _ in axes)))
        for new in changes:
            yield program | {"args": [*program["args"][:k], new, *program["args"][k + 1 :]]}


EDITS = (
    *(without_results, without_surroundings, without_statements, inlined, narrowed),
    *(with_constants, smaller_numbers, smaller_arguments),
)
