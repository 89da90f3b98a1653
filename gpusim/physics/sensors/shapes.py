"""Sensors of what is where: rays that meet geoms, points inside sites."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics import rays
from gpusim.physics.sensors.world import GEOM, SITE, Frame, World

_DISTANCE = (
    1 << int(mujoco.mjtRayDataField.mjRAYDATA_DIST) if hasattr(mujoco, "mjtRayDataField") else 1
)


def range_finder(world: World, site: int) -> jax.Array:
    """How far from a site, along its z axis, the first visible geom is; -1 where there is none."""
    m, at = world.model.mj, world.frame(SITE, site)
    far = jnp.asarray(np.inf, at.pos.dtype)
    nearest = far
    for g in rays.visible(m, int(m.site_bodyid[site])):
        geom = world.frame(GEOM, g)
        size = jnp.asarray(world.model.geom_size[g])
        hit = rays.distance(int(m.geom_type[g]), size, geom.pos, geom.mat, at.pos, at.mat[:, 2])
        nearest = jnp.minimum(nearest, jnp.where(hit >= 0, hit, far))
    return jnp.where(nearest < far, nearest, -1)


def unknown_range(m: mujoco.MjModel, i: int) -> str:
    """What of a range finder is not known here; nothing of most."""
    if int(m.sensor_objtype[i]) != SITE or int(m.sensor_intprm[i, 0]) not in (0, _DISTANCE):
        return "range finder of other things than a distance from a site"
    body = int(m.site_bodyid[m.sensor_objid[i]])
    strange = [g for g in rays.visible(m, body) if int(m.geom_type[g]) not in rays.KNOWN]
    if not strange:
        return ""
    kind = mujoco.mjtGeom(int(m.geom_type[strange[0]])).name[7:].lower()
    return f"range finder that may meet geom '{m.geom(strange[0]).name or strange[0]}', a {kind}"


def is_inside(world: World, i: int, at: Frame) -> jax.Array:
    """1 where a frame is inside the site that a sensor refers to, else 0."""
    site = int(world.model.mj.sensor_refid[i])
    return rays.inside(*world.solid(site), at.pos).astype(at.pos.dtype)
