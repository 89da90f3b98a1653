"""A table of small models, one a feature."""

# ruff: noqa: E501
# (a model on a line)

ARM = """
<body name="base" pos="0 0 {height}">
  {joint}
  <geom name="upper" type="capsule" fromto="0 0 0 0.3 0 0" size="0.05"/>
  <site name="elbow" pos="0.3 0 0.02"/>
  <body name="fore" pos="0.3 0 0">
    <joint name="b" axis="0 1 0.2" {second}/>
    <joint name="c" axis="1 0 0" pos="0.02 0.03 0"/>
    <geom name="hand" type="capsule" fromto="0 0 0 0.25 0.02 0" size="0.04"/>
    <site name="tip" pos="0.25 0.02 0" euler="10 20 30"/>
  </body>
</body>"""
HINGE = '<joint name="a" axis="0 1 0.1" {first}/>'
BALL = '<joint name="a" type="ball" {first}/>'
FREE = '<freejoint name="a"/>'


def model(
    extra: str = "", *, option: str = "", joint: str = HINGE, first: str = "", second: str = "",
    floor: bool = False, more: str = "", height: float = 0.5, default: str = "",
) -> str:  # fmt: skip
    """An arm of three joints, with a floor to hit or without contacts."""
    ground = '<geom name="floor" type="plane" size="9 9 1" euler="3 2 0"/>' if floor else ""
    contact = "" if floor or "<geom" in default else '<geom contype="0" conaffinity="0"/>'
    arm = ARM.format(joint=joint.format(first=first), second=second, height=height)
    return f"""<mujoco><compiler autolimits="true"/>
      <option iterations="200" ls_iterations="100" tolerance="0" timestep="0.004" {option}/>
      <default>{contact}{default}</default>
      <worldbody>{ground}{arm}{more}</worldbody>{extra}</mujoco>"""


NOSLIP = 'noslip_iterations="100" noslip_tolerance="0"'
BOX = '<body pos="0 0 0.3"><freejoint/><geom {geom}/><site name="here"/></body>'
OTHER = '<body pos="0.05 0.02 0.75"><freejoint/><geom {geom}/><site name="there"/></body>'
PULL = """</worldbody><tendon><spatial stiffness="100" damping="2" springlength="0">
      <site site="here"/><site site="there"/></spatial></tendon>"""


def thing(geom: str, option: str = "", floor: str = "", other: str = "") -> str:
    """Something that falls on a floor, and another thing that a cord pulls to it."""
    more = OTHER.format(geom=other) if other else ""
    return f"""<mujoco><option iterations="200" ls_iterations="100" tolerance="0" {option}/>
      <worldbody><geom type="plane" size="9 9 1" euler="5 3 0" {floor}/>
      {BOX.format(geom=geom)}{more}{PULL if other else "</worldbody>"}</mujoco>"""


STONE = """<asset><mesh name="stone" vertex="0.1 0 0 -0.1 0 0.02 0 0.12 0 0 -0.1 0.01 0 0 0.09 0.03 0.02
  -0.08 0.07 0.06 0.05 -0.05 0.07 0.04 -0.06 -0.05 -0.04 0.05 -0.06 -0.05"/></asset>"""


def stones(geom: str, other: str = "") -> str:
    """The same of meshes, and of what C searches for: as far as that goes."""
    search = 'ccd_iterations="400" ccd_tolerance="1e-12"'
    return thing(geom, search, other=other).replace("</mujoco>", STONE + "</mujoco>")


def hills(geom: str) -> str:
    """Something that falls on a height field."""
    field = """<asset><hfield name="hills" nrow="5" ncol="6" size="3 3 0.2 0.1" elevation="0 1 2 1 0 1
      2 0 1 0 2 1 1 1 0 2 0 0 2 0 1 1 2 1 0 2 1 0 1 2"/></asset>"""
    ground = '<geom type="hfield" hfield="hills" pos="0 0 -0.2"/>'
    search = 'ccd_iterations="400" ccd_tolerance="1e-12"'
    return thing(geom, search).replace("<worldbody>", field + "<worldbody>" + ground)


def actuator(text: str) -> str:
    return f"<actuator>{text}</actuator>"


TENDON = """<tendon><fixed name="t" {attributes}><joint joint="a" coef="0.5"/>
  <joint joint="b" coef="-0.7"/></fixed></tendon>"""
CORD = """<tendon><spatial name="t" {attributes}>{path}</spatial></tendon>"""
POSTS = """<site name="post" pos="-0.2 0.1 0.9"/><site name="nail" pos="0.1 -0.3 0.6"/>
  <site name="side" pos="{side}"/>
  <geom name="ball" size="0.09" pos="0.1 0.02 0.75" contype="0" conaffinity="0"/>
  <geom name="roll" type="cylinder" size="0.08 0.3" pos="0.1 0.0 0.75" euler="80 20 0"
        contype="0" conaffinity="0"/>"""
FLUID = 'density="60" viscosity="0.4" wind="0.3 -0.2 0.1" '
SWIMS = '<geom fluidshape="ellipsoid" fluidcoef="0.6 0.3 1.4 0.9 1.1"/>'
EQ = "<equality>{}</equality>"
SECOND = """<body name="rod" pos="0.2 0.1 0.55"><freejoint/>
  <geom type="capsule" size="0.03 0.1"/><site name="grip" pos="0 0 0.1" euler="0 40 10"/></body>"""

FEATURES = {
    "ball": model(joint=BALL),
    "ball limits": model(joint=BALL, first='range="0 40" margin="0.05"'),
    "ball springs": model(joint=BALL, first='stiffness="4" springdamper="0 0"'),
    "ball damping": model(joint=BALL, first='damping="0.3" armature="0.02"'),
    "free spring": model(joint='<joint name="a" type="free" stiffness="6"/>'),
    "narrow range": model(first='range="-3 3" margin="0.1"'),
    "friction loss": model(first='frictionloss="0.3"', second='frictionloss="0.02"'),
    "friction loss of a ball": model(joint=BALL, first='frictionloss="0.2"'),
    "negative damping": model(first='damping="-0.2"', second='damping="-0.1"'),
    "mixed damping": model(first='damping="-0.2"', second='damping="0.1"'),
    "direct solref": model(first='range="-20 20" solreflimit="-500 -20"'),
    "refsafe off": model('<option><flag refsafe="disable"/></option>', first='range="-20 20" solreflimit="0.005 1"'),
    "condim 1": thing('size="0.1"  condim="1"', floor='condim="1"'),
    "condim 4": thing('size="0.1" condim="4" friction="1 0.01 0.001"'),
    "condim 6": thing('type="capsule" size="0.1 0.1" condim="6" friction="1 0.02 0.005"'),
    "elliptic": thing('type="capsule" size="0.1 0.1"', option='cone="elliptic" impratio="3"'),
    "elliptic 4": thing('size="0.1" condim="4" friction="1 0.01 0.001"', option='cone="elliptic"'),
    "elliptic 6": thing('type="capsule" size="0.1 0.1" condim="6" friction="0.7 0.02 0.005"',
                        option='cone="elliptic" impratio="2"'),
    "elliptic 1": thing('size="0.1" condim="1"', floor='condim="1"', option='cone="elliptic"'),
    "direct solref of a contact": thing('size="0.1" solref="-2000 -30"', floor='solref="-1000 -40"'),
    "gap": thing('size="0.1" gap="0.01" margin="0.02"'),
    "override": thing('size="0.1"', option='o_margin="0.01" o_solref="0.03 0.9" o_friction="0.5 0.5 0.01 0.01 0.01"><flag override="enable"/></option><option '),
    "plane box": thing('type="box" size="0.1 0.15 0.05"'),
    "plane cylinder": thing('type="cylinder" size="0.1 0.05"'),
    "plane ellipsoid": thing('type="ellipsoid" size="0.1 0.15 0.07"'),
    "sphere sphere": thing('size="0.1"', other='size="0.15"'),
    "capsule sphere": thing('type="capsule" size="0.1 0.2"', other='size="0.15"'),
    "sphere box": thing('size="0.1"', other='type="box" size="0.1 0.15 0.12"'),
    "sphere cylinder": thing('type="cylinder" size="0.1 0.05"', other='size="0.1"'),
    "capsule box": thing('type="box" size="0.2 0.15 0.05"', other='type="capsule" size="0.05 0.15"'),
    "box box": thing('type="box" size="0.1 0.15 0.05"', other='type="box" size="0.1 0.12 0.07"'),
    "plane mesh": stones('type="mesh" mesh="stone"'),
    "mesh mesh": stones('type="mesh" mesh="stone"', 'type="mesh" mesh="stone"'),
    "box mesh": stones('type="box" size="0.2 0.15 0.05"', 'type="mesh" mesh="stone"'),
    "sphere mesh": stones('type="mesh" mesh="stone"', 'size="0.1"'),
    "capsule mesh": stones('type="mesh" mesh="stone"', 'type="capsule" size="0.05 0.1"'),
    "capsule ellipsoid": stones('type="ellipsoid" size="0.1 0.15 0.07"', 'type="capsule" size="0.05 0.1"'),
    "capsule cylinder": stones('type="cylinder" size="0.15 0.05"', 'type="capsule" size="0.05 0.1"'),
    "height field": hills('size="0.1"'),
    "height field, margins": hills('type="capsule" size="0.06 0.1" margin="0.01"'),
    "explicit pair": thing('name="u" size="0.1" contype="0"', other='name="v" size="0.1" conaffinity="0" contype="0"')
        .replace("</mujoco>", '<contact><pair geom1="u" geom2="v" condim="4" friction="0.8 0.4 0.01 0 0" solref="0.03 1" margin="0.02"/></contact></mujoco>'),
    "explicit pair, elliptic": thing('name="u" size="0.1"', other='name="v" size="0.1"', option='cone="elliptic"')
        .replace("</mujoco>", '<contact><pair geom1="u" geom2="v" friction="0.8 0.4 0.01 0 0" solreffriction="0.05 1"/></contact></mujoco>'),
    "gravcomp": model(default="").replace('<body name="fore"', '<body name="fore" gravcomp="0.7"'),
    "actuated gravcomp": model(actuator('<motor joint="a"/>'), first='actuatorgravcomp="true" actuatorfrcrange="-0.5 0.5"')
        .replace('<body name="fore"', '<body name="fore" gravcomp="0.7"'),
    "actuatorfrcrange": model(actuator('<motor joint="a" gear="3"/><motor joint="a"/>'), first='actuatorfrcrange="-1 2"'),
    "position": model(actuator('<position joint="a" kp="20" kv="2"/>')),
    "position timeconst": model(actuator('<position joint="a" kp="20" timeconst="0.05"/>')),
    "intvelocity": model(actuator('<intvelocity joint="a" kp="20" actrange="-1 1"/>')),
    "damper": model(actuator('<damper joint="a" kv="2" ctrlrange="0 1"/>')),
    "cylinder": model(actuator('<cylinder joint="a" timeconst="0.1" area="2"/>')),
    "filter": model(actuator('<general joint="a" dyntype="filter" dynprm="0.04" gainprm="3"/>')),
    "filterexact early": model(actuator('<general joint="a" dyntype="filterexact" dynprm="0.04" actearly="true" actrange="-0.5 0.5"/>')),
    "muscle": model(actuator('<muscle joint="a" lengthrange="-1 1" force="20"/><muscle joint="b" lengthrange="-1 1" scale="50" tausmooth="0.2"/>')),
    "motor on a ball": model(actuator('<motor joint="a" gear="1 2 3"/>'), joint=BALL),
    "motor in the parent": model(actuator('<general joint="a" jointinparent="a" gear="1 2 3"/>').replace('joint="a" jointinparent', "jointinparent"), joint=BALL),
    "motor on a free joint": model(actuator('<motor joint="a" gear="1 2 3 0.1 0.2 0.3"/>'), joint=FREE),
    "free in the parent": model(actuator('<motor jointinparent="a" gear="1 2 3 0.1 0.2 0.3"/>'), joint=FREE),
    "site": model(actuator('<motor site="tip" gear="1 2 3 0.1 0.2 0.3"/>'), joint=FREE),
    "reference site": model(actuator('<position site="tip" refsite="post" gear="1 2 3 0 0 0" kp="3"/><motor site="elbow" refsite="tip" gear="0.1 0.2 0.3 0 0 0"/>'), more=POSTS.format(side="0 0 1"), joint=BALL),
    "turned reference site": model(actuator('<position site="tip" refsite="post" gear="0 0 0 1 2 3" kp="3"/><motor site="tip" refsite="elbow" gear="1 2 3 0.1 0.2 0.3"/>'), more=POSTS.format(side="0 0 1"), joint=FREE),
    "adhesive body": thing('type="capsule" size="0.1 0.1" margin="0.02" gap="0.05"', floor='name="ground"', other='size="0.1"')
        .replace('<body pos="0 0 0.3">', '<body name="sticky" pos="0 0 0.3">').replace("</mujoco>", actuator('<adhesion body="sticky" ctrlrange="0 1" gain="200"/>') + "</mujoco>"),
    "adhesive body of a list": stones('type="mesh" mesh="stone" margin="0.02" gap="0.05"').replace('<body pos="0 0 0.3">', '<body name="sticky" pos="0 0 0.3">')
        .replace("</mujoco>", actuator('<adhesion body="sticky" ctrlrange="0 1" gain="200"/>') + "</mujoco>"),
    "fixed tendon armature": model(TENDON.format(attributes='armature="0.3"')),
    "spatial armature": model(CORD.format(attributes='armature="3"', path='<site site="post"/><site site="elbow"/><site site="tip"/>'), more=POSTS.format(side="0 0 1"), joint=BALL),
    "group off": model(actuator('<motor joint="a" group="2"/><general joint="b" dyntype="filter" dynprm="0.1" group="2"/><motor joint="c"/>'), option='actuatorgroupdisable="2"'),
    "fixed tendon": model(TENDON.format(attributes='stiffness="5" springlength="0.1 0.2" damping="0.4"') + actuator('<position tendon="t" kp="3" gear="2"/>')),
    "tendon limits": model(TENDON.format(attributes='range="-0.1 0.1" margin="0.02" solreflimit="0.03 1"')),
    "tendon friction": model(TENDON.format(attributes='frictionloss="0.2"')),
    "tendon force range": model(TENDON.format(attributes='actuatorfrcrange="-1 2"') + actuator('<motor tendon="t" gear="2"/><motor tendon="t"/><motor joint="b"/>')),
    "spatial": model(CORD.format(attributes='stiffness="30" springlength="0.2" range="0.1 0.5"', path='<site site="post"/><site site="elbow"/><pulley divisor="2"/><site site="nail"/><site site="tip"/>'), more=POSTS.format(side="0 0 1")),
    "sphere wrap": model(CORD.format(attributes='stiffness="30"', path='<site site="post"/><geom geom="ball"/><site site="elbow"/><site site="tip"/>'), more=POSTS.format(side="0.1 0.02 1"), joint=BALL, height=0.8),
    "sphere sidesite": model(CORD.format(attributes='stiffness="30"', path='<site site="post"/><geom geom="ball" sidesite="side"/><site site="elbow"/>'), more=POSTS.format(side="0.1 0.02 1"), joint=BALL, height=0.8),
    "cylinder wrap": model(CORD.format(attributes='stiffness="30"', path='<site site="post"/><geom geom="roll"/><site site="elbow"/>'), more=POSTS.format(side="0.1 0.02 1"), joint=BALL, height=0.8),
    "cylinder sidesite": model(CORD.format(attributes='stiffness="30"', path='<site site="post"/><geom geom="roll" sidesite="side"/><site site="elbow"/>'), more=POSTS.format(side="0.1 0.02 1"), joint=BALL, height=0.8),
    "inside wrap": model(CORD.format(attributes='stiffness="30"', path='<site site="post"/><geom geom="ball" sidesite="side"/><site site="elbow"/>'), more=POSTS.format(side="0.1 0.04 0.75"), joint=BALL, height=0.8),
    "connect": model(EQ.format('<connect body1="fore" anchor="0.2 0 0"/>')),
    "connect of two": model(EQ.format('<connect body1="fore" body2="rod" anchor="0.2 0 0"/>'), more=SECOND),
    "connect sites": model(EQ.format('<connect site1="tip" site2="grip"/>'), more=SECOND),
    "weld": model(EQ.format('<weld body1="fore" body2="rod" solref="0.03 1" torquescale="0.7"/>'), more=SECOND),
    "weld sites": model(EQ.format('<weld site1="grip" site2="tip"/>'), more=SECOND),
    "joint equality": model(EQ.format('<joint joint1="a" joint2="b" polycoef="0.1 0.5 0.2 0.1 0.3"/><joint joint1="c" polycoef="0.2 0 0 0 0"/>')),
    "tendon equality": model(TENDON.format(attributes="") + EQ.format('<tendon tendon1="t" polycoef="0.1 0 0 0 0"/>')),
    "inactive": model(EQ.format('<connect body1="fore" anchor="0.2 0 0" active="false"/>')),
    "mocap": model(EQ.format('<weld body1="hand_of_god" body2="fore"/>'), more='<body name="hand_of_god" mocap="true" pos="0.4 0 0.5"><geom size="0.1"/></body>'),
    "massless": model(more='<body name="ghost" mocap="true" pos="0.4 0 0.5"><geom size="0.1" mass="0" pos="0.1 0.2 0" contype="0"/></body>'),
    "RK4": model(option='integrator="RK4"', first='damping="0.3"', floor=True, height=0.2),
    "RK4 with activations": model(actuator('<general joint="a" dyntype="filter" dynprm="0.04" gainprm="3"/>'), option='integrator="RK4"', joint=BALL).replace('joint="a" dyntype', 'joint="b" dyntype'),
    "eulerdamp off": model('<option><flag eulerdamp="disable"/></option>', first='damping="0.3"'),
    "implicitfast": model(actuator('<position joint="a" kp="20" kv="2"/><velocity joint="b" kv="3" forcerange="-1 1"/>') + TENDON.format(attributes='damping="0.4"'), option='integrator="implicitfast"', first='damping="0.3"', floor=True, height=0.2),
    "implicitfast at limits of joints' forces": model(actuator('<velocity joint="a" kv="4"/><velocity jointinparent="a" kv="2"/><velocity tendon="t" kv="3"/><velocity joint="b" kv="5"/>') + TENDON.format(attributes='actuatorfrcrange="-2 2"'),
        option='integrator="implicitfast"', first='actuatorfrcrange="-1 1"', second='actuatorfrcrange="-9 9"'),
    "implicit at limits of gravity carried": model(actuator('<velocity joint="a" kv="0.5"/><general joint="b" gaintype="affine" gainprm="0 0 -3" ctrlrange="-0.4 0.4"/>'),
        option='integrator="implicit"', first='actuatorgravcomp="true" actuatorfrcrange="-0.5 0.5"').replace("<body name=\"fore\"", "<body name=\"fore\" gravcomp=\"0.7\""),
    "implicitfast across branches": model(CORD.format(attributes='damping="9"', path='<site site="tip"/><site site="far"/>') + actuator('<velocity tendon="t" kv="3"/>'),
        option='integrator="implicitfast"', more='<body pos="0.7 0.1 0.9"><joint axis="0 1 0"/><geom size="0.1"/><site name="far" pos="0.2 0 0.1"/></body>'),
    "implicit across branches": model(CORD.format(attributes='damping="9"', path='<site site="tip"/><site site="far"/>'),
        option='integrator="implicit"', more='<body pos="0.7 0.1 0.9"><joint axis="0 1 0"/><geom size="0.1"/><site name="far" pos="0.2 0 0.1"/></body>'),
    "implicitfast in flight": model(option='integrator="implicitfast"', more=SECOND),
    "implicitfast in flight, a part welded on": model(option='integrator="implicitfast"', more='<body pos="0.7 0.1 0.9"><freejoint/>'
        '<geom type="box" size="0.1 0.2 0.05"/><body pos="0.2 0 0.1"><geom size="0.1"/></body></body>'),
    "implicit": model(actuator('<position joint="b" kp="20" kv="2"/>'), option='integrator="implicit"', second='damping="0.3"', joint=FREE),
    "implicit muscle": model(actuator('<muscle joint="b" lengthrange="-1 1" force="20"/>'), option='integrator="implicitfast"', second='damping="0.3"'),
    "fluid": model(option=FLUID),
    "implicit in a fluid": model(option=FLUID + 'integrator="implicit"', joint=FREE),
    "implicitfast in a fluid": model(option=FLUID + 'integrator="implicitfast"', more=SECOND),
    "ellipsoids in a fluid": model(option=FLUID, default=SWIMS, joint=FREE, more=SECOND),
    "implicit ellipsoids in a fluid": model(option=FLUID + 'integrator="implicit"', default=SWIMS),
    "implicitfast ellipsoids in a fluid": model(option=FLUID + 'integrator="implicitfast"', default=SWIMS, more=SECOND),
    "no gravity": model('<option><flag gravity="disable"/></option>'),
    "no springs": model('<option><flag spring="disable"/></option>', first='damping="0.3" stiffness="3"'),
    "no dampers": model('<option><flag damper="disable"/></option>', first='damping="0.3" stiffness="3"'),
    "no limits": model('<option><flag limit="disable"/></option>', first='range="-3 3"'),
    "no contacts": model('<option><flag contact="disable"/></option>', floor=True),
    "no constraints": model('<option><flag constraint="disable"/></option>', floor=True, first='range="-3 3"'),
    "no actuation": model('<option><flag actuation="disable"/></option>' + actuator('<motor joint="a"/><general joint="b" dyntype="filter" dynprm="0.04"/>')),
    "no clamping": model('<option><flag clampctrl="disable"/></option>' + actuator('<motor joint="a" ctrlrange="-0.1 0.1"/>')),
    "parents collide": model('<option><flag filterparent="disable"/></option>', floor=True),
    "noslip": thing('type="capsule" size="0.1 0.1"', option=NOSLIP),
    "noslip 6": thing('type="capsule" size="0.1 0.1" condim="6" friction="1 0.02 0.005"', option=NOSLIP),
    "noslip elliptic": thing('type="capsule" size="0.1 0.1"', option=NOSLIP + ' cone="elliptic" impratio="3"'),
    "noslip elliptic 4": thing('type="capsule" size="0.1 0.1" condim="4" friction="1 0.02 0.005"', option=NOSLIP + ' cone="elliptic"'),
    "noslip elliptic 6": thing('type="capsule" size="0.1 0.1" condim="6" friction="1 0.02 0.005"', option=NOSLIP + ' cone="elliptic"'),
    "noslip of a list": stones('type="mesh" mesh="stone"').replace("<option", "<option " + NOSLIP),
    "noslip in joints": model(first='frictionloss="0.3" range="-20 20"', second='frictionloss="0.02"', option=NOSLIP),
    "PGS": thing('size="0.1"', option='solver="PGS"'),
    "CG": thing('size="0.1"', option='solver="CG"'),
}  # fmt: skip
