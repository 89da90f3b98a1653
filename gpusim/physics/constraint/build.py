"""All constraints of a state, as blocks."""

from collections.abc import Sequence

from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.blocks import Block
from gpusim.physics.constraint.contacts import contact_blocks
from gpusim.physics.constraint.equality import equality_blocks
from gpusim.physics.constraint.limits import friction_blocks, limit_blocks
from gpusim.physics.dynamics import Motion
from gpusim.physics.kinematics import Mocap, Pose, orientations
from gpusim.physics.linalg import Array
from gpusim.physics.model import Model
from gpusim.physics.tendons import Tendons


def constraints(
    model: Model,
    pose: Pose,
    motion: Motion,
    tendons: Tendons,
    contacts: Sequence[Contacts],
    qpos: Array,
    qvel: Array,
    mocap: Mocap | None = None,
) -> list[Block]:
    """What mj_makeConstraint makes; qvel with free joints and balls in world axes."""
    disabled, blocks = model.options.disabled, []
    if "constraint" in disabled:
        return []
    if "equality" not in disabled and model.mj.neq:
        quats = orientations(model, qpos, mocap)
        blocks += equality_blocks(model, pose, motion, quats, tendons, qpos, qvel)
    if "frictionloss" not in disabled:
        blocks += friction_blocks(model, pose, tendons, qvel)
    if "limit" not in disabled:
        blocks += limit_blocks(model, pose, tendons, qpos, qvel)
    return [*blocks, *contact_blocks(model, pose, contacts, qvel)]
