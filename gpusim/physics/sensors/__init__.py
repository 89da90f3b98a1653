"""What sensors measure: mjData.sensordata.

As in C, noise is not added (a task adds its own), and readings beyond a cutoff are clipped.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.physics.constraint.wrenches import knows_wrenches
from gpusim.physics.derived import Derived
from gpusim.physics.features import Unsupported
from gpusim.physics.linalg import Array, normalize
from gpusim.physics.model import Model
from gpusim.physics.sensors import forces, shapes
from gpusim.physics.sensors.frames import FRAMES
from gpusim.physics.sensors.world import BODY, GEOM, SITE, XBODY, World
from gpusim.physics.transmission import TENDON
from gpusim.suggest import unknown

_DATA = mujoco.mjtDataType
_FRAMES = FRAMES | {"INSIDESITE": shapes.is_inside}


def _tendon_force(world: World, t: int) -> jax.Array:
    m = world.model.mj
    on = [i for i in range(m.nu) if m.actuator_trntype[i] == TENDON and m.actuator_trnid[i, 0] == t]
    return sum((world.d.actuator_force[i] for i in on), jnp.zeros((), world.d.qacc.dtype))


def _joint(world: World, j: int):
    return world.model.topology.joints[j]


# Of other things: f(world, number of the site, joint, tendon, actuator or body).
_OTHERS = {
    "TOUCH": forces.touch,
    "FORCE": lambda w, s: forces.reaction(w, s)[1],
    "TORQUE": lambda w, s: forces.reaction(w, s)[0],
    "RANGEFINDER": shapes.range_finder,
    "JOINTPOS": lambda w, j: w.state.qpos[_joint(w, j).qpos],
    "JOINTVEL": lambda w, j: w.state.qvel[_joint(w, j).dof],
    "JOINTACTFRC": lambda w, j: w.d.qfrc_actuator[_joint(w, j).dof],
    "BALLQUAT": lambda w, j: normalize(jnp.asarray(w.state.qpos[_joint(w, j).quat])),
    "BALLANGVEL": lambda w, j: w.state.qvel[_joint(w, j).spin : _joint(w, j).spin + 3],
    "TENDONPOS": lambda w, t: w.d.ten_length[t],
    "TENDONVEL": lambda w, t: w.d.ten_velocity[t],
    "TENDONACTFRC": _tendon_force,
    "ACTUATORPOS": lambda w, a: w.d.actuator_length[a],
    "ACTUATORVEL": lambda w, a: w.d.actuator_velocity[a],
    "ACTUATORFRC": lambda w, a: w.d.actuator_force[a],
    "SUBTREECOM": lambda w, b: w.d.subtree_com[b],
    "SUBTREELINVEL": lambda w, b: w.subtree(b)[0],
    "SUBTREEANGMOM": lambda w, b: w.subtree(b)[1],
}


def sensors(model: Model, derived: Derived) -> jax.Array:
    """mjData.sensordata (nsensordata,) of the state that `derived` is of.

    Raises Unsupported for sensors that are not known.
    """
    readings = [sensor(model, derived, i) for i in range(model.mj.nsensor)]
    return jnp.concatenate([jnp.zeros(0, derived.xpos.dtype), *readings])


def sensor(model: Model, derived: Derived, which: int | str) -> jax.Array:
    """What one sensor measures (its dimension,), by number or name.

    Raises Unsupported for one that is not known, ValueError for a name that no sensor has.
    """
    m = model.mj
    if isinstance(which, str):
        names = [m.sensor(i).name for i in range(m.nsensor)]
        if which not in names:
            raise ValueError(f"model {model.name}: {unknown('sensor', which, filter(None, names))}")
        which = names.index(which)
    model = model.astype(derived.xpos.dtype)
    reading = jnp.atleast_1d(jnp.asarray(_reading(World(model, derived), which)))
    return 0 * reading if "sensor" in model.options.disabled else reading


def _reading(world: World, i: int) -> Array:
    m = world.model.mj
    kind = mujoco.mjtSensor(int(m.sensor_type[i])).name[7:]
    what = _unknown(world.model, i, kind)
    if what:
        name = m.sensor(i).name or i
        raise Unsupported(
            f"model {world.model.name}: sensor '{name}' ({what}) is not supported; "
            "see docs/physics.md"
        )
    objtype, target = int(m.sensor_objtype[i]), int(m.sensor_objid[i])
    if kind == "CONTACT":
        return forces.contact(world, i)
    if kind in _FRAMES:
        value = _FRAMES[kind](world, i, world.frame(objtype, target))
    else:
        value = _OTHERS[kind](world, target)
    cutoff = float(m.sensor_cutoff[i])
    if cutoff > 0 and int(m.sensor_datatype[i]) == int(_DATA.mjDATATYPE_REAL):
        return jnp.clip(value, -cutoff, cutoff)
    if cutoff > 0 and int(m.sensor_datatype[i]) == int(_DATA.mjDATATYPE_POSITIVE):
        return jnp.minimum(value, cutoff)
    return value


def _unknown(model: Model, i: int, kind: str) -> str:
    """What of a sensor is not known here; nothing of most."""
    m, known = model.mj, (BODY, XBODY, GEOM, SITE)
    own, ref = int(m.sensor_objtype[i]), int(m.sensor_reftype[i])
    if any(getattr(m, f"sensor_{f}", np.zeros(m.nsensor))[i] for f in ("delay", "nsample")):
        return "delays"
    if kind in ("TOUCH", "CONTACT") and model.options.noslip_iterations:
        return f"type {kind.lower()} after noslip"
    if kind in ("FORCE", "TORQUE") and not knows_wrenches(model):
        return f"type {kind.lower()} in a model with welds, spatial tendons or noslip"
    if kind == "CONTACT":
        return forces.unknown_contact(m, i)
    if kind == "RANGEFINDER":
        return shapes.unknown_range(m, i)
    frames = kind in _FRAMES and own in known and (m.sensor_refid[i] < 0 or ref in known)
    return "" if frames or kind in _OTHERS else f"type {kind.lower()}"
