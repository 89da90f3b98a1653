"""A trained policy as one file: ``python -m gpusim.export RUN --onnx FILE.onnx --npz FILE.npz``.

Observation statistics are inside. The .npz is read by `load`, which needs NumPy alone, neither a
run folder nor an environment; the .onnx by anything that reads ONNX. From Python:

    gpusim.export.save("runs/ant", "policy.npz")
    act = gpusim.export.load("policy.npz")
    action = act(observation)

A policy that remembers acts by `memory, action = act.step(memory, observation)`, from
`memory = act.initial()` on.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpusim import shell

FORMAT = "gpusim policy 3"
DESCRIPTION = "description"  # the member of the .npz that explains the others, JSON
OPSET = 17  # of ONNX: from 2022, which runtimes on robots know too

_ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * (0.5 + 0.5 * np.tanh(0.5 * x)),  # x times the logistic of x
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}
_OUTPUTS = {
    "clip": lambda x: np.clip(x, -1, 1),
    "tanh": np.tanh,
    "choice": lambda x: np.argmax(x, axis=-1),
}


@dataclass(frozen=True, repr=False)
class Policy:
    """The likeliest action for an observation, in float32, by NumPy."""

    arrays: Mapping[str, np.ndarray]  # mean, std; weight0, bias0, ...
    description: Mapping[str, Any]  # what to do with them, and where they come from

    def __call__(self, obs: Any) -> np.ndarray:
        """Actions (*batch, actions) in [-1, 1], or choices (*batch,), for (*batch, features).

        obs: an array, or a dict of arrays if the policy was trained on one; parts that only the
        critic saw need not be there. Raises ValueError for another shape, and if the policy
        remembers.
        """
        if self.description["memory"]:
            raise ValueError(f"{self} remembers: memory, action = policy.step(memory, observation)")
        return self.step((), obs)[1]

    def initial(self, batch: tuple[int, ...] = ()) -> Any:
        """What it remembers when episodes begin: zeros (*batch, size), () for nothing."""
        size = self.description["memory"]
        return np.zeros((*batch, size), np.float32) if size else ()

    def step(self, memory: Any, obs: Any) -> tuple[Any, np.ndarray]:
        """What it remembers now, and the actions of `__call__`."""
        told, arrays = self.description, self.arrays
        x = self._vector(obs)
        x = (x - arrays["mean"]) / arrays["std"]
        if told["observation_clip"] is not None:
            x = np.clip(x, -told["observation_clip"], told["observation_clip"])
        if told["memory"]:
            memory = self._remembered(memory, x)
            x = np.concatenate([x, memory], axis=-1)
        for i in range(told["layers"]):
            x = self._layer(f"weight{i}", f"bias{i}", x)
            x = _ACTIVATIONS[told["activation"]](x) if i + 1 < told["layers"] else x
        return memory, _OUTPUTS[told["output"]](x)

    def _remembered(self, memory: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A gated recurrent unit, see the formula."""
        both = np.concatenate([memory, x], axis=-1)
        gate = lambda name: (
            0.5 + 0.5 * np.tanh(0.5 * self._layer(f"{name}_weight", f"{name}_bias", both))
        )
        reset, keep = gate("reset"), gate("keep")
        some = np.concatenate([reset * memory, x], axis=-1)
        new = np.tanh(self._layer("new_weight", "new_bias", some))
        return keep * memory + (1 - keep) * new

    def _layer(self, weight: str, bias: str, x: np.ndarray) -> np.ndarray:
        return x @ self.arrays[weight].T + self.arrays[bias]

    def _vector(self, obs: Any) -> np.ndarray:
        """The observation as one float32 vector a sample."""
        parts = self.description["observation"]
        given = {name: obs[name] for name in parts} if isinstance(obs, Mapping) else {"": obs}
        arrays = {name: np.asarray(x, np.float32) for name, x in given.items()}
        for name, x in arrays.items():
            if x.shape[-1:] != (parts.get(name),):
                what = f"observation {name!r}".removesuffix(" ''")
                raise ValueError(
                    f"{self}: {what} has shape {x.shape}, not (..., {parts.get(name)})"
                )
        return np.concatenate([*arrays.values()], axis=-1)

    def __repr__(self) -> str:
        parts = " + ".join(
            f"{name} {n}".strip() for name, n in self.description["observation"].items()
        )
        return f"<policy for {self.description['env']}: {parts} observations>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file: .npz for `load`, .onnx for ONNX runtimes."""
        path = Path(path)
        if path.suffix not in (".npz", ".onnx"):
            raise ValueError(f"{path}: a policy is written as .npz or .onnx")
        from gpusim.run.files import write_atomic  # not above: to read needs no locks of Unix

        path.parent.mkdir(parents=True, exist_ok=True)  # as of datasets and runs
        if path.suffix == ".onnx":
            content = onnx_model(self).SerializeToString()
            write_atomic(path, lambda file: file.write(content))
        else:
            told = np.frombuffer(json.dumps(self.description).encode(), np.uint8)
            members = {DESCRIPTION: told, **self.arrays}
            write_atomic(path, lambda file: np.savez(file, allow_pickle=False, **members))
        return path


def load(path: str | os.PathLike[str]) -> Policy:
    """A policy from its .npz file. Raises ValueError for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        told = json.loads(arrays.pop(DESCRIPTION).tobytes())
    except (KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no policy that gpusim.export wrote") from error
    if told["format"] == "gpusim policy 2":  # which could not remember
        told |= {"format": FORMAT, "memory": 0}
    if told["format"] != FORMAT:
        raise ValueError(f"{path}: format {told['format']!r}, this gpusim reads {FORMAT!r}")
    return Policy(arrays, told)


def of_run(run: str | os.PathLike[str], *, checkpoint: str | int | Path | None = None) -> Policy:
    """The policy of a run folder; checkpoint: as in `gpusim.play`. This reads the run, with JAX."""
    import jax

    from gpusim.player import load as player_of

    player = player_of(run, checkpoint)
    obs = jax.eval_shape(player.env.start, jax.random.key(0)).obs
    parts = obs if isinstance(obs, Mapping) else {"": obs}
    if "allowed" in parts:
        raise ValueError(f"{player.config.env}: some choices are not allowed, and a file knows all")
    arrays, told = player.policy.export()
    about = {
        "format": FORMAT,
        "env": player.config.env,
        "control_step_seconds": player.env.dt,
        "observation": {x: parts[x].shape[-1] for x in sorted(parts) if x != "privileged"},
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
    return Policy(arrays, {**about, **told})


def save(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    checkpoint: str | int | Path | None = None,
) -> Path:
    """Write the policy of a run folder as .npz or .onnx."""
    return of_run(run, checkpoint=checkpoint).save(path)


def onnx_model(policy: Policy) -> Any:
    """The policy as an onnx.ModelProto: inputs (samples, features) each, output `action`.

    The input is `observation`, or one for each part, by name; of a policy that remembers also
    `memory`, and `memory_next` is an output. Raises ValueError without onnx.
    """
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        from onnx import (  # pyright: ignore[reportMissingImports]
            TensorProto,
            helper,
            numpy_helper,
        )
    except ImportError as error:
        raise ValueError("writing ONNX needs the package: pip install onnx") from error
    told, nodes = policy.description, []
    constants: dict[str, Any] = dict(policy.arrays)

    def then(operation: str, *inputs: str, **attributes: Any) -> str:
        """One more node; the name of its result."""
        nodes.append(helper.make_node(operation, inputs, [f"x{len(nodes)}"], **attributes))
        return f"x{len(nodes) - 1}"

    def clipped(x: str, limit: float) -> str:
        low, high = f"minus{limit:g}", f"plus{limit:g}"
        constants.update({low: np.float32(-limit), high: np.float32(limit)})
        return then("Clip", x, low, high)

    def activated(x: str) -> str:
        if told["activation"] == "silu":
            return then("Mul", x, then("Sigmoid", x))
        return then(told["activation"].capitalize(), x)  # Tanh, Relu, Elu

    names = [name or "observation" for name in told["observation"]]
    x = then("Concat", *names, axis=1)
    x = then("Div", then("Sub", x, "mean"), "std")
    if told["observation_clip"] is not None:
        x = clipped(x, told["observation_clip"])
    if told["memory"]:
        layer = lambda name, x: then("Gemm", x, f"{name}_weight", f"{name}_bias", transB=1)
        both = then("Concat", "memory", x, axis=1)
        reset, keep = (then("Sigmoid", layer(name, both)) for name in ("reset", "keep"))
        some = then("Concat", then("Mul", reset, "memory"), x, axis=1)
        new = then("Tanh", layer("new", some))
        change = then("Mul", keep, then("Sub", "memory", new))
        nodes.append(helper.make_node("Add", [new, change], ["memory_next"]))
        x = then("Concat", x, "memory_next", axis=1)
    for i in range(told["layers"]):
        x = then("Gemm", x, f"weight{i}", f"bias{i}", transB=1)
        x = activated(x) if i + 1 < told["layers"] else x
    if told["output"] == "choice":
        x = then("ArgMax", x, axis=1, keepdims=0)
    else:
        x = clipped(x, 1.0) if told["output"] == "clip" else then("Tanh", x)
    nodes.append(helper.make_node("Identity", [x], ["action"]))

    choice, actions = told["output"] == "choice", len(constants[f"bias{told['layers'] - 1}"])
    sizes = zip(names, told["observation"].values(), strict=True)
    info = helper.make_tensor_value_info
    inputs = [info(name, TensorProto.FLOAT, ["samples", n]) for name, n in sizes]
    kind = TensorProto.INT64 if choice else TensorProto.FLOAT
    outputs = [info("action", kind, ["samples"] if choice else ["samples", actions])]
    if told["memory"]:
        shape = ["samples", told["memory"]]
        inputs.append(info("memory", TensorProto.FLOAT, shape))
        outputs.append(info("memory_next", TensorProto.FLOAT, shape))
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, tensors)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, producer_name="gpusim", opset_imports=[opset], ir_version=8)
    helper.set_model_props(model, {DESCRIPTION: json.dumps(dict(told))})
    onnx.checker.check_model(model)
    return model


@shell.command("gpusim.export")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line of explanation."""
    about = "Write the policy of a run, observation statistics inside, as one file."
    parser = argparse.ArgumentParser(prog="python -m gpusim.export", description=about)
    parser.add_argument("run", type=Path, help="run folder that gpusim.train wrote")
    parser.add_argument("--onnx", type=Path, metavar="FILE.onnx", help="for ONNX runtimes")
    parser.add_argument(
        "--npz", type=Path, metavar="FILE.npz", help="for NumPy, and gpusim.export.load"
    )
    parser.add_argument(
        "--checkpoint", metavar="STEPS|best|FILE", help="which to read (default: the newest)"
    )
    options = parser.parse_args(argv)
    files = {".onnx": options.onnx, ".npz": options.npz}
    try:
        if not any(files.values()):
            raise ValueError("say where to: --onnx FILE.onnx, --npz FILE.npz, or both")
        for suffix, path in files.items():
            if path and path.suffix != suffix:
                raise ValueError(f"--{suffix[1:]} {path}: the file's name is to end in {suffix}")
        policy = of_run(options.run, checkpoint=options.checkpoint)
        for path in filter(None, files.values()):
            shell.say(f"policy: {policy.save(path)}")
    except (ValueError, OSError) as error:
        return shell.complain("gpusim.export", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
