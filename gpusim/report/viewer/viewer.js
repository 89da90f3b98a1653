"use strict";
// Draws the replay and runs its controls. Nothing is drawn while nothing changes.

const byId = (id) => document.getElementById(id);
const canvas = byId("view"), stage = byId("stage");
const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
if (!gl) {
  stage.insertAdjacentHTML("beforeend",
    '<p id="failure">The replay is drawn with WebGL2, which this browser does not offer.</p>');
  throw new Error("WebGL2 is not available");
}

// --- Day and night, as the page around is

const looks = {
  light: { uHorizon: [.74, .82, .89], uZenith: [.14, .31, .58],
    uTiles: [.19, .22, .27, .27, .305, .35] },
  dark: { uHorizon: [.010, .014, .020], uZenith: [.002, .004, .009],
    uTiles: [.018, .024, .033, .034, .043, .056] },
};
const darkness = matchMedia("(prefers-color-scheme: dark)");
darkness.addEventListener("change", () => { stale = true; });

function dress(shader) {
  const look = looks[darkness.matches ? "dark" : "light"];
  for (const name in look)
    if (shader[name]) gl.uniform3fv(shader[name], look[name]);
}

// --- The scene

const SHADOW_MAP = 2048, FOV = 0.7, SUN = unit([0.42, -0.5, 0.95]);
const floors = replay.geoms.filter((g) => g.type === "plane");
const solids = replay.geoms.filter((g) => g.type !== "plane");
const paths = replay.tracks.map(smoothPath);
const [reach, crown] = sceneExtent();
const cell = 10 ** Math.round(Math.log10(reach * 0.8));
const spacing = 2.6 * reach;  // between tracks that stand side by side, in y
const alone = replay.tracks.length === 1;
// Seen from the camera's first place the first track is in front, so that none hides it.
const offsetOf = (track) => [0, spacing * track, 0];
if (!floors.length) floors.push(backdrop());

function geomPose(geom, track, frame) {
  const body = bodyPose(replay.tracks[track], geom.body, frame);
  const pose = multiply(body, rigid(geom.pos, geom.quat));
  const offset = offsetOf(track);
  for (let i = 0; i < 3; i++) pose[12 + i] += offset[i];
  return pose;
}

// How far robots extend from the point that the camera follows, and how high above it their heads
// are, in metres: nearly always, for one that is thrown about in a fall need not be seen small.
function sceneExtent() {
  const far = [], high = [], moving = solids.filter((g) => g.body > 0);
  replay.tracks.forEach((track, i) => {
    const steps = Math.min(60, track.frames);
    for (let k = 0; k < steps; k++) {
      const frame = Math.floor(k * track.frames / steps);
      const away = moving.map((g) => {
        const pose = multiply(bodyPose(track, g.body, frame), rigid(g.pos, g.quat));
        return [g, sub([...pose.subarray(12, 15)], paths[i][frame])];
      });
      far.push(Math.max(0.01, ...away.map(([g, p]) => Math.hypot(...p) + g.bound)));
      high.push(Math.max(0, ...away.map(([g, p]) => p[2] + Math.min(...g.size.filter((x) => x > 0)))));
    }
  });
  const nearly = (values) => values.sort((a, b) => a - b)[Math.floor(0.97 * (values.length - 1))];
  return [nearly(far), nearly(high)];
}

// A model without a floor stands over one that touches nothing.
function backdrop() {
  const low = Math.min(...paths[0].map((p) => p[2])) - 1.1 * reach;
  return { type: "plane", size: [0, 0, 0], rgba: [1, 1, 1, 1], body: 0, pos: [0, 0, low],
    quat: [1, 0, 0, 0] };
}

// --- WebGL objects

function program(vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS))
      throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
    const name = gl.getActiveUniform(made, i).name;
    uniforms[name.replace("[0]", "")] = gl.getUniformLocation(made, name);
  }
  return { made, ...uniforms };
}

function upload({ vertices, triangles }) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(vertices), gl.STATIC_DRAW);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(triangles), gl.STATIC_DRAW);
  for (const [slot, shift] of [[0, 0], [1, 12]]) {
    gl.enableVertexAttribArray(slot);
    gl.vertexAttribPointer(slot, 3, gl.FLOAT, false, 24, shift);
  }
  return { array, count: triangles.length };
}

function shadowTarget() {
  const texture = gl.createTexture(), frame = gl.createFramebuffer();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texStorage2D(gl.TEXTURE_2D, 1, gl.DEPTH_COMPONENT24, SHADOW_MAP, SHADOW_MAP);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_COMPARE_MODE, gl.COMPARE_REF_TO_TEXTURE);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
    gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
  gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, texture, 0);
  return frame;
}

const background = program(backgroundVertex, backgroundFragment);
const solid = program(solidVertex, solidFragment);
const depth = program(depthVertex, depthFragment);
const shadow = shadowTarget();
for (const geom of [...floors, ...solids]) geom.drawn = upload(meshes[geom.type](geom.size, geom));

// --- One picture

// A page of its own is all replay; within another page wheel and keys are the replay's once it was
// clicked, and one finger scrolls the page.
const whole = document.body.classList.contains("whole");
const camera = orbitCamera(canvas, { azimuth: -1.1, elevation: 0.26, distance: 3.4 * reach },
  (event) => whole || event.ctrlKey || stage.contains(document.activeElement),
  () => { stale = true; });
const state = { time: 0, speed: 1, playing: true, loop: true, track: 0, follow: true,
  held: [0, 0, 0] };
let stale = true;

const end = () => replay.dt * Math.max(...replay.tracks.map((t) => t.frames - 1));

function followed() {
  const path = paths[state.track], f = Math.min(state.time / replay.dt, path.length - 1);
  const i = Math.floor(f), j = Math.min(i + 1, path.length - 1);
  return add(add(scale(path[i], 1 - f + i), scale(path[j], f - i)), offsetOf(state.track));
}

function drawMesh(mesh) {
  gl.bindVertexArray(mesh.array);
  gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
}

// Every drawn thing of this instant, each track in a place of its own; `over` if it has ended.
function instances(frame) {
  return replay.tracks.flatMap(({ frames }, track) => solids.map((geom) =>
    ({ geom, track, pose: geomPose(geom, track, frame), over: frame > frames - 1 && !alone })));
}

// A track that has ended stays as a ghost while longer ones go on.
const opacity = ({ geom, over }) => geom.rgba[3] * (over ? 0.3 : 1);

// A track with a tint shows it on the whole robot.
function colour({ geom, track }) {
  const { tint } = replay.tracks[track], own = geom.rgba.slice(0, 3);
  return tint ? own.map((x, i) => 0.35 * x + 0.65 * tint[i]) : own;
}

// Balls standing for the geoms in the floor's ambient light; a long geom gets three along z.
function balls(things) {
  const out = [];
  for (const { geom, pose } of things) {
    const [r, half] = geom.size, long = geom.type === "capsule" || geom.type === "cylinder";
    for (const s of long ? [-1, 0, 1] : [0])
      out.push(...[12, 13, 14].map((i) => pose[i] + s * half * pose[i - 4]), r);
  }
  return out.slice(0, 4 * 64);  // as many as the shader has room for
}

function draw() {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  if (state.follow) state.held = followed();
  const target = add(state.held, camera.pan), eye = camera.eye(target);
  eye[2] = Math.max(eye[2], floors[0].pos[2] + 0.05 * reach);
  const things = instances(state.time / replay.dt);
  const half = (1.6 + 0.9 * (replay.tracks.length - 1)) * 1.3 * reach;
  const light = multiply(orthographic(half, 0.1, 4 * half),
    look(add(target, scale(SUN, 2 * half)), target));
  drawShadow(things, light);
  const view = look(eye, target), lens = lensOf();
  drawPicture(things, light, target, eye, view, lens);
  placeLabels(multiply(lens, view));
}

function lensOf() {
  const aspect = canvas.width / canvas.height;
  const fov = 2 * Math.atan(Math.tan(FOV / 2) * Math.max(1, 1 / aspect));  // FOV the narrow way
  return perspective(fov, aspect, 0.02 * camera.distance, 300 * reach);
}

// A label floats over each robot, so that one sees which world is which: whole, and not over the
// numbers in the corner.
function placeLabels(screen) {
  if (alone) return;
  const heading = byId("heading");
  const right = heading.offsetLeft + heading.offsetWidth;
  const below = heading.offsetTop + heading.offsetHeight;
  replay.tracks.forEach((track, i) => {
    const label = byId("labels").children[i], last = track.frames - 1;
    const [x, y, z] = add(paths[i][Math.min(Math.round(state.time / replay.dt), last)], offsetOf(i));
    const at = project(screen, [x, y, z + crown + 0.12 * reach]);
    label.hidden = !at || Math.abs(at[0]) > 1.1;
    if (label.hidden) return;
    const half = label.offsetWidth / 2 + 4, high = label.offsetHeight + 4;
    const inside = (value, low, most) => Math.max(low, Math.min(most, value));
    const left = inside(canvas.clientWidth * (1 + at[0]) / 2, half, canvas.clientWidth - half);
    const free = left - half < right ? below + high : high;
    label.style.left = `${left}px`;
    label.style.top = `${Math.max(free, canvas.clientHeight * (1 - at[1]) / 2)}px`;
  });
}

function drawShadow(things, light) {
  gl.bindFramebuffer(gl.FRAMEBUFFER, shadow);
  gl.viewport(0, 0, SHADOW_MAP, SHADOW_MAP);
  gl.enable(gl.DEPTH_TEST);
  gl.clear(gl.DEPTH_BUFFER_BIT);
  gl.useProgram(depth.made);
  gl.uniformMatrix4fv(depth.uLight, false, light);
  for (const { geom, pose, over } of things) {
    if (over) continue;
    gl.uniformMatrix4fv(depth.uModel, false, pose);
    drawMesh(geom.drawn);
  }
}

function drawPicture(things, light, target, eye, view, lens) {
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clear(gl.DEPTH_BUFFER_BIT);
  drawBackground(view, lens);
  gl.useProgram(solid.made);
  dress(solid);
  gl.uniformMatrix4fv(solid.uView, false, multiply(lens, view));
  gl.uniformMatrix4fv(solid.uLight, false, light);
  gl.uniform3fv(solid.uEye, eye);
  gl.uniform3fv(solid.uSun, SUN);
  gl.uniform1f(solid.uFog, 26 * reach + 2 * camera.distance);
  gl.uniform1f(solid.uCell, cell);
  const occluders = balls(things.filter((thing) => !thing.over));
  gl.uniform1i(solid.uBalls, occluders.length / 4);
  gl.uniform4fv(solid.uBall, occluders);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  drawFloors(target);
  gl.uniform1i(solid.uFloor, 0);
  gl.uniform1f(solid.uSize, 1);
  gl.uniform2f(solid.uOrigin, 0, 0);
  for (const { geom, track, pose, over } of things.sort((a, b) => opacity(b) - opacity(a))) {
    gl.uniform4f(solid.uColor, ...colour({ geom, track }), opacity({ geom, over }));
    gl.uniformMatrix4fv(solid.uModel, false, pose);
    // Limbs meet in coinciding caps: every other link is a hair thinner, so that one colour shows.
    gl.uniform1f(solid.uInset, geom.depth % 2 * 0.0006 * reach);
    drawMesh(geom.drawn);
  }
}

function drawBackground(view, lens) {
  // The ray of a pixel is R' (x / f, y / f', -1): the transposed view rotation after the lens.
  const inverse = new Float32Array(16);
  for (let i = 0; i < 3; i++) {
    inverse[i] = view[4 * i] / lens[0];
    inverse[4 + i] = view[4 * i + 1] / lens[5];
    inverse[12 + i] = -view[4 * i + 2];
  }
  gl.disable(gl.DEPTH_TEST);
  gl.useProgram(background.made);
  dress(background);
  gl.uniformMatrix4fv(background.uUnproject, false, inverse);
  gl.drawArrays(gl.TRIANGLES, 0, 3);
  gl.enable(gl.DEPTH_TEST);
}

// Physics' planes have no edge; the drawn ones reach beyond the fog, wherever the robot is.
function drawFloors(target) {
  gl.uniform1i(solid.uFloor, 1);
  gl.uniform1f(solid.uSize, 200 * reach);
  gl.uniform1f(solid.uInset, 0);
  for (const geom of floors) {
    const pose = multiply(bodyPose(replay.tracks[0], geom.body, 0), rigid(geom.pos, geom.quat));
    const away = sub(target, [...pose.subarray(12, 15)]);
    const along = (axis) => dot(away, [...pose.subarray(4 * axis, 4 * axis + 3)]);
    gl.uniform2f(solid.uOrigin, along(0), along(1));
    gl.uniform4fv(solid.uColor, [1, 1, 1, 1]);
    gl.uniformMatrix4fv(solid.uModel, false, pose);
    drawMesh(geom.drawn);
  }
}
