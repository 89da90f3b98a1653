"""Random valid models, a step of each against C: `python -m tests.physics.fuzz --models 500`.

A model has one to twenty bodies in one or more trees and a random choice of what MJCF has for rigid
bodies. Round shapes that C compares by iteration meet the floor only, so that everything has to
agree to rounding. Ends with 1 if a model failed; each that did is printed by its seed.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import argparse
import collections
import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import lanes, physics
from gpusim.physics.kinematics import Mocap
from tests.physics.features import FIELDS, Moments, errors, moments

BOUND = 1e-7  # of an error relative to 1 + the largest number of its quantity; where solvers end
# Of geoms, what they are let touch: closed forms each other and the floor, the others the floor.
SIMPLE, ROUND = 'contype="2" conaffinity="3"', 'contype="0" conaffinity="1"'
SENSORS = {
    "site": "gyro velocimeter accelerometer magnetometer force torque touch rangefinder".split(),
    "body": "subtreecom subtreelinvel subtreeangmom".split(),
}
FRAMES = "framepos framequat framexaxis framelinvel frameangvel framelinacc frameangacc".split()


class Writer:
    """Draws one model, of so many bodies at most."""

    def __init__(self, seed: int, most: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.joints: list[tuple[str, str]] = []  # name and type
        self.bodies: list[str] = []
        self.tendons = 0
        self.pulled = False  # by forces that sensors of force do not know
        self.most = most or int(self.rng.choice([2, 4, 8, 20], p=[0.4, 0.3, 0.2, 0.1]))
        self.condims = self.rng.choice([1, 3, 4, 6], self.rng.integers(1, 3), replace=False)

    # ---- drawing

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, *what):
        return what[self.rng.integers(len(what))]

    def numbers(self, n: int, low: float, high: float) -> str:
        return " ".join(f"{x:.3g}" for x in self.rng.uniform(low, high, n))

    def maybe(self, p: float, name: str, n: int, low: float, high: float) -> str:
        """An attribute, or nothing."""
        return f' {name}="{self.numbers(n, low, high)}"' if self.chance(p) else ""

    # ---- the model

    def model(self) -> str:
        """MJCF."""
        trees = "".join(self.tree() for _ in range(self.rng.integers(1, min(self.most, 4))))
        turned = self.maybe(0.5, "euler", 3, -5, 5)
        floor = f'<geom type="plane" size="9 9 1" contype="1" conaffinity="0"{turned}/>'
        world = trees + (floor if self.chance(0.8) else "")
        return (
            f"<mujoco>{self.option()}<worldbody>{world}</worldbody>{self.ties()}"
            f"<actuator>{self.actuators()}</actuator><sensor>{self.sensors()}</sensor></mujoco>"
        )

    def option(self) -> str:
        integrator = self.pick("Euler", "Euler", "implicitfast", "implicit", "RK4")
        cone, ratio = self.pick("pyramidal", "elliptic"), self.pick(1, 1, 3)
        fluid = self.maybe(0.2, "density", 1, 1, 50) + self.maybe(0.2, "viscosity", 1, 0, 0.5)
        gravity = self.maybe(0.2, "gravity", 3, -9, 5)
        return (
            f'<option timestep="{self.pick(0.002, 0.005)}" integrator="{integrator}" cone="{cone}" '
            f'impratio="{ratio}" iterations="200" tolerance="1e-15" ls_iterations="100"'
            f"{fluid}{gravity}/>"
        )

    def tree(self) -> str:
        free = self.chance(0.5)
        return self.body(0, free, self.numbers(2, -0.4, 0.4) + " " + self.numbers(1, 0.1, 0.6))

    def body(self, depth: int, free: bool, pos: str) -> str:
        name = f"b{len(self.bodies)}"
        self.bodies.append(name)
        text = f'<body name="{name}" pos="{pos}"' + self.maybe(0.5, "euler", 3, -180, 180)
        text += (' gravcomp="0.6"' if self.chance(0.1) else "") + ">"
        text += "<freejoint/>" if free else self.joint_s(depth)
        text += self.geom() + (self.geom() if self.chance(0.3) else "")
        text += f'<site name="{name}"{self.maybe(0.7, "pos", 3, -0.1, 0.1)} size="0.1"'
        text += f'{self.maybe(0.5, "euler", 3, -90, 90)} type="{self.pick("sphere", "box")}"/>'
        for _ in range(self.rng.integers(0, 3 if depth < 4 else 1)):
            if len(self.bodies) < self.most:
                text += self.body(depth + 1, False, self.numbers(3, -0.3, 0.3))
        return text + "</body>"

    def joint_s(self, depth: int) -> str:
        if depth and self.chance(0.1):
            return ""
        if self.chance(0.2):
            return self.joint("ball")
        return "".join(self.joint(self.pick("hinge", "hinge", "slide"))
                       for _ in range(self.rng.integers(1, 3)))  # fmt: skip

    def joint(self, kind: str) -> str:
        name = f"j{len(self.joints)}"
        self.joints.append((name, kind))
        text = f'<joint name="{name}" type="{kind}"' + self.maybe(0.3, "pos", 3, -0.1, 0.1)
        if kind != "ball":
            text += f' axis="{self.numbers(2, -1, 1)} {self.pick(0.5, -1, 1)}"'
        if self.chance(0.4):
            low, high = {"ball": (0, 40), "hinge": (-20, 30), "slide": (-0.05, 0.1)}[kind]
            text += f' limited="true" range="{low} {high}"' + self.maybe(0.3, "margin", 1, 0, 0.02)
        text += self.maybe(0.5, "damping", 1, 0, 2) + self.maybe(0.3, "armature", 1, 0, 0.1)
        text += self.maybe(0.3, "stiffness", 1, 0, 20) + self.maybe(0.3, "frictionloss", 1, 0, 0.5)
        if kind != "ball":
            text += self.maybe(0.2, "springref", 1, -0.2, 0.2)
        return text + "/>"

    def geom(self) -> str:
        kind = self.pick("sphere", "capsule", "box", "sphere", "capsule", "ellipsoid", "cylinder")
        sizes = {"sphere": 1, "capsule": 2, "cylinder": 2}.get(kind, 3)
        touches = ROUND if kind in ("ellipsoid", "cylinder") else SIMPLE
        text = f'<geom type="{kind}" size="{self.numbers(sizes, 0.03, 0.12)}" {touches}'
        text += f' condim="{self.pick(*self.condims)}"' + self.maybe(0.5, "pos", 3, -0.1, 0.1)
        text += self.maybe(0.5, "euler", 3, -180, 180) + self.maybe(0.5, "density", 1, 200, 2000)
        if self.chance(0.4):
            text += f' friction="{self.numbers(1, 0.1, 1.5)} {self.numbers(2, 0.001, 0.05)}"'
        if self.chance(0.3):
            text += f' solref="{self.numbers(1, 0.01, 0.05)} {self.numbers(1, 0.5, 1.5)}"'
        elif self.chance(0.2):
            text += f' solref="-{self.numbers(1, 200, 2000)} -{self.numbers(1, 5, 50)}"'
        text += self.maybe(0.2, "solmix", 1, 0.2, 2) + (' priority="1"' if self.chance(0.1) else "")
        if self.chance(0.2):
            text += ' margin="0.02"' + (' gap="0.01"' if self.chance(0.5) else "")
        return text + "/>"

    def ties(self) -> str:
        """Tendons and equality constraints."""
        straight = [name for name, kind in self.joints if kind != "ball"]
        tendons, equal = "", ""
        if len(straight) > 1 and self.chance(0.4):
            two = self.rng.choice(straight, 2, replace=False)
            parts = "".join(f'<joint joint="{j}" coef="{self.numbers(1, -1, 1)}"/>' for j in two)
            tendons += self.tendon("fixed", parts)
        if len(self.bodies) > 1 and self.chance(0.3):
            two = self.rng.choice(self.bodies, 2, replace=False)
            self.pulled = True
            tendons += self.tendon("spatial", "".join(f'<site site="{s}"/>' for s in two))
        if len(straight) > 1 and self.chance(0.2):
            a, b = self.rng.choice(straight, 2, replace=False)
            poly = self.numbers(3, -0.5, 0.5)
            equal += f'<joint joint1="{a}" joint2="{b}" polycoef="{poly} 0 0"/>'
        if len(self.bodies) > 1 and self.chance(0.2):
            a, b = self.rng.choice(self.bodies, 2, replace=False)
            self.pulled = True
            equal += f'<{self.pick("connect", "weld")} site1="{a}" site2="{b}"/>'
        return f"<tendon>{tendons}</tendon><equality>{equal}</equality>"

    def tendon(self, kind: str, parts: str) -> str:
        self.tendons += 1
        text = f'<{kind} name="t{self.tendons - 1}"' + self.maybe(0.5, "damping", 1, 0, 1)
        text += self.maybe(0.5, "stiffness", 1, 0, 20) + self.maybe(0.3, "frictionloss", 1, 0, 0.5)
        if self.chance(0.4):
            text += ' limited="true" range="-0.1 0.25"'
        return f"{text}>{parts}</{kind}>"

    def actuators(self) -> str:
        targets = [f'joint="{name}"' for name, kind in self.joints if kind != "ball"]
        targets += [f'tendon="t{k}"' for k in range(self.tendons)]
        targets += [f'site="{b}" gear="{self.numbers(6, -1, 1)}"' for b in self.bodies[:2]]
        return "".join(self.actuator(t) for t in targets if self.chance(0.5))

    def actuator(self, target: str) -> str:
        kind = self.pick("motor", "position", "velocity", "general", "intvelocity", "damper")
        text = f"<{kind} {target}"
        if kind == "damper":
            text += ' ctrlrange="0 1"'
        elif self.chance(0.6):
            text += ' ctrlrange="-1 1"'
        text += ' forcerange="-1.5 2"' if self.chance(0.3) else ""
        if kind == "general":
            dynamics = self.pick("none", "integrator", "filter", "filterexact")
            text += f' dyntype="{dynamics}" dynprm="0.1" gainprm="{self.numbers(1, 0.5, 3)}"'
            text += f' biastype="affine" biasprm="{self.numbers(3, -1, 0.2)}"'
        elif kind in ("position", "intvelocity"):
            text += f' kp="{self.numbers(1, 1, 20)}"'
            text += ' actrange="-0.5 0.5"' if kind == "intvelocity" else ""
        elif kind != "motor":
            text += f' kv="{self.numbers(1, 0.1, 2)}"'
        return text + "/>"

    def sensors(self) -> str:
        text = ""
        for _ in range(6):
            body, kind = self.pick(*self.bodies), self.pick("site", "body", "frame")
            if kind == "frame":
                of = self.pick("site", "body", "xbody")
                text += f'<{self.pick(*FRAMES)} objtype="{of}" objname="{body}"/>'
            else:
                sensor = self.pick(*SENSORS[kind])
                if not (self.pulled and sensor in ("force", "torque")):
                    text += f'<{sensor} {kind}="{body}"/>'
        return text


def run(seed: int, most: int | None = None) -> dict[str, float]:
    """The error of each quantity over some moments of a model; raises Unsupported."""
    m = mujoco.MjModel.from_xml_string(Writer(seed, most).model())
    loaded = physics.load(m)
    if (m.tendon_invweight0 < 1e-20).any():  # nothing moves one: its rows are rounding times 1e15
        return {}
    m.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    found = moments(m, 12, seed, wanted=lambda d: d.nefc > 0)
    calm = [k for k in range(len(found.after)) if _calm(m, found, k)]
    if not calm:
        return {}
    before, after, last = ([x[k] for k in calm] for x in found[1:])
    found = Moments({name: x[calm] for name, x in found.given.items()}, before, after, last)
    state, derived, readings = _stepped(loaded, found)
    worst = errors(found, state, derived)
    if int(m.opt.integrator) != int(mujoco.mjtIntegrator.mjINT_RK4):  # of another state then
        theirs = np.array([d.sensordata for d in found.before])
        scale = 1 + max(np.abs(x).max() for x in (theirs, *(d.qacc for d in found.before)))
        worst["sensordata"] = np.abs(readings - theirs).max() / scale  # some are accelerations
    return worst


def _calm(m: mujoco.MjModel, found: Moments, k: int) -> bool:
    """Whether rounding is not all that there is: after an explosion (C warns and begins anew, or a
    step is more than a radian), or where a contact holds what cannot move, 1e15 times as stiff.
    """
    before, after = found.before[k], found.after[k]
    fastest = max(np.abs(found.given["qvel"][k]).max(), np.abs(after.qvel).max())
    stiffest = np.max(before.efc_D, initial=0)
    explodes = any(w.number for w in after.warning) or fastest * m.opt.timestep > 1
    return not explodes and bool(stiffest < 1e12)


def _stepped(loaded: physics.Model, found: Moments):
    """The step and the sensors, and whether the order of the worlds matters to them."""
    m, g = loaded.mj, found.given

    def step(qpos, qvel, act, qacc, mocap_pos, mocap_quat, ctrl, warmstart):
        mocap = Mocap(mocap_pos, mocap_quat) if m.nmocap else None
        state = physics.State(qpos, qvel, warmstart, act if m.na else None, mocap)
        after, derived = physics.step(loaded, state, ctrl)
        return after, derived, physics.sensors(loaded, derived)

    with jax.enable_x64(True):
        mapped = jax.jit(jax.vmap(lanes.kernel(step)))
        args = [jnp.asarray(g[f]) for f in FIELDS]
        out = jax.tree.map(np.asarray, mapped(*args))
        turned = jax.tree.map(lambda x: np.asarray(x)[::-1], mapped(*(x[::-1] for x in args)))
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(turned), strict=True):
        np.testing.assert_array_equal(a, b)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    options = parser.parse_args()
    counts: collections.Counter = collections.Counter()
    for seed in range(options.seed, options.seed + options.models):
        try:
            worst = run(seed)
        except physics.Unsupported as refused:
            counts[f"refused: {refused}"] += 1
            continue
        except ValueError as error:  # of MuJoCo's compiler
            counts["no valid model"] += 1
            print(f"model {seed} is none: {error}", flush=True)
            continue
        bad = {k: v for k, v in worst.items() if not v < BOUND}
        counts["wrong" if bad else "agreed"] += 1
        if bad:
            print(f"model {seed}: {bad}", flush=True)
        jax.clear_caches()
    for what, count in counts.most_common():
        print(f"{count} {what}")
    return bool(counts["wrong"])


if __name__ == "__main__":
    sys.exit(main())
