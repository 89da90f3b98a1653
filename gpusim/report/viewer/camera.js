"use strict";
// An orbit camera on the followed body: drag orbits, right-drag or two fingers pan, wheel zooms
// where `takesWheel(event)` says so.

function orbitCamera(canvas, home, takesWheel, changed) {
  const camera = { ...home, pan: [0, 0, 0] };
  const pointers = new Map();

  camera.reset = () => { Object.assign(camera, home, { pan: [0, 0, 0] }); changed(); };

  // Where the camera is when it looks at `target`.
  camera.eye = (target) => add(target, scale([
    Math.cos(camera.elevation) * Math.cos(camera.azimuth),
    Math.cos(camera.elevation) * Math.sin(camera.azimuth),
    Math.sin(camera.elevation)], camera.distance));

  function orbit(dx, dy) {
    camera.azimuth -= 0.006 * dx;
    camera.elevation = Math.min(1.5, Math.max(-0.2, camera.elevation + 0.006 * dy));
  }

  function pan(dx, dy) {
    const step = camera.distance * 0.9 / canvas.clientHeight;
    const back = sub(camera.eye([0, 0, 0]), [0, 0, 0]);
    const right = unit(cross([0, 0, 1], back)), up = unit(cross(back, right));
    camera.pan = add(camera.pan, add(scale(right, -dx * step), scale(up, dy * step)));
  }

  function zoom(factor) {
    const reach = home.distance;
    camera.distance = Math.min(20 * reach, Math.max(0.15 * reach, camera.distance * factor));
  }

  // Middle and spread of the fingers on the glass.
  function fingers() {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, spread: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const from = pointers.get(event.pointerId);
    if (!from) return;
    const before = pointers.size === 2 ? fingers() : null;
    const dx = event.clientX - from.x, dy = event.clientY - from.y;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (before) {
      const after = fingers();
      pan(after.x - before.x, after.y - before.y);
      if (after.spread > 0) zoom(before.spread / after.spread);
    } else if (event.buttons & 6 || event.shiftKey) pan(dx, dy);
    else orbit(dx, dy);
    changed();
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    if (!takesWheel(event)) return;  // the page scrolls
    event.preventDefault();
    zoom(Math.exp(0.0012 * event.deltaY * (event.deltaMode ? 20 : 1)));
    changed();
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", camera.reset);
  return camera;
}
