"""All constraints of a state, as blocks."""

from collections.abc import Sequence

from gpusim.physics.collision.collide import Contacts
from gpusim.physics.constraint.blocks import Block
from gpusim.physics.constraint.contacts import contact_blocks
from gpusim.physics.constraint.limits import friction_blocks, limit_blocks
from gpusim.physics.kinematics import Pose
from gpusim.physics.linalg import Array
from gpusim.physics.model import Model


def constraints(
    model: Model, pose: Pose, contacts: Sequence[Contacts], qpos: Array, qvel: Array
) -> list[Block]:
    """What mj_makeConstraint makes; qvel with free joints in world axes."""
    return [
        *friction_blocks(model, qvel),
        *limit_blocks(model, qpos, qvel),
        *contact_blocks(model, pose, contacts, qvel),
    ]
