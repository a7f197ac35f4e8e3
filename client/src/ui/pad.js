// @ts-check
/** The X/Y pad: a point between four prompts. */
import { make, paced, steerEveryMs } from "./dom.js";

const CORNERS = ["top left", "top right", "bottom left", "bottom right"];
const START = ["ambient pads, calm and wide", "driving techno with an acid bass line", "solo piano, gentle and sad", "funky bass line with tight drums"];

/**
 * Bilinear weights of the four corners; they add up to 1.
 * @param {number} x 0 left .. 1 right
 * @param {number} y 0 top .. 1 bottom
 * @returns {number[]} top left, top right, bottom left, bottom right
 */
export function cornerWeights(x, y) {
  return [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountPad(app, panel) {
  const texts = CORNERS.map((corner, index) =>
    make("input", { type: "text", className: "field steers", value: START[index], maxLength: 300, "aria-label": `Prompt at the ${corner}`, onchange: () => send() }));
  const dot = make("div", { className: "pad-dot" });
  const shares = CORNERS.map(() => make("output", { "aria-hidden": "true" }));
  const pad = make("div", { className: "pad", tabIndex: 0, role: "application", "aria-label": "Blend of four prompts; move with the arrow keys" }, ...shares, dot);
  panel.append(make("div", { className: "pad-wrap" }, texts[0], texts[1], pad, texts[2], texts[3]));

  let x = 0.5;
  let y = 0.5;
  const send = paced(() => {
    const prompts = cornerWeights(x, y)
      .map((weight, index) => ({ text: texts[index].value.trim(), weight: Math.round(weight * 1000) / 1000 }))
      .filter((p) => p.text && p.weight >= 0.02);
    if (prompts.length) app.steer({ prompts }, "a blend");
  }, () => steerEveryMs(app.player));
  /** @param {number} newX @param {number} newY */
  const move = (newX, newY) => {
    x = Math.max(0, Math.min(1, newX));
    y = Math.max(0, Math.min(1, newY));
    dot.style.left = `${100 * x}%`;
    dot.style.top = `${100 * y}%`;
    cornerWeights(x, y).forEach((weight, index) => (shares[index].textContent = `${Math.round(100 * weight)} %`));
  };
  move(x, y);
  /** @param {PointerEvent} event */
  const follow = (event) => {
    if (!app.player.maySteer || !(event.buttons & 1)) return;
    const box = pad.getBoundingClientRect();
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    send();
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    follow(event);
  });
  pad.addEventListener("pointermove", follow);
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !app.player.maySteer) return;
    event.preventDefault();
    event.stopPropagation();
    move(x + step[0] * 0.05, y + step[1] * 0.05);
    send();
  });
}
