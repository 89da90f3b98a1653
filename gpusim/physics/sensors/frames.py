"""Sensors of bodies, geoms and sites: where they are and how they move."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.linalg import dot, quat_conjugate, quat_mul
from gpusim.physics.sensors.world import Frame, World


def _relative(world: World, i: int, at: Frame) -> tuple[Frame, Frame | None]:
    m = world.model.mj
    if m.sensor_refid[i] < 0:
        return at, None
    return at, world.frame(int(m.sensor_reftype[i]), int(m.sensor_refid[i]))


def _frame_pos(world: World, i: int, at: Frame) -> jax.Array:
    at, ref = _relative(world, i, at)
    return at.pos if ref is None else dot(at.pos - ref.pos, ref.mat)


def _frame_axis(k: int) -> Callable:
    def axis(world: World, i: int, at: Frame) -> jax.Array:
        at, ref = _relative(world, i, at)
        return at.mat[:, k] if ref is None else dot(at.mat[:, k], ref.mat)

    return axis


def _frame_quat(world: World, i: int, at: Frame) -> jax.Array:
    at, ref = _relative(world, i, at)
    return at.quat() if ref is None else quat_mul(quat_conjugate(ref.quat()), at.quat())


def _frame_velocity(angular: bool) -> Callable:
    def velocity(world: World, i: int, at: Frame) -> jax.Array:
        at, ref = _relative(world, i, at)
        spin, speed = world.velocity(at)
        if ref is None:
            return spin if angular else speed
        ref_spin, ref_speed = world.velocity(ref)
        carried = ref_speed + jnp.cross(ref_spin, at.pos - ref.pos)
        return dot(spin - ref_spin if angular else speed - carried, ref.mat)

    return velocity


# Of frames: f(world, number of the sensor, frame).
FRAMES = {
    "FRAMEPOS": _frame_pos,
    "FRAMEQUAT": _frame_quat,
    "FRAMEXAXIS": _frame_axis(0),
    "FRAMEYAXIS": _frame_axis(1),
    "FRAMEZAXIS": _frame_axis(2),
    "FRAMELINVEL": _frame_velocity(angular=False),
    "FRAMEANGVEL": _frame_velocity(angular=True),
    "FRAMELINACC": lambda w, i, at: w.acceleration(at)[1],
    "FRAMEANGACC": lambda w, i, at: w.acceleration(at)[0],
    "VELOCIMETER": lambda w, i, at: dot(w.velocity(at)[1], at.mat),
    "GYRO": lambda w, i, at: dot(w.velocity(at)[0], at.mat),
    "ACCELEROMETER": lambda w, i, at: dot(w.acceleration(at)[1], at.mat),
    "MAGNETOMETER": lambda w, i, at: dot(np.asarray(w.model.mj.opt.magnetic, at.mat.dtype), at.mat),
}
