"use strict";
// The numbers under the pointer: the nearest point of each chart's curves. And the reloading.

for (const figure of document.querySelectorAll("figure[data-curves]")) {
  const svg = figure.querySelector("svg");
  const points = JSON.parse(figure.dataset.curves).flatMap((curve, index, all) =>
    curve.points.map(([x, y, value, at]) =>
      ({ x, y, index, text: `${all.length > 1 ? curve.label + " " : ""}${value} at ${at}` })));
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  dot.setAttribute("r", 4);
  figure.append(tip);

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), zoom = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * zoom, y = (event.clientY - box.top) * zoom;
    // The column under the pointer matters more than the height.
    const far = (p) => Math.hypot(p.x - x, 0.2 * (p.y - y));
    const near = points.reduce((best, p) => (best && far(best) <= far(p) ? best : p), null);
    if (!near) return;
    dot.setAttribute("class", `dot c${near.index}`);
    dot.setAttribute("cx", near.x);
    dot.setAttribute("cy", near.y);
    svg.append(dot);
    tip.hidden = false;
    tip.textContent = near.text;
    const half = tip.offsetWidth / 2 + 4;
    const middle = box.left - figure.getBoundingClientRect().left + near.x / zoom;
    tip.style.left = `${Math.min(figure.clientWidth - half, Math.max(half, middle))}px`;
    tip.style.top = `${box.top - figure.getBoundingClientRect().top + near.y / zoom}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; dot.remove(); });
}

// The page of a run that goes on is written anew now and then: look again, unless somebody is at it.
if ("live" in document.body.dataset)
  setTimeout(() => {
    const busy = document.activeElement !== document.body || window.scrollY > 0;
    if (!busy && !document.hidden) location.reload();
  }, 15000);
