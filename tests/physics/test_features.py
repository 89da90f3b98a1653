"""What is not simulated is refused, with the element, the feature and the file in the message."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import pathlib

import mujoco
import pytest

from gpusim import physics

BODY = """<body name="box"><joint name="lid" type="{joint}" {attributes}/>
          <geom name="shell" {geom}/><site name="spot"/></body>"""


def mjcf(extra="", joint="hinge", attributes="", geom='size="0.1"') -> str:
    body = BODY.format(joint=joint, attributes=attributes, geom=geom)
    ground = '<geom name="floor" type="plane" size="1 1 1"/>'
    return f'<mujoco model="thing"><worldbody>{ground}{body}</worldbody>{extra}</mujoco>'


REFUSED = {
    "integrator=rk4": mjcf('<option integrator="RK4"/>'),
    "cone=elliptic": mjcf('<option cone="elliptic"/>'),
    "solver=cg": mjcf('<option solver="CG"/>'),
    "flag gravity=disable": mjcf('<option><flag gravity="disable"/></option>'),
    "geom 'shell': fluidshape=ellipsoid": mjcf(
        '<option density="1000"/>', geom='size="1" fluidshape="ellipsoid"'
    ),
    "joint 'lid' .type ball": mjcf(joint="ball"),
    "joint 'lid': frictionloss": mjcf(attributes='frictionloss="1"'),
    "joint 'lid': actuatorfrcrange": mjcf(attributes='actuatorfrcrange="-1 1"'),
    "equality constraint 'grip' .type connect": mjcf(
        '<equality><connect name="grip" body1="box" anchor="0 0 0"/></equality>'
    ),
    "tendon 'rope'": mjcf(
        '<tendon><fixed name="rope"><joint joint="lid" coef="1"/></fixed></tendon>'
    ),
    "actuator 'arm' .dyntype filter": mjcf(
        '<actuator><general name="arm" joint="lid" dyntype="filter"/></actuator>'
    ),
    "actuator 'arm' .transmission site": mjcf(
        '<actuator><motor name="arm" site="spot"/></actuator>'
    ),
}


@pytest.mark.parametrize("finding", REFUSED)
def test_refused_by_name(finding: str, tmp_path: pathlib.Path):
    file = tmp_path / "thing.xml"
    file.write_text(REFUSED[finding])
    with pytest.raises(physics.Unsupported, match=rf"(?i)model thing\.xml: .*{finding}.*docs/phys"):
        physics.load(file)


def test_the_plain_one_loads():
    model = physics.load(mujoco.MjModel.from_xml_string(mjcf()))
    assert model.name == "thing"
    assert model.body_names == ("world", "box")


def test_geoms_that_may_never_touch_need_no_collision_function():
    box = 'type="box" size="1 1 1" contype="0" conaffinity="0"'
    model = physics.load(mujoco.MjModel.from_xml_string(mjcf(geom=box)))
    assert model.topology.pairs == ()
