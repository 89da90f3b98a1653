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


HILLS = '<asset><hfield name="h" nrow="2" ncol="2" size="1 1 1 1" elevation="0 1 1 0"/></asset>'
REFUSED = {
    "geom 'shell': adhesion": mjcf(geom='size="1" adhesion="2"'),
    "actuator 'arm' .dyntype user": mjcf(
        '<actuator><general name="arm" joint="lid" dyntype="user" actdim="1"/></actuator>'
    ),
    "geoms 'hills' and 'shell': hfield against sphere: option flag nativeccd=disable": mjcf(
        HILLS + '<option><flag nativeccd="disable"/></option>'
    ).replace("<worldbody>", '<worldbody><geom name="hills" type="hfield" hfield="h"/>'),
    "geoms 'shell' and 'pole': capsule against cylinder: option flag multiccd=disable": mjcf(
        '<option><flag multiccd="disable"/></option>', geom='type="capsule" size="0.1 0.1"'
    ).replace("<worldbody>", '<worldbody><geom name="pole" type="cylinder" size="0.1 0.1"/>'),
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


@pytest.mark.parametrize(
    ("body", "option", "told"),
    [
        ('pos="0 0 nan"', "", r"model .*: (qpos0|body_pos) \d is not a number"),
        ("", 'gravity="0 nan 0"', "gravity 1 is not a number"),
        ("", 'timestep="0"', "timestep is 0.0, not positive"),
    ],
)
def test_what_is_no_number_is_refused(body: str, option: str, told: str):
    with pytest.raises(ValueError, match=told):
        physics.load(
            f"<mujoco><option {option}/><worldbody><body {body}><freejoint/>"
            '<geom size=".1"/></body></worldbody></mujoco>'
        )
