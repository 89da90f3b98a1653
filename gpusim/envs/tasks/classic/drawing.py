"""What replays show of the classic tasks: MuJoCo models that only pose, seen from the side."""

# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from typing import Any

RED, BLUE, GREY = ".8 .3 .2 1", ".35 .45 .75 1", ".6 .62 .65 1"


def model(world: str) -> Any:
    """A mujoco.MjModel of these bodies and geoms; the camera follows the first body."""
    import mujoco

    return mujoco.MjModel.from_xml_string(f"""
      <mujoco>
        <visual><headlight ambient=".45 .45 .45" diffuse=".5 .5 .5"/></visual>
        <asset><texture type="skybox" builtin="gradient" rgb1=".75 .85 .95" rgb2=".95 .97 1"
          width="64" height="64"/></asset>
        <default><geom contype="0" conaffinity="0"/><joint limited="false"/></default>
        <worldbody>
          <geom type="plane" size="0 0 1" pos="0 0 -1.3" rgba=".78 .8 .78 1"/>
          {world}
        </worldbody>
      </mujoco>""")


def rod(length: float, colour: str) -> str:
    """A rod that hangs from the frame's origin."""
    return (
        f'<geom type="capsule" fromto="0 0 0 0 0 {-length}" size=".06" rgba="{colour}" mass="1"/>'
    )
