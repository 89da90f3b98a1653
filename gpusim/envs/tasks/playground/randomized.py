"""Playground's domain randomisation: the numbers of a model that a world draws for each episode.

After `domain_randomize` of its tasks, from the same random numbers. What MuJoCo's compiler derives
from masses stays that of the file, as there: these tasks have `derive_constants` False.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gpusim import physics
from gpusim.physics import Some
from gpusim.physics.linalg import Array

FEET_ON_FLOOR = ((0,), (1,)), (0, 1)  # of G1's pairs: friction along two tangents
FINGERS = ("if", "mf", "rf")  # of the hand, beside the thumb
PALM_AND_LINKS = (
    "palm",
    *(f"{finger}_{link}" for finger in FINGERS for link in ("bs", "px", "md", "ds")),
    *(f"th_{link}" for link in ("mp", "bs", "px", "ds")),
)
FINGERTIPS = tuple(f"{finger}_tip" for finger in ("th", *FINGERS))


class Draws:
    """Uniform numbers, each drawn with a key that is split off from the last one."""

    def __init__(self, key: jax.Array):
        self.key = key

    def __call__(self, low: float, high: float, *shape: int) -> jax.Array:
        self.key, own = jax.random.split(self.key)
        return jax.random.uniform(own, shape, minval=low, maxval=high)


def of_go1(model: physics.Model, key: jax.Array) -> dict[str, Some]:
    """Friction of the floor, of the joints, armature; where the trunk's mass is, and masses; angles
    at which joints are straight."""
    draw, joints = Draws(key), model.nv - 6
    trunk, floor = int(model.mj.jnt_bodyid[0]), int(model.mj.geom("floor").id)
    dofs, angles = range(6, model.nv), range(7, model.nq)
    return {
        "geom_friction": Some(draw(0.4, 1.0), (floor, 0)),
        "dof_frictionloss": _scaled(model.dof_frictionloss, dofs, draw(0.9, 1.1, joints)),
        "dof_armature": _scaled(model.dof_armature, dofs, draw(1.0, 1.05, joints)),
        "body_ipos": _shifted(model.body_ipos, [trunk], draw(-0.05, 0.05, 3)),
        "body_mass": _masses(model, draw, trunk),
        "qpos0": _shifted(model.qpos0, angles, draw(-0.05, 0.05, joints)),
    }


def of_g1(model: physics.Model, key: jax.Array) -> dict[str, Some]:
    """Friction of the feet on the floor, of the joints, armature; masses; angles at which joints
    are straight."""
    draw, joints = Draws(key), model.nv - 6
    dofs, angles = range(6, model.nv), range(7, model.nq)
    slides = jnp.broadcast_to(draw(0.4, 1.0), (2, 2))
    return {
        "pair_friction": Some(slides, FEET_ON_FLOOR),
        "dof_frictionloss": _scaled(model.dof_frictionloss, dofs, draw(0.5, 2.0, joints)),
        "dof_armature": _scaled(model.dof_armature, dofs, draw(1.0, 1.05, joints)),
        "body_mass": _masses(model, draw, int(model.mj.body("torso_link").id)),
        "qpos0": _shifted(model.qpos0, angles, draw(-0.05, 0.05, joints)),
    }


def of_leap(model: physics.Model, key: jax.Array) -> dict[str, Some]:
    """Friction of the finger tips; mass, inertia and centre of the cube; the hand's joints: angles
    at which they are straight, friction, armature, damping, gains; its masses."""
    mj, nu = model.mj, model.nu
    place = lambda kind, names: [int(getattr(mj, kind)(name).id) for name in names]
    tips, links = place("geom", FINGERTIPS), place("body", PALM_AND_LINKS)
    cube, hand, draw = place("body", ["cube"]), range(nu), Draws(key)
    slides = jnp.broadcast_to(draw(0.5, 1.0, 1), len(tips))
    draw.key, of_mass, of_centre = jax.random.split(draw.key, 3)
    heavier = jax.random.uniform(of_mass, minval=0.8, maxval=1.2)
    aside = jax.random.uniform(of_centre, (3,), minval=-5e-3, maxval=5e-3)
    numbers = {
        "geom_friction": Some(slides, (tuple(tips), 0)),
        "body_inertia": _scaled(model.body_inertia, cube, heavier),
        "body_ipos": _shifted(model.body_ipos, cube, aside),
        "qpos0": _shifted(model.qpos0, hand, draw(-0.05, 0.05, nu)),
        "dof_frictionloss": _scaled(model.dof_frictionloss, hand, draw(0.5, 2.0, nu)),
        "dof_armature": _scaled(model.dof_armature, hand, draw(1.0, 1.05, nu)),
        "body_mass": _scaled(model.body_mass, links, draw(0.9, 1.1, len(links))),
    }
    gains = jnp.asarray(model.actuator_gainprm[:, 0], float) * draw(0.8, 1.2, nu)
    return numbers | {
        "actuator_gainprm": Some(gains, (tuple(hand), 0)),
        "actuator_biasprm": Some(-gains, (tuple(hand), 1)),
        "dof_damping": _scaled(model.dof_damping, hand, draw(0.8, 1.2, nu)),
    }


def _scaled(value: Array, rows: Sequence[int], factors: jax.Array) -> Some:
    return Some(jnp.asarray(value[list(rows)], float) * factors, (tuple(rows),))


def _shifted(value: Array, rows: Sequence[int], change: jax.Array) -> Some:
    return Some(jnp.asarray(value[list(rows)], float) + change, (tuple(rows),))


def _masses(model: physics.Model, draw: Draws, trunk: int) -> Some:
    """Of all bodies, kg: scaled, and up to a kilogram more or less in the trunk."""
    masses = jnp.asarray(model.body_mass, float) * draw(0.9, 1.1, model.nbody)
    masses = masses.at[trunk].add(draw(-1.0, 1.0))
    return Some(masses[1:], (tuple(range(1, model.nbody)),))
