"""What the sensors of one world read: where things are, how they move, what acts on them."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics import rolled
from gpusim.physics.constraint.wrenches import Contact
from gpusim.physics.derived import Derived
from gpusim.physics.dynamics import accelerations, newton_euler, velocities
from gpusim.physics.kinematics import kinematics, to_world
from gpusim.physics.linalg import Array, cross, dot, halves, join, pick, quat_mul
from gpusim.physics.model import Model

_OBJ = mujoco.mjtObj
BODY, XBODY, GEOM, SITE, ANY = (
    int(getattr(_OBJ, f"mjOBJ_{name}")) for name in ("BODY", "XBODY", "GEOM", "SITE", "UNKNOWN")
)
_UNROLLED = 16  # contacts, beyond which there is a loop over them


class Frame(NamedTuple):
    """A body, its centre of mass, a geom or a site."""

    body: int
    pos: jax.Array  # (3,)
    mat: jax.Array  # (3, 3)
    quat: Callable[[], jax.Array]  # (4,)


class World:
    """What the sensors of one world read."""

    def __init__(self, model: Model, derived: Derived) -> None:
        self.model, self.state, self.d = model, derived.state, derived

    def frame(self, kind: int, i: int) -> Frame:
        model, d, m = self.model, self.d, self.model.mj
        if kind == SITE:
            body, quat = int(m.site_bodyid[i]), model.site_quat[i]
            return Frame(body, d.site_xpos[i], *self._turned(body, model.site_mat[i], quat))
        if kind == GEOM:
            body = int(m.geom_bodyid[i])
            pos = d.xpos[body] + dot(d.xmat[body], model.geom_pos[i])
            quat = np.asarray(m.geom_quat[i], pos.dtype)
            return Frame(body, pos, *self._turned(body, model.geom_mat[i], quat))
        if kind == XBODY:
            return Frame(i, d.xpos[i], d.xmat[i], lambda: d.xquat[i])
        quat = np.asarray(m.body_iquat[i], d.xpos.dtype)
        return Frame(i, d.xipos[i], *self._turned(i, model.body_imat[i], quat))

    def solid(self, site: int) -> tuple[int, Array, Array, Array]:
        """A site's kind, size, place and axes."""
        m, at = self.model.mj, self.frame(SITE, site)
        return int(m.site_type[site]), np.asarray(m.site_size[site], at.pos.dtype), at.pos, at.mat

    def _turned(self, body: int, mat: Array, quat: Array) -> tuple:
        whole = lambda: quat_mul(self.d.xquat[body], jnp.asarray(quat))
        return dot(self.d.xmat[body], jnp.asarray(mat)), whole

    def velocity(self, at: Frame) -> tuple[jax.Array, jax.Array]:
        """Angular and linear (3,), in world axes (mj_objectVelocity)."""
        angular, linear = self.d.cvel[at.body, :3], self.d.cvel[at.body, 3:]
        arm = at.pos - self.d.subtree_com[self.model.topology.root[at.body]]
        return angular, linear + jnp.cross(angular, arm)

    def acceleration(self, at: Frame) -> tuple[jax.Array, jax.Array]:
        """Angular and linear (3,), in world axes, less gravity (mj_objectAcceleration)."""
        both = self.accelerations[at.body]
        arm = at.pos - self.d.xpos[self.model.topology.root[at.body]]
        spin, speed = self.velocity(at)
        linear = both[3:] + jnp.cross(both[:3], arm) + jnp.cross(spin, speed)
        return both[:3], linear - self.model.gravity

    def reaction(self, body: int) -> jax.Array:
        """Torque and force (6,) between a body and its parent, at the centre of mass of their tree:
        cfrc_int.
        """
        model, d, inside = self.model, self.d, self.below(body)
        root = np.array(model.topology.root)
        angular, linear = halves(self.accelerations)
        linear = linear + cross(angular, pick(d.subtree_com, root) - pick(d.xpos, root))
        felt = join(angular, linear - model.gravity)
        force = newton_euler(d.cinert, d.cvel, felt) - d.cfrc_ext
        return pick(force, inside).sum(0)

    def below(self, body: int) -> list[int]:
        """A body and all that it carries."""
        found = [body]
        for b in range(body + 1, self.model.nbody):
            if self.model.topology.parent[b] in found:
                found.append(b)
        return found

    def over_contacts(self, add: Callable[[Contact, Any], Any], total: Any) -> Any:
        """add(contact, total) of every point that may touch."""
        contact = self.d.contact
        one = lambda k, total: add(Contact(*(rolled.at(x, k) for x in contact)), total)
        size = contact.dist.shape[0]
        if size > _UNROLLED:
            return rolled.loop(size, one, total)
        for k in range(size):
            total = one(np.int32(k), total)
        return total

    @functools.cached_property
    def accelerations(self) -> jax.Array:
        """(nbody, 6) about the references of the trees."""
        model, state = self.model, self.state
        pose = kinematics(model, jnp.asarray(state.qpos), state.mocap)
        motion = velocities(model, pose, to_world(model, pose, jnp.asarray(state.qvel)))
        pushed = to_world(model, pose, self.d.qacc)[:, None] * pose.cdof
        moved = dot(jnp.asarray(model.topology.body_dofs.astype(pushed.dtype)), pushed)
        return moved + jnp.stack([jnp.asarray(a) for a in accelerations(model, motion)])

    def subtree(self, body: int) -> tuple[jax.Array, jax.Array]:
        """Velocity of a subtree's centre of mass, angular momentum about it (mj_subtreeVel)."""
        model, d, inside = self.model, self.d, self.below(body)
        mass = jnp.asarray(model.body_mass)
        moving = {b: self.velocity(self.frame(BODY, b)) for b in inside if b}
        momentum = sum((mass[b] * v for b, (_, v) in moving.items()), jnp.zeros(3, mass.dtype))
        total = sum((mass[b] for b in inside), jnp.zeros((), mass.dtype))
        velocity = momentum / jnp.maximum(total, 1e-15)
        spin = jnp.zeros(3, mass.dtype)
        for b, (angular, linear) in moving.items():
            axes = dot(d.xmat[b], jnp.asarray(model.body_imat[b]))
            spin = spin + dot(axes, model.body_inertia[b] * dot(angular, axes))
            spin = spin + mass[b] * jnp.cross(d.xipos[b] - d.subtree_com[body], linear - velocity)
        return velocity, spin
