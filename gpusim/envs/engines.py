"""Other ways to compute a task: C MuJoCo itself, MJX, and the environment that it is made after.

C MuJoCo, by callbacks to `mj_step` in double precision, is slow: it is there to check what was
learned elsewhere (`play RUN --in mujoco`), as Gymnasium's environments are for the tasks that are
theirs (`--in gymnasium`). MJX (`--physics mjx`) runs wherever XLA does. C MuJoCo and MJX take the
models that our own physics takes.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs import registry
from gpusim.envs.mujoco_task import MujocoTask
from gpusim.envs.world import World, begun, stepped
from gpusim.physics.collision.pairs import is_overridden
from gpusim.physics.model import LIMITED, NUMBERS


def in_mujoco(world: World) -> MujocoTask:
    """The same task with the same options, computed by C MuJoCo. ValueError if it has no model."""
    return _elsewhere(_on_a_model(world), CMujoco())


def in_gymnasium(world: World) -> World:
    """Gymnasium's own environment, with the same options, on the host: its starts are its own.

    Raises ValueError if the world is none of Gymnasium's tasks, or gymnasium lacks something.
    """
    if not registry.of_gymnasium(world.name):
        raise ValueError(f"{world.name} is no task of Gymnasium's")
    if getattr(world, "camera", ""):
        raise ValueError(f"{world.name} is seen through a camera, Gymnasium's own in numbers")
    fields = dataclasses.fields(world) if dataclasses.is_dataclass(world) else ()
    said = {f.name: getattr(world, f.name) for f in fields if f.init}
    usual = {f.name: f.default for f in fields}
    options = {name: value for name, value in said.items() if value != usual[name]}
    if "n_frames" in options:
        options["frame_skip"] = options.pop("n_frames")
    return registry.make(f"gym:{world.name}", **options)


def make_mjx(name: str, **options: Any) -> MujocoTask:
    """`gpusim.make` of a task on a MuJoCo model, computed by MJX."""
    world = registry.make(name, **options)
    try:
        return in_mjx(world)
    except ValueError as error:
        raise ValueError(f"physics 'mjx': {error}") from error


def in_mjx(world: World) -> MujocoTask:
    """The same task with the same options, computed by MJX. ValueError if it has no model, or MJX
    does not take it."""
    task = _on_a_model(world)
    return _elsewhere(task, Mjx(task.model.mj))


def _on_a_model(world: World) -> MujocoTask:
    if not isinstance(world, MujocoTask):
        raise ValueError(f"{world.name} is no task on a MuJoCo model")
    return world


def _elsewhere(task: MujocoTask, engine: Any) -> MujocoTask:
    """The task's class with another engine; its kernels are plain JAX."""
    kind = type(task)
    made: Any = type(kind.__name__, (_Plain, kind), {"name": kind.name, "engine": engine})
    return made(**{f.name: getattr(task, f.name) for f in dataclasses.fields(task) if f.init})


class _Plain(MujocoTask):
    """Steps that are mapped by JAX and compiled by XLA."""

    @functools.cached_property
    def _prepare_kernel(self):
        return self.prepare

    @functools.cached_property
    def _start_kernel(self):
        return functools.partial(begun, self)

    @functools.cached_property
    def _step_kernel(self):
        return functools.partial(stepped, self)


class CMujoco:
    """`load`, `init`, `forward` and `steps` as `gpusim.physics` has them, by callbacks."""

    load = staticmethod(physics.load)
    init = staticmethod(physics.init)

    def forward(
        self, model: physics.Model, state: physics.State, ctrl: jax.Array
    ) -> physics.Derived:
        """mj_forward."""
        return self._call(model, state, ctrl, 0)[1]

    def steps(
        self, model: physics.Model, state: physics.State, ctrl: jax.Array, n: int
    ) -> tuple[physics.State, physics.Derived]:
        """mj_step, n times."""
        return self._call(model, state, ctrl, n)

    def _call(self, model: physics.Model, state: physics.State, ctrl: jax.Array, n: int) -> Any:
        drawn = _drawn(model)
        derived = jax.eval_shape(functools.partial(physics.forward, model), state, ctrl)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, derived))
        call = functools.partial(_step, model.mj, n, shapes)
        return jax.pure_callback(call, shapes, drawn, state, ctrl, vmap_method="sequential")


class Mjx:
    """The same by MJX. mj: the model, of which everything is MJX's business."""

    load = staticmethod(physics.load)
    init = staticmethod(physics.init)

    def __init__(self, mj: Any):
        from mujoco import mjx

        self.mjx = mjx
        try:
            self.model = mjx.put_model(mj)
        except NotImplementedError as error:
            raise ValueError(str(error)) from error

    def forward(
        self, model: physics.Model, state: physics.State, ctrl: jax.Array
    ) -> physics.Derived:
        """mjx.forward."""
        mx, data = self._data(model, state, ctrl)
        return self._derived(model, state, ctrl, mx, self.mjx.forward(mx, data))

    def steps(
        self, model: physics.Model, state: physics.State, ctrl: jax.Array, n: int
    ) -> tuple[physics.State, physics.Derived]:
        """mjx.step, n times."""
        mx, data = self._data(model, state, ctrl)
        again = lambda _, both: (both[1], self.mjx.step(mx, both[1]))
        before, data = jax.lax.fori_loop(0, n, again, (data, data))
        return _state(state, data), self._derived(model, _state(state, before), ctrl, mx, data)

    def _data(self, model: physics.Model, state: physics.State, ctrl: jax.Array) -> Any:
        """MJX's model with a world's own numbers, and its data."""
        mx, drawn = self.model, _drawn(model)
        if "gravity" in drawn:
            mx = mx.replace(opt=mx.opt.replace(gravity=drawn.pop("gravity")))
        if "mean_inertia" in drawn:
            mx = mx.replace(stat=mx.stat.replace(meaninertia=drawn.pop("mean_inertia")))
        limits = {LIMITED[name]: getattr(model.mj, LIMITED[name]) for name in LIMITED}
        for name, x in drawn.items():  # what is not limited is infinite here, and nothing there
            known = name in LIMITED and limits[LIMITED[name]].astype(bool)[:, None]
            x = jnp.where(known, x, getattr(mx, name)) if name in LIMITED else x
            mx = mx.replace(**{name: jnp.reshape(x, getattr(mx, name).shape)})
        data = self.mjx.make_data(self.model).replace(
            qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc_warmstart, ctrl=ctrl
        )
        if state.act is not None:
            data = data.replace(act=state.act)
        if state.mocap is not None:
            data = data.replace(mocap_pos=state.mocap[0], mocap_quat=state.mocap[1])
        if state.xfrc_applied is not None:
            data = data.replace(xfrc_applied=state.xfrc_applied)
        return mx, data

    def _derived(
        self, model: physics.Model, state: physics.State, ctrl: Any, mx: Any, data: Any
    ) -> physics.Derived:
        """mjx.Data as Derived; what it does not tell is NaN. state: that it is of."""
        like = jax.eval_shape(functools.partial(physics.forward, model), state, ctrl)
        found = {"state": state, "contact": _mjx_contact(data)}
        for name, x in like._asdict().items():
            if name in found:
                continue
            value = getattr(data, name, getattr(data._impl, name, None))
            if name == "mass_matrix":
                value = jnp.tril(self.mjx.full_m(mx, data))
            if name == "contacts_dropped":
                value = 0
            if name == "cfrc_ext":  # there, and never computed by a step
                value = None
            if value is None or np.size(value) != x.size:
                value = jnp.full(x.shape, jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else -1)
            found[name] = jnp.reshape(jnp.asarray(value, x.dtype), x.shape)
        return physics.Derived(**found)


def _state(like: physics.State, data: Any) -> physics.State:
    """A state in mjData or mjx.Data, with what does not change in a step."""
    act = None if like.act is None else data.act
    return like._replace(
        qpos=data.qpos, qvel=data.qvel, qacc_warmstart=data.qacc_warmstart, act=act
    )


def _mjx_contact(data: Any) -> physics.Contact:
    """What MJX found, which may be other points than ours; forces it does not tell."""
    found = data._impl.contact
    return physics.Contact(
        touches=found.dist < found.includemargin,
        geom=jnp.asarray(found.geom, jnp.int32),
        dist=found.dist,
        pos=found.pos,
        frame=found.frame,
        force=jnp.full((*found.dist.shape, 6), jnp.nan, found.dist.dtype),
    )


def _drawn(model: physics.Model) -> dict[str, Any]:
    """A world's own numbers."""
    return {f: x for f in NUMBERS if isinstance(x := getattr(model, f), jax.Array)}


def _step(mj: Any, n: int, shapes: Any, drawn: Any, state: physics.State, ctrl: Any) -> Any:
    """On the host, for one world."""
    if drawn:
        mj = _with_numbers(mj, drawn)
    data = mujoco.MjData(mj)
    for name in ("qpos", "qvel", "qacc_warmstart", "ctrl"):
        getattr(data, name)[:] = ctrl if name == "ctrl" else getattr(state, name)
    if state.act is not None:
        data.act[:] = state.act
    if state.mocap is not None:
        data.mocap_pos[:], data.mocap_quat[:] = state.mocap
    if state.xfrc_applied is not None:
        data.xfrc_applied[:] = state.xfrc_applied
    before = state
    if n:
        for _ in range(n):
            before = jax.tree.map(np.array, _state(state, data))
            mujoco.mj_step(mj, data)
    else:
        mujoco.mj_forward(mj, data)
    mujoco.mj_rnePostConstraint(mj, data)  # cfrc_ext, which no stage of a step computes
    found = (_state(state, data), _derived(mj, data, before, shapes[1]))
    return jax.tree.map(lambda x, like: np.array(x, like.dtype).reshape(like.shape), found, shapes)


def _derived(mj: Any, data: Any, state: physics.State, like: physics.Derived) -> physics.Derived:
    """mjData as Derived. state: that it is of."""
    mass, unit = np.zeros((mj.nv, mj.nv)), np.eye(mj.nv)
    for i in range(mj.nv):
        mujoco.mj_mulM(mj, data, mass[i], unit[i])
    known = {
        "state": state,
        "mass_matrix": np.tril(mass),
        "contact": _contact(mj, data, like.contact),
        "contacts_dropped": 0,
        "solver_niter": data.solver_niter[0],
        "cdof": data.cdof,
    }
    return physics.Derived(
        **{name: known[name] if name in known else getattr(data, name) for name in like._fields}
    )


def _contact(mj: Any, data: Any, like: physics.Contact) -> physics.Contact:
    """mjData.contact, as far as there is room for it."""
    found = physics.Contact(*(np.zeros(x.shape, x.dtype) for x in like))
    for k in range(min(data.ncon, len(found.dist))):
        c = data.contact[k]
        wrench = np.zeros(6)
        mujoco.mj_contactForce(mj, data, k, wrench)
        values = (True, c.geom, c.dist, c.pos, np.reshape(c.frame, (3, 3)), wrench)
        for field, value in zip(found, values, strict=True):
            field[k] = value
    return found


def _with_numbers(mj: Any, drawn: Any) -> Any:
    """The model with a world's own numbers."""
    own = mujoco.MjModel.__copy__(mj)
    for name, value in drawn.items():
        if name == "mean_inertia":
            own.stat.meaninertia = value
        elif name == "pair_friction" and is_overridden(own):
            own.opt.o_friction[:] = value[0]
        elif hasattr(own.opt, name):
            getattr(own.opt, name)[:] = value
        elif name in LIMITED:
            limited = getattr(own, LIMITED[name]).astype(bool)
            getattr(own, name)[limited] = np.asarray(value)[limited]
        else:
            getattr(own, name)[:] = np.asarray(value).reshape(getattr(own, name).shape)
    own.body_subtreemass[:] = own.body_mass
    for body in range(own.nbody - 1, 0, -1):
        own.body_subtreemass[own.body_parentid[body]] += own.body_subtreemass[body]
    if "body_ipos" in drawn:  # what the compiler found to be in the same place is so no longer
        turns = (own.body_simple == 1) & (own.body_dofnum > 0)
        moved = (own.body_ipos != mj.body_ipos).any(1) & turns
        for body in np.flatnonzero(moved).tolist():  # C has a diagonal of its inertia, and no more
            raise ValueError(
                f"C MuJoCo cannot move the centre of mass of {mj.body(body).name or body}, a lone "
                "body that its compiler found to turn about it: leave its body_ipos as it is"
            )
        for same in (own.body_sameframe, own.geom_sameframe, own.site_sameframe):
            same[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    if "geom_size" in drawn:
        around = {
            mujoco.mjtGeom.mjGEOM_SPHERE: lambda x, y, z: x,
            mujoco.mjtGeom.mjGEOM_CAPSULE: lambda x, y, z: x + y,
            mujoco.mjtGeom.mjGEOM_CYLINDER: lambda x, y, z: np.hypot(x, y),
            mujoco.mjtGeom.mjGEOM_ELLIPSOID: max,
            mujoco.mjtGeom.mjGEOM_BOX: lambda x, y, z: np.sqrt(x * x + y * y + z * z),
        }
        for geom in range(own.ngeom):
            if radius := around.get(mujoco.mjtGeom(int(own.geom_type[geom]))):
                own.geom_rbound[geom] = radius(*own.geom_size[geom])
        own.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE  # boxes of the file's sizes
    return own
