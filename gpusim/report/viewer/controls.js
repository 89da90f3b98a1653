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
  drawCurve();
  stale = true;
}

function setFollow(follow) {
  state.follow = follow;
  byId("follow").setAttribute("aria-pressed", follow);
  stale = true;
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
  "[": () => setSpeed(SPEEDS.indexOf(state.speed) - 1),
  "]": () => setSpeed(SPEEDS.indexOf(state.speed) + 1),
  t: () => setTrack(state.track + 1),
  c: () => setFollow(!state.follow),
  r: () => camera.reset(),
  f: () => document.fullscreenElement
    ? document.exitFullscreen() : document.body.requestFullscreen(),
  "?": () => byId("help").toggleAttribute("hidden"),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(event); }
});
byId("play").addEventListener("click", () => { setPlaying(!state.playing); canvas.focus(); });
byId("follow").addEventListener("click", () => { setFollow(!state.follow); canvas.focus(); });
byId("ask").addEventListener("click", () => { keys["?"](); canvas.focus(); });
scrub.addEventListener("input", () => { setPlaying(false); seek(Number(scrub.value)); });
window.addEventListener("resize", () => { stale = true; });

let before = 0;
function tick(now) {
  const passed = Math.min(0.1, (now - before) / 1000);  // a hidden tab does not leap ahead
  before = now;
  if (state.playing) {
    seek(state.time + passed * state.speed);
    if (state.time >= end()) setPlaying(false);
  }
  if (stale) {
    stale = false;
    draw();
    showNumbers();
  }
  requestAnimationFrame(tick);
}

scrub.max = end();
fill(byId("track"), replay.tracks.map((t, i) => t.label || `track ${i + 1}`), 0, setTrack);
byId("track").hidden = replay.tracks.length < 2;
fill(byId("speed"), SPEEDS.map((s) => `${s}\u00d7`), 3, setSpeed);
// page.html#t=2.5 opens the page at rest at that second.
const start = new URLSearchParams(location.hash.slice(1)).get("t");
setTrack(0);
setFollow(true);
seek(Number(start) || 0);
setPlaying(start === null);
requestAnimationFrame((now) => { before = now; tick(now); });
