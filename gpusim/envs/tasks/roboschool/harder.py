"""A humanoid that gets up, runs after flags and is knocked over on the way.

After roboschool/gym_humanoid_flagrun.py: same observations, rewards, poses and cubes, and the pose
that is survived least is begun from most.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from gpusim import physics
from gpusim.envs.mujoco_task import Before
from gpusim.envs.tasks.roboschool.flagrun import STANDS, HumanoidFlagrun, Memory
from gpusim.envs.tasks.roboschool.humanoid import Body
from gpusim.envs.world import State

GROUNDED = 170  # steps on the ground that end an episode
OFTEN, AFTER = 30, 100  # steps between two cubes, and before the first
DISTANCE, SPEEDS = 4.0, (20.0, 30.0)  # m, m/s, of a cube that is thrown
LATELY = 10  # episodes from a pose that count
POSES = ((1.4, 0.0), (0.45, math.pi / 2), (0.22, 1.5 * math.pi - 0.15))  # height m, pitch rad


class Outcomes(NamedTuple):
    """How the last episodes of a robot ended that it began in each pose."""

    count: jax.Array  # (3,) how many there were, up to LATELY
    survived: jax.Array  # (3,) a bit for each, the newest one's the lowest: was it survived?

    @classmethod
    def none(cls) -> "Outcomes":
        """Of a robot that has not yet begun."""
        return cls(jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32))

    def after(self, pose: jax.Array, survived: jax.Array, counts: jax.Array) -> "Outcomes":
        """And of one more episode, if it counts."""
        this = (jnp.arange(3) == pose) & counts
        bits = (2 * self.survived + survived) & ((1 << LATELY) - 1)
        more = jnp.minimum(self.count + 1, LATELY)
        return Outcomes(jnp.where(this, more, self.count), jnp.where(this, bits, self.survived))

    def failures(self) -> jax.Array:
        """(3,) how often each pose is failed in: 1 of which nothing is known, 1/11 at least."""
        bits = (self.survived[:, None] >> jnp.arange(LATELY)) & 1
        return 1 - bits.sum(1).astype(float) / (1 + self.count.astype(float))


class Fallen(NamedTuple):
    """What is remembered of a robot that gets up, besides."""

    run: Memory
    outcomes: Outcomes  # of the episodes before
    pose: jax.Array  # () the one that the episode began in
    steps: jax.Array  # () since the start
    down: jax.Array  # () steps on the ground, less those since
    crawls: jax.Array  # () bool: is the body down?
    begun: jax.Array  # () progress when it fell
    ignored: jax.Array  # () progress made while it was down
    throw: jax.Array  # () bool: is a cube to be thrown in the next step?


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidFlagrunHarder(HumanoidFlagrun):
    """Get up, run to flags, and be hit by cubes.

    Episodes start standing, lying on the front or lying on the back. Observed and rewarded as in
    `humanoid_flagrun`; but being up pays by height, progress on the ground nothing, and cubes are
    not seen.
    """

    name: ClassVar[str] = "humanoid_flagrun_harder"
    cube: ClassVar[bool] = True

    starts: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How often episodes start standing, on the front and on the back, relative to each other."""
    relearn: bool = True
    """Whether that is multiplied by how often the robot failed lately when it began so."""

    def __post_init__(self):
        super().__post_init__()
        likely = len(self.starts) == 3 and min(self.starts) >= 0
        possible = likely and 0 < sum(self.starts) < math.inf
        self.require(possible, "starts", "three numbers from 0 on, one of them positive")

    # ---- where episodes start

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Every robot in one of three poses."""
        return self._drawn(key, self.of_each(lambda key: Outcomes.none())(self.keys(key)))

    def start_after(self, key: jax.Array, ended: State) -> State:
        """In the poses in which they fail most, more often; what was survived is remembered."""
        if not self.relearn:
            return self.start(key)
        told = self.of_each(lambda memory: self._outcomes(memory, ended.truncated))
        outcomes = told(ended.carry.memory)
        state = self.begin(key, *self._drawn(key, outcomes))
        memory = state.carry.memory._replace(outcomes=outcomes)
        return state.replace(carry=state.carry._replace(memory=memory))

    def _outcomes(self, memory: Fallen, cut_off: jax.Array) -> Outcomes:
        """With the episode that has ended. What says nothing: one that another robot ended, or that
        was cut off before it could be failed."""
        failed = memory.down >= GROUNDED
        counts = failed | (cut_off & (memory.steps >= GROUNDED))
        return memory.outcomes.after(memory.pose, ~failed, counts)

    def _drawn(self, key: jax.Array, outcomes: Outcomes) -> tuple[jax.Array, jax.Array]:
        """Drawn by what is known."""
        qpos = self.of_each(self._lying)(self.keys(key), self.places(key), outcomes)
        return self.joined(qpos), jnp.zeros(self.model.nv)

    def _lying(self, key: jax.Array, place: jax.Array, outcomes: Outcomes) -> jax.Array:
        """One robot's qpos, in one of the poses."""
        key, of_pose = jax.random.split(key)
        chance = jnp.cumsum(jnp.asarray(self.starts, float) * outcomes.failures())
        drawn = jax.random.uniform(of_pose, (), chance.dtype) * chance[2]
        height, pitch = jnp.asarray(POSES, chance.dtype)[jnp.sum(drawn >= chance[:2])]
        return self.laid(key, place, height, pitch)

    def _began(self, body: Body) -> jax.Array:
        """() the pose that a robot starts in: which of POSES."""
        w, x, y, z = body.qpos[3:7]
        on_front = 2 * (x * z - w * y) < 0  # the torso's x axis points down
        lies = jnp.where(on_front, 1, 2)
        return jnp.where(body.height > 1.0, 0, lies).astype(jnp.int32)

    # ---- what is remembered

    def begun(self, key: jax.Array, body: Body) -> Fallen:
        """A flag; and whether it is down."""
        run, none = super().begun(key, body), jnp.zeros((), body.qpos.dtype)
        count, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        first = Outcomes.none(), self._began(body), count, count
        return self._crawling(Fallen(run, *first, no, none, none, no), run.potential, body)

    def recalled(self, memory: Fallen, body: Body) -> Fallen:
        """The flag, the fall, and whether it is time for a cube."""
        run, low = super().recalled(memory.run, body), self._low(body)
        walks = memory.pose == 0  # a fall ends an episode that began so
        down = memory.down + jnp.where(low & walks, 10_000, 0) + 1
        down = jnp.where(low, down, jnp.maximum(memory.down - 1, 0))
        due = (memory.steps % OFTEN == 0) & (memory.steps > AFTER) & (memory.down == 0)
        counted = memory._replace(run=run, steps=memory.steps + 1, down=down, throw=due)
        return self._crawling(counted, run.potential, body)

    def _crawling(self, memory: Fallen, progress: jax.Array, body: Body) -> Fallen:
        """What is made of progress: none while down; and 100 to 200 for being up."""
        low = self._low(body)
        begun = jnp.where(memory.crawls, memory.begun, progress - memory.ignored)
        ignored = jnp.where(low, progress - begun, memory.ignored)
        useful = jnp.where(low, begun, progress - ignored)
        potential = useful + 100 * self.up(body)
        return memory._replace(
            run=memory.run._replace(potential=potential), crawls=low, begun=begun, ignored=ignored
        )

    def _low(self, body: Body) -> jax.Array:
        return body.height < STANDS

    # ---- cubes

    def disturb(self, before: Before) -> physics.State:
        """A cube flies to where a body will be."""
        state = before.state
        qpos, qvel = self.split(state.qpos), self.split(state.qvel)
        qpos, qvel = self.of_each(self._thrown)(before.memory, qpos, qvel)
        return state._replace(qpos=self.joined(qpos), qvel=self.joined(qvel))

    def _thrown(
        self, memory: Fallen, qpos: jax.Array, qvel: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of one robot and its cube, which are its last numbers."""
        angle_of, speed_of, error_of = jax.random.split(jax.random.fold_in(memory.run.key, 1), 3)
        dtype = qpos.dtype
        angle = jax.random.uniform(angle_of, (), dtype, -3.14, 3.14)
        speed = jax.random.uniform(speed_of, (), dtype, *SPEEDS)
        aim = qpos[:3] + qvel[:3] * (DISTANCE / speed)
        up = jnp.asarray(1.0, dtype)
        start = aim + jnp.stack([DISTANCE * jnp.cos(angle), DISTANCE * jnp.sin(angle), up])
        way = aim - start
        velocity = way * (speed / jnp.sqrt(jnp.sum(jnp.square(way))))
        velocity = velocity + jax.random.uniform(error_of, (3,), dtype, -1, 1)
        cube = jnp.concatenate([start, jnp.asarray([1, 0, 0, 0], dtype)])
        motion = jnp.concatenate([velocity, jnp.zeros(3, dtype)])
        thrown = lambda x, new: jnp.where(memory.throw, x.at[-new.shape[0] :].set(new), x)
        return thrown(qpos, cube), thrown(qvel, motion)

    # ---- what is seen and rewarded

    def seen(self, memory: Fallen, body: Body) -> jax.Array:
        """(10 + 2 joints,) as in `humanoid_flagrun`."""
        return super().seen(memory.run, body)

    def gain(self, past: Fallen, memory: Fallen) -> jax.Array:
        """() progress on the feet, and what was gained by getting up."""
        return super().gain(past.run, memory.run)

    def up(self, body: Body) -> jax.Array:
        """() 0.5 to 2, by the height of torso and pelvis."""
        pelvis = body.parts[2, 2] - body.ground
        return 0.5 + 1.5 * jnp.clip(0.7 * body.height + 0.3 * pelvis, 0, 0.7) / 0.7

    def price(self, body: Body) -> jax.Array:
        """() of electricity: less on the ground."""
        return jnp.where(self._low(body), 0.4, 1.0) * self.electricity_cost

    def gauged(self, memory: Fallen, body: Body) -> dict[str, jax.Array]:
        """() each, as in `humanoid_flagrun`."""
        return super().gauged(memory.run, body)

    def down(self, memory: Any, body: Body) -> jax.Array:
        """() bool: down for too long, or down at all when it could stand."""
        return memory.down >= GROUNDED
