"use strict";
// The bar below the picture, the keys, the numbers in the corner, and the clock.

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const scrub = byId("scrub");

function fill(select, texts, chosen, choose) {
  select.replaceChildren(...texts.map((text, i) => new Option(text, i, false, i === chosen)));
  select.addEventListener("change", () => { choose(select.selectedIndex); canvas.focus(); });
}

function seek(time) {
  state.time = Math.min(end(), Math.max(0, time));
  stale = true;
}

function setPlaying(playing) {
  if (playing && state.time >= end()) seek(0);
  state.playing = playing && end() > 0;
  byId("play").classList.toggle("playing", state.playing);
}

function setSpeed(index) {
  const i = Math.min(SPEEDS.length - 1, Math.max(0, index));
  byId("speed").selectedIndex = i;
  state.speed = SPEEDS[i];
}

function setTrack(index) {
  state.track = index % replay.tracks.length;
  byId("track").selectedIndex = state.track;
  [...byId("labels").children].forEach((label, i) =>
    label.classList.toggle("chosen", i === state.track));
  drawCurve();
  stale = true;
}

function setFollow(follow) {
  state.follow = follow;
  byId("follow").setAttribute("aria-pressed", follow);
  stale = true;
}

function setLoop(loop) {
  state.loop = loop;
  byId("loop").setAttribute("aria-pressed", loop);
}

// The first extra as an area behind the slider.
function drawCurve() {
  const values = Object.values(replay.tracks[state.track].extras)[0];
  byId("curve").replaceChildren();
  if (!values || values.length < 2) return;
  const low = values.reduce((a, b) => Math.min(a, b), 0);
  const span = values.reduce((a, b) => Math.max(a, b), low) - low || 1;
  const width = 1000 * (values.length - 1) * replay.dt / end();
  const points = [...values].map((v, i) =>
    `${(width * i / (values.length - 1)).toFixed(1)},${(96 - 92 * (v - low) / span).toFixed(1)}`);
  byId("curve").innerHTML = `<path d="M0,100 L${points.join(" L")} L${width},100 Z"/>`;
}

function showNumbers() {
  scrub.value = state.time;
  byId("time").textContent = `${state.time.toFixed(2)} / ${end().toFixed(2)} s`;
  const track = replay.tracks[state.track];
  const frame = Math.min(Math.floor(state.time / replay.dt + 1e-6), track.frames - 1);
  byId("values").replaceChildren(...Object.entries(track.extras).flatMap(([name, values]) => {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    value.textContent = values[frame].toFixed(Math.abs(values[frame]) < 100 ? 2 : 0);
    return [term, value];
  }));
}

const step = (event) => event.shiftKey ? 1 : replay.dt;
const keys = {
  " ": () => setPlaying(!state.playing),
  ArrowLeft: (event) => { setPlaying(false); seek(state.time - step(event)); },
  ArrowRight: (event) => { setPlaying(false); seek(state.time + step(event)); },
  Home: () => seek(0),
  End: () => { setPlaying(false); seek(end()); },
  l: () => setLoop(!state.loop),
  "[": () => setSpeed(SPEEDS.indexOf(state.speed) - 1),
  "]": () => setSpeed(SPEEDS.indexOf(state.speed) + 1),
  t: () => setTrack(state.track + 1),
  c: () => setFollow(!state.follow),
  r: () => camera.reset(),
  f: () => document.fullscreenElement
    ? document.exitFullscreen() : stage.requestFullscreen(),
  "?": () => byId("help").toggleAttribute("hidden"),
};

(whole ? document : stage).addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(event); }
});
const buttons = {
  play: () => setPlaying(!state.playing),
  follow: () => setFollow(!state.follow),
  loop: () => setLoop(!state.loop),
  link: copyLink,
  save: record,
  ask: () => keys["?"](),
};
for (const name in buttons)
  byId(name).addEventListener("click", () => { buttons[name](); canvas.focus({ preventScroll: true }); });
scrub.addEventListener("input", () => { setPlaying(false); seek(Number(scrub.value)); });
window.addEventListener("resize", () => { stale = true; });

// The address of the page at this moment, in the clipboard and in the address bar.
function copyLink() {
  const at = `#t=${state.time.toFixed(2)}&world=${state.track}`;
  history.replaceState(null, "", at);
  navigator.clipboard?.writeText(location.href).catch(() => {});  // the address bar has it
  flash("link", "\u2713");
}

function flash(id, sign) {
  const before = byId(id).textContent;
  byId(id).textContent = sign;
  setTimeout(() => { byId(id).textContent = before; }, 1200);
}

// page.html#t=2.5&world=1 shows that world at rest at that second.
function goToLink() {
  const asked = new URLSearchParams(location.hash.slice(1)), time = asked.get("t");
  if (asked.has("world")) setTrack(Math.abs(Number(asked.get("world")) || 0));
  if (time !== null) {
    setPlaying(false);
    seek(Number(time) || 0);
  }
}
window.addEventListener("hashchange", goToLink);

// One passage from the start, as the browser can encode it; a second click ends it early.
let recorder = null;
function record() {
  if (recorder) return recorder.stop();
  const kinds = ["video/mp4", "video/webm;codecs=vp9", "video/webm"];
  const mimeType = kinds.find((kind) => window.MediaRecorder?.isTypeSupported(kind));
  if (!mimeType) return flash("save", "\u2717");
  const parts = [], loop = state.loop;
  recorder = new MediaRecorder(canvas.captureStream(), { mimeType, videoBitsPerSecond: 8e6 });
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type: mimeType }));
    link.download = `${replay.title}.${mimeType.slice(6).split(";")[0]}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    byId("save").classList.remove("recording");
    setLoop(loop);
    recorder = null;
  };
  byId("save").classList.add("recording");
  setLoop(false);
  seek(0);
  recorder.start();
  setPlaying(true);
}

let seen = true;  // a replay that is scrolled away rests
new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; }).observe(stage);

let before = 0;
function tick(now) {
  const passed = Math.min(0.1, (now - before) / 1000);  // a hidden tab does not leap ahead
  before = now;
  if (state.playing && seen) {
    seek(state.time + passed * state.speed);
    if (state.time >= end() && state.loop) seek(0);
    else if (state.time >= end()) {
      setPlaying(false);
      recorder?.stop();
    }
  }
  if (stale && seen) {
    stale = false;
    draw();
    showNumbers();
  }
  requestAnimationFrame(tick);
}

const names = replay.tracks.map((track, i) => track.label || `world ${i + 1}`);
byId("title").textContent = replay.title;
byId("labels").replaceChildren(...(alone ? [] : names).map((name, i) => {
  const label = document.createElement("div"), dot = document.createElement("i");
  const { tint } = replay.tracks[i], own = solids.find((geom) => geom.body > 0)?.rgba ?? [0, 0, 0];
  dot.style.background = `rgb(${(tint ?? own).slice(0, 3).map((x) => Math.min(255, 255 * x))})`;
  label.append(dot, name);
  return label;
}));
scrub.max = end();
fill(byId("track"), names, 0, setTrack);
byId("track").hidden = alone;
fill(byId("speed"), SPEEDS.map((s) => `${s}\u00d7`), 3, setSpeed);
setTrack(0);
setFollow(true);
setLoop(true);
setPlaying(true);
goToLink();
requestAnimationFrame((now) => { before = now; tick(now); });
