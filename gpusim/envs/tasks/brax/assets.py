"""Brax's model files."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import importlib.util
import warnings
from pathlib import Path

import mujoco


def load_asset(name: str) -> mujoco.MjModel:
    """Compile one of Brax's models, with bodies that have no joint fused into their parents.

    Brax fuses them on loading, and its humanoid observes 11 links where the file has 13 bodies.
    Importing Brax itself costs a second and prints warnings, so its files are only looked up.
    """
    spec = importlib.util.find_spec("brax")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"{name}: the models come with brax, which is not installed; pip install brax"
        )
    tree = mujoco.MjSpec.from_file(str(Path(spec.origin).parent / "envs" / "assets" / name))
    tree.compiler.fusestatic = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brax's files use deprecated attributes
        return tree.compile()
