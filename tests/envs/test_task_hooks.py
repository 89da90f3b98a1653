"""What real tasks need: commands, noise, pushes, histories, and a critic that knows more."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import physics
from gpusim.envs import Before, Moment, MujocoTask, autoreset
from gpusim.envs.engines import in_mujoco
from gpusim.envs.tasks.brax.ant import Ant
from gpusim.envs.world import WorldError

PUCK = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody><body>
    <joint name="x" type="slide" axis="1 0 0" damping="1"/>
    <joint name="y" type="slide" axis="0 1 0" damping="1"/>
    <geom size=".1" mass="1" contype="0" conaffinity="0"/>
  </body></worldbody>
  <actuator><motor joint="x"/><motor joint="y"/></actuator>
</mujoco>"""


class Memory(NamedTuple):
    key: jax.Array
    command: jax.Array  # (2,) m/s
    noise: jax.Array  # (4,) of this step's observation
    push: jax.Array  # (2,) m/s, before the next step
    last: jax.Array  # (2, 2) the two newest actions
    still: jax.Array  # () steps since it last moved


def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    command, noise, push = jax.random.split(key, 3)
    return (
        jax.random.uniform(command, (2,), minval=-1.0),
        0.1 * jax.random.normal(noise, (4,)),
        0.5 * jax.random.normal(push, (2,)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Puck(MujocoTask):
    """Slide as commanded: a new command every 5 steps or so, pushed around, seen with noise."""

    mjcf: ClassVar[str] = PUCK

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        key, use = jax.random.split(key)
        return Memory(key, *draw(use), jnp.zeros((2, 2)), jnp.zeros(()))

    def remember(self, memory: Memory, now: Moment) -> Memory:
        key, change, use = jax.random.split(memory.key, 3)
        command, noise, push = draw(use)
        command = jnp.where(jax.random.uniform(change) < 0.2, command, memory.command)
        last = jnp.stack([now.action, memory.last[0]])
        moves = jnp.abs(now.state.qvel).sum() > 0.1
        return Memory(key, command, noise, push, last, jnp.where(moves, 0.0, memory.still + 1))

    def disturb(self, before: Before) -> Any:
        return before.state._replace(qvel=before.state.qvel + before.memory.push)

    def control(self, before: Before, action: jax.Array) -> jax.Array:
        return before.memory.last[0]  # a motor that is a step late

    def observation(self, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        clean = jnp.concatenate([now.state.qpos, now.state.qvel])
        parts = {"noisy": clean + memory.noise, "command": memory.command}
        return parts | {"privileged": jnp.concatenate([clean, memory.push])}

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        error = jnp.square(now.state.qvel - past.command).sum()
        return {
            "follow": jnp.exp(-error),
            "jerk": -0.1 * jnp.square(now.action - past.last[0]).sum(),
        }

    def measure(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        return {"still": memory.still}


@pytest.fixture(scope="module")
def history():
    """The states of 16 worlds through 40 steps, restarts among them, and the actions."""
    venv = autoreset(Puck(), 16, episode_length=25)
    states, step = [jax.jit(venv.reset)(jax.random.key(0))], jax.jit(venv.step)
    actions = jax.random.uniform(jax.random.key(1), (40, 16, 2), minval=-1.0)
    for action in actions:
        states.append(step(states[-1], action))
    return states, np.asarray(actions)


def test_commands_change_at_times_and_are_seen(history):
    states, _ = history
    commands = np.stack([s.world.carry.memory.command for s in states])
    np.testing.assert_array_equal([s.obs["command"] for s in states], commands)
    changed = (commands[1:] != commands[:-1]).any(-1)
    assert 0.1 < changed.mean() < 0.4
    assert len(np.unique(commands[0], axis=0)) == 16


def test_noise_is_drawn_anew_in_every_step_of_every_world(history):
    states, _ = history
    clean = np.stack([s.obs["privileged"][:, :4] for s in states])
    noise = np.stack([s.obs["noisy"] for s in states]) - clean
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    drawn = np.stack([s.world.carry.memory.noise for s in states])
    assert len(np.unique(drawn.reshape(-1, 4), axis=0)) == 41 * 16


def test_physics_memory_and_rewards_by_hand(history):
    """Euler with implicit damping: v' = v + h (u - v) / (1 + h), after the push."""
    states, actions = history
    running = 0
    for before, after, action in zip(states, states[1:], actions, strict=False):
        past, now = before.world.carry, after.world.carry
        for w in np.flatnonzero(~np.asarray(after.truncated)):
            running += 1
            v = past.physics.qvel[w] + past.memory.push[w]
            v = v + 0.01 * (past.memory.last[w, 0] - v) / 1.01
            np.testing.assert_allclose(now.physics.qvel[w], v, rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(now.memory.last[w], [action[w], past.memory.last[w, 0]])
            follow = np.exp(-np.square(v - past.memory.command[w]).sum())
            jerk = -0.1 * np.square(action[w] - past.memory.last[w, 0]).sum()
            metrics = {name: float(x[w]) for name, x in after.world.metrics.items()}
            assert metrics["reward_follow"] == pytest.approx(float(follow), rel=1e-4)
            assert metrics["reward_jerk"] == pytest.approx(float(jerk), rel=1e-4)
            assert metrics["diverged"] == 0
            assert float(after.reward[w]) == pytest.approx(float(follow + jerk), rel=1e-4)
            still = 0 if np.abs(v).sum() > 0.1 else past.memory.still[w] + 1
            assert metrics["still"] == still
    assert running > 16 * 30


def test_a_restart_forgets(history):
    states, _ = history
    ended = 0
    for state in states[1:]:
        over = np.asarray(state.truncated)
        ended += over.sum()
        memory = state.world.carry.memory
        assert not np.asarray(memory.last)[over].any()
        assert not np.asarray(memory.still)[over].any()
        assert not np.asarray(state.world.carry.physics.qvel)[over].any()
    assert ended > 16


def test_the_model_may_be_a_path_beside_the_task_or_compiled(tmp_path):
    (tmp_path / "puck.xml").write_text(PUCK)
    compiled = Puck().drawing()
    for source in (tmp_path / "puck.xml", str(tmp_path / "puck.xml"), compiled):
        other = type("Other", (Puck,), {"mjcf": source})()  # type: ignore[abstract]
        assert other.model.nu == 2


# --- mistakes ---


def refused(error, match, **members):
    """A task with these members is refused where it is made, or where it first starts."""
    kind = dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(
        type("Mistaken", (Ant,), {"name": "mistaken", **members})
    )
    with pytest.raises(error, match=match):
        jax.eval_shape(kind().start, jax.random.key(0))


def test_terms_are_numbers_by_name():
    terms = lambda found: {"rewards": lambda self, past, memory, now: found}
    refused(
        ValueError, r"'mistaken': rewards gives 'a' of shape \(2,\)", **terms({"a": jnp.ones(2)})
    )
    refused(ValueError, "'mistaken': rewards gives a float, not a dict", **terms(1.0))
    taken = lambda self, past, memory, now: {"reward_forward": 1.0}
    refused(ValueError, "measure gives 'reward_forward', which is taken", measure=taken)


def test_masks_and_integers_are_rewards():
    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Counted(Dropped):
        def rewards(self, past, memory, now):
            return {"a": now.state.qpos[2] > 0, "b": now.state.qpos[2] < 9, "c": jnp.int32(3)}

    task = Counted()
    state = jax.jit(task.transition)(task.start(jax.random.key(0)), jnp.zeros(0))
    assert (state.reward, state.reward.dtype) == (5, state.obs.dtype)


def test_options_of_a_class_that_is_no_dataclass():
    class New(Ant):
        height: float = 2.0

    class Old(Ant):
        n_frames = 3

    for kind, option in ((New, "height"), (Old, "n_frames")):
        with pytest.raises(WorldError, match=rf"{kind.__name__} says {option}, .*@dataclasses"):
            kind()


def test_a_hook_that_is_nearly_one():
    class Typo(Ant):
        def teminal(self, memory, now):
            return jnp.zeros((), bool)

    with pytest.warns(UserWarning, match=r"Typo has a method teminal: did you mean terminal\?"):
        Typo()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dropped(MujocoTask):
    """A ball that falls on the floor beside a wall."""

    name: ClassVar[str] = "dropped"
    mjcf: ClassVar[str] = """<mujoco><worldbody>
      <geom name="floor" type="plane" size="1 1 1"/>
      <geom name="wall" type="box" pos="1 0 0" size=".1 1 1"/>
      <body pos="0 0 .3"><freejoint/><geom name="ball" size=".1"/><site name="skin" size=".11"/>
      </body></worldbody>
      <sensor><touch name="skin" site="skin"/><framepos name="at" objtype="site" objname="skin"/>
      </sensor></mujoco>"""

    def observation(self, memory: Any, now: Moment) -> jax.Array:
        return jnp.concatenate([now.sensor("skin"), now.sensor("at")])

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        pairs = {"floor": ("ball", "floor"), "turned": ("floor", "ball"), "any": ("ball",)}
        found = {name: now.touching(*geoms) for name, geoms in pairs.items()}
        return found | {"wall": now.touching("ball", "wall")}


@pytest.mark.parametrize("place", [lambda task: task, in_mujoco], ids=["ours", "in C"])
def test_contacts_and_sensors_by_name(place):
    """mg = 0.1³ · 4/3 π · 1000 · 9.81 = 41.1 N rests on the floor; the ball falls 0.2 m first."""
    task = place(Dropped())
    state, step = task.reset(jax.random.key(0)), jax.jit(task.step)
    touched = []
    for _ in range(600):
        state = step(state, jnp.zeros(0))
        floor = bool(state.metrics["reward_floor"])
        assert floor == bool(state.metrics["reward_turned"]) == bool(state.metrics["reward_any"])
        assert not state.metrics["reward_wall"]
        touched.append(floor)
        if not floor:
            assert state.obs[0] == 0
    assert 0.19 < touched.index(True) * task.dt < 0.21  # sqrt(2 · 0.2 / 9.81) = 0.202 s
    np.testing.assert_allclose(state.obs, [41.1, 0, 0, 0.1], rtol=2e-2, atol=2e-3)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Led(MujocoTask):
    """A weight on a spring to a body that is put where the task wants it."""

    mjcf: ClassVar[str] = """
      <mujoco><option gravity="0 0 0"/><worldbody>
        <body name="hand" mocap="true" pos="9 9 9"><geom size=".01" contype="0"/></body>
        <body name="load"><freejoint/><geom size=".1" contype="0" conaffinity="0"/></body>
      </worldbody>
      <equality><weld body1="hand" body2="load" relpose="0 0 0 1 0 0 0"/></equality></mujoco>"""
    n_frames: int = 100

    def mocap(self, key: jax.Array) -> physics.Mocap:
        return physics.Mocap(jnp.array([[0, 0, 1]]), jnp.array([[1, 0, 0, 0]]))

    def disturb(self, before: Before) -> physics.State:
        assert before.state.mocap is not None
        moved = before.state.mocap.pos + jnp.array([0.1, 0, 0])
        return before.state._replace(mocap=before.state.mocap._replace(pos=moved))

    def observation(self, memory: Any, now: Moment) -> jax.Array:
        return now.derived.xpos[1:].ravel()

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        return {}


@pytest.mark.parametrize("place", [lambda task: task, in_mujoco], ids=["ours", "in C"])
def test_a_task_puts_bodies_where_it_wants_them(place):
    task = place(Led())
    state, step = task.reset(jax.random.key(0)), jax.jit(task.step)
    np.testing.assert_allclose(state.obs[:3], [0, 0, 1])
    for k in range(1, 6):
        state = step(state, jnp.zeros(0))
        np.testing.assert_allclose(state.obs[:3], [0.1 * k, 0, 1], rtol=1e-5)
    load = state.obs[3:]
    assert 0.1 < load[0] < 0.5
    assert load[2] > 0.5
    np.testing.assert_allclose(load[1], 0, atol=1e-6)


def test_bodies_that_are_not_there_cannot_be_put():
    class Wrong(Led):
        def mocap(self, key: jax.Array) -> physics.Mocap:
            return physics.Mocap(jnp.zeros((2, 3)), jnp.zeros((2, 4)))

    with pytest.raises(WorldError, match=r"mocap gives .*not physics.Mocap\(pos \(1, 3\), quat"):
        Wrong().reset(jax.random.key(0))


def test_a_name_that_nothing_has_is_told():
    class Misspelt(Dropped):
        def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
            return {"touch": now.touching("ball", "flor")}

    with pytest.raises(WorldError, match=r"unknown geom 'flor'; did you mean 'floor'\?"):
        Misspelt().reset(jax.random.key(0))

    class Deaf(Dropped):
        def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
            return {"touch": now.sensor("skim")[0]}

    with pytest.raises(ValueError, match=r"unknown sensor 'skim'; did you mean 'skin'\?"):
        Deaf().reset(jax.random.key(0))


def altered(**changes: Any) -> type[Dropped]:
    return type("Altered", (Dropped,), {"name": "altered", **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vary": lambda self, key: {"body_mas": jnp.ones(2)}}, "vary: .*did you mean 'body_mass'"),
        (
            {"vary": lambda self, key: {"body_mass": jnp.ones(5)}},
            r"vary: .*shape \(2,\), not \(5,\)",
        ),
        ({"control": lambda self, before, action: jnp.zeros(3)}, r"control gives .*, not \(0,\)"),
        ({"mjcf": "<mujoco><worldbody><blob/></worldbody></mujoco>"}, "its mjcf: XML Error.*blob"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_wrong_hook_is_told_in_one_line(changes, says):
    task = altered(**changes)()
    with pytest.raises(WorldError, match=f"environment 'altered': {says}") as told:
        task.step(task.reset(jax.random.key(0)), jnp.zeros(0))
    assert "\n" not in str(told.value)


def test_a_key_is_wanted():
    with pytest.raises(ValueError, match=r"reset takes a random key, such as jax.random.key\(0\)"):
        Dropped().reset(0)  # pyright: ignore
    with pytest.raises(ValueError, match=r"one key, not 3; .* jax.vmap\(env.reset\)\(keys\)"):
        Dropped().reset(jax.random.split(jax.random.key(0), 3))
    old = Dropped().reset(jax.random.PRNGKey(0))  # two words
    assert old.obs.shape == (4,)
