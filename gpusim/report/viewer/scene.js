"use strict";
// What replay.py embedded, the little linear algebra drawing needs, and the meshes of the geoms.
// Frames: MuJoCo's, z up, metres; quaternions w first; matrices column-major, as WebGL wants them.

const replay = JSON.parse(document.getElementById("replay").textContent);

function decode(text, Numbers) {
  return new Numbers(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

for (const mesh of replay.meshes) {
  mesh.points = decode(mesh.points, Float32Array);
  mesh.faces = decode(mesh.faces, Uint32Array);
}
for (const track of replay.tracks) {
  track.xpos = decode(track.xpos, Float32Array);
  track.xquat = decode(track.xquat, Int16Array);
  for (const name in track.extras) track.extras[name] = decode(track.extras[name], Float32Array);
}

// --- Vectors and matrices

const add = (a, b) => a.map((x, i) => x + b[i]);
const sub = (a, b) => a.map((x, i) => x - b[i]);
const scale = (a, s) => a.map((x) => x * s);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const unit = (a) => scale(a, 1 / Math.sqrt(dot(a, a)));
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0]];

function multiply(a, b) {
  const out = new Float32Array(16);
  for (let col = 0; col < 4; col++)
    for (let row = 0; row < 4; row++)
      for (let k = 0; k < 4; k++) out[4 * col + row] += a[4 * k + row] * b[4 * col + k];
  return out;
}

// Where a point is on the screen of a view and lens: [x, y] from -1 to 1, or null behind the eye.
function project(m, [x, y, z]) {
  const [px, py, , pw] = [0, 1, 2, 3].map((i) => m[i] * x + m[4 + i] * y + m[8 + i] * z + m[12 + i]);
  return pw > 0 ? [px / pw, py / pw] : null;
}

function rigid(p, [w, x, y, z]) {
  return new Float32Array([
    1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y), 0,
    2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x), 0,
    2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y), 0, ...p, 1]);
}

function look(eye, target) {
  const back = unit(sub(eye, target));
  const right = unit(cross([0, 0, 1], back));
  const up = cross(back, right);
  return new Float32Array([right[0], up[0], back[0], 0, right[1], up[1], back[1], 0,
    right[2], up[2], back[2], 0, -dot(right, eye), -dot(up, eye), -dot(back, eye), 1]);
}

function perspective(fovy, aspect, near, far) {
  const f = 1 / Math.tan(fovy / 2), d = 1 / (near - far);
  return new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) * d, -1,
    0, 0, 2 * far * near * d, 0]);
}

function orthographic(half, near, far) {
  const d = 1 / (near - far);
  return new Float32Array([1 / half, 0, 0, 0, 0, 1 / half, 0, 0, 0, 0, 2 * d, 0,
    0, 0, (far + near) * d, 1]);
}

// --- Poses

// The pose of a body at a fractional frame: linear in position, normalised-linear in rotation.
function bodyPose(track, body, frame) {
  const last = track.frames - 1;
  const i = Math.min(Math.floor(frame), last), j = Math.min(i + 1, last);
  const s = Math.min(frame, last) - i;
  const at = (array, n, f) => array.subarray((f * replay.nbody + body) * n,
    (f * replay.nbody + body + 1) * n);
  const p = [...at(track.xpos, 3, i)], q = [...at(track.xquat, 4, i)];
  const pNext = [...at(track.xpos, 3, j)], qNext = [...at(track.xquat, 4, j)];
  const near = dot(q, qNext) < 0 ? -1 : 1;  // q and -q are one rotation: take the short way
  return rigid(add(scale(p, 1 - s), scale(pNext, s)),
    unit(add(scale(q, 1 - s), scale(qNext, near * s))));
}

// The followed body's path, smoothed over about half a second: the camera glides, not shakes.
function smoothPath(track) {
  const radius = Math.round(0.25 / replay.dt), count = track.frames;
  let path = Array.from({ length: count }, (_, f) =>
    [...track.xpos.subarray((f * replay.nbody + replay.follow) * 3).subarray(0, 3)]);
  for (let pass = 0; pass < 2; pass++) {
    const sums = [[0, 0, 0]];
    for (const p of path) sums.push(add(sums[sums.length - 1], p));
    path = path.map((_, f) => {
      const reach = Math.min(radius, f, count - 1 - f);  // symmetric, so that the ends stay put
      return scale(sub(sums[f + reach + 1], sums[f - reach]), 1 / (2 * reach + 1));
    });
  }
  return path;
}

// --- Meshes: vertices as position and normal, six numbers each, in the geom's frame

// A surface of revolution about z. The profile lists [r, z, normal r, normal z], bottom to top.
function lathe(profile, slices = 40) {
  const vertices = [], triangles = [], n = slices + 1;
  for (const [r, z, nr, nz] of profile)
    for (let k = 0; k < n; k++) {
      const c = Math.cos(2 * Math.PI * k / slices), s = Math.sin(2 * Math.PI * k / slices);
      vertices.push(r * c, r * s, z, nr * c, nr * s, nz);
    }
  for (let row = 0; row + 1 < profile.length; row++)
    for (let k = 0; k < slices; k++) {
      const a = row * n + k, b = a + n;
      triangles.push(a, a + 1, b + 1, a, b + 1, b);
    }
  return { vertices, triangles };
}

function arc(radius, shift, from, to, steps = 14) {
  return Array.from({ length: steps + 1 }, (_, k) => {
    const t = from + (to - from) * k / steps;
    return [radius * Math.cos(t), shift + radius * Math.sin(t), Math.cos(t), Math.sin(t)];
  });
}

function ellipsoid(size) {
  const mesh = lathe(arc(1, 0, -Math.PI / 2, Math.PI / 2, 28));
  for (let v = 0; v < mesh.vertices.length; v += 6) {
    const p = mesh.vertices.slice(v, v + 3);
    const normal = unit(p.map((x, i) => x / size[i]));
    mesh.vertices.splice(v, 6, ...p.map((x, i) => x * size[i]), ...normal);
  }
  return mesh;
}

function box(size) {
  const vertices = [], triangles = [];
  for (let axis = 0; axis < 3; axis++)
    for (const side of [-1, 1]) {
      const first = vertices.length / 6, u = (axis + 1) % 3, v = (axis + 2) % 3;
      for (const [a, b] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        const p = [0, 0, 0], normal = [0, 0, 0];
        p[axis] = side * size[axis]; p[u] = side * a * size[u]; p[v] = b * size[v];
        normal[axis] = side;
        vertices.push(...p, ...normal);
      }
      triangles.push(first, first + 1, first + 2, first, first + 2, first + 3);
    }
  return { vertices, triangles };
}

// A triangle mesh. A corner is shaded smoothly where its faces meet at less than 40 degrees.
function facets(_, { mesh }) {
  const { points, faces } = replay.meshes[mesh];
  const at = (i) => [...points.subarray(3 * i, 3 * i + 3)];
  const smooth = new Float32Array(points.length), flat = [];
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [0, 1, 2].map((k) => at(faces[f + k]));
    const normal = cross(sub(b, a), sub(c, a));  // as long as twice the area: the weight of a face
    flat.push(normal);
    for (let k = 0; k < 3; k++)
      for (let i = 0; i < 3; i++) smooth[3 * faces[f + k] + i] += normal[i];
  }
  const vertices = [], toUnit = (n) => scale(n, 1 / (Math.hypot(...n) || 1));
  faces.forEach((i, corner) => {
    const own = toUnit(flat[Math.floor(corner / 3)]);
    const mean = toUnit([...smooth.subarray(3 * i, 3 * i + 3)]);
    vertices.push(...at(i), ...(dot(own, mean) > 0.77 ? mean : own));
  });
  return { vertices, triangles: Array.from(faces, (_, corner) => corner) };
}

const meshes = {
  mesh: facets,
  plane: () => ({ vertices: [-1, -1, 0, 0, 0, 1, 1, -1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1,
    -1, 1, 0, 0, 0, 1], triangles: [0, 1, 2, 0, 2, 3] }),
  sphere: ([r]) => ellipsoid([r, r, r]),
  ellipsoid,
  capsule: ([r, half]) =>
    lathe([...arc(r, -half, -Math.PI / 2, 0), ...arc(r, half, 0, Math.PI / 2)]),
  cylinder: ([r, half]) => lathe([[0, -half, 0, -1], [r, -half, 0, -1], [r, -half, 1, 0],
    [r, half, 1, 0], [r, half, 0, 1], [0, half, 0, 1]]),
  box,
};
