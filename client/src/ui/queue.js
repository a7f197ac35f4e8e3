// @ts-check
/** The station's queue: the prompts that follow, for everybody. It lives on the server, and plays without this page. */
import { promptLine } from "../protocol.js";
import { make, rebuild, toast } from "./dom.js";

/** @typedef {import("../messages.js").QueueItem} Item */
/** @typedef {import("../messages.js").QueueList} List */

const LENGTHS = [4, 8, 16, 32, 64];
const RAMPS = [0, 2, 4, 8, 16];
const bars = (/** @type {number} */ n) => (n === 1 ? "1 bar" : `${n} bars`);

const nameOf = (/** @type {Item} */ item) => promptLine(item.prompts.map(({ text, weight = 1 }) => ({ text, weight })));

/**
 * An item's tempo and transition as text; "" without any.
 * @param {Item} item
 */
export function itemWords(item) {
  return [item.ramp_bars ? `blends in over ${bars(item.ramp_bars)}` : "", item.bpm ? `${Math.round(item.bpm)} bpm` : ""].filter(Boolean).join(", ");
}

/**
 * Bars that an item still plays, at least 1; null where that is not known.
 * @param {List} queue
 * @param {{beat: number, state: {beats_per_bar?: number}}|null} now
 */
export function barsLeft({ until }, now) {
  if (until === null || !now) return null;
  return Math.max(1, Math.ceil((until - now.beat) / (now.state.beats_per_bar ?? 4) - 1e-6));
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountQueue(app, panel) {
  const { player } = app;
  /** @param {import("../messages.js").Queue["op"]} op @param {object} [fields] */
  const change = (op, fields = {}) => player.changeQueue(op, fields).then(() => true, (error) => (toast(error.message, { error: true }), false));

  const list = make("ol", { className: "history queue-items" });
  const current = make("p", { className: "quiet", id: "queue-now" });
  const empty = make("p", { className: "empty", textContent: "Nothing is queued: the station goes its own way." });
  const text = make("input", { type: "text", className: "field steers", maxLength: 300, placeholder: "Then play …", "aria-label": "Prompt to play later", list: "suggestions", dir: "auto" });
  const length = make("select", { className: "field steers", "aria-label": "For how long" },
    ...LENGTHS.map((n) => make("option", { value: String(n), textContent: bars(n), selected: n === 8 })));
  const ramp = make("select", { className: "field steers", "aria-label": "Transition of the prompt" },
    ...RAMPS.map((n) => make("option", { value: String(n), textContent: n ? `over ${bars(n)}` : "cut" })));
  const bpm = make("input", { type: "number", className: "field steers", min: 40, max: 240, step: 1, placeholder: "bpm", "aria-label": "Tempo of the prompt" });
  const form = make("form", {
    className: "row queue-form", autocomplete: "off",
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const words = text.value.trim();
      if (!words) return text.focus();
      const fields = { prompts: [{ text: words, weight: 1 }], bars: Number(length.value), ramp_bars: Number(ramp.value) };
      if ((await change("add", bpm.value ? { ...fields, bpm: Number(bpm.value) } : fields)) && text.value.trim() === words) text.value = "";
    },
  }, text, length, ramp, bpm, make("button", { className: "ghost steers", textContent: "Add" }));
  const next = make("button", { type: "button", className: "ghost steers", textContent: "Next", title: "The next one, from the next bar", onclick: () => change("next") });
  const loop = make("button", { type: "button", className: "ghost steers", textContent: "Loop", "aria-pressed": "false", title: "What has played goes to the end", onclick: () => change("loop", { loop: !player.queue.loop }) });
  const clear = make("button", { type: "button", className: "ghost steers", textContent: "Clear", onclick: () => change("clear") });
  panel.append(make("h3", { textContent: "Coming" }), current, empty, list, form,
    make("div", { className: "row", role: "group", "aria-label": "The queue, for everybody" }, next, loop, clear),
    make("p", { className: "quiet", textContent: "For everybody who listens. Each plays from a bar line for as many bars as you say; the queue stays when you leave." }));

  /** @type {Map<string, number>} places that items are on their way to: the next press counts on from there */
  const aims = new Map();
  /** @param {Item} item @param {number} by */
  async function move({ id }, by) {
    const { items } = player.queue;
    const from = aims.get(id) ?? items.findIndex((each) => each.id === id);
    const to = Math.max(0, Math.min(items.length - 1, from + by));
    aims.set(id, to);
    await change("move", { item: id, to });
    if (aims.get(id) === to) aims.delete(id);
  }

  let dragged = "";
  /** @param {Item} item @param {number} place @param {number} count */
  function row(item, place, count) {
    const name = nameOf(item);
    const lengths = LENGTHS.includes(item.bars) ? LENGTHS : [...LENGTHS, item.bars].sort((a, b) => a - b);
    const mover = (/** @type {string} */ sign, /** @type {string} */ way, /** @type {number} */ by) =>
      make("button", {
        type: "button", className: "icon steers", textContent: sign, "aria-label": `Move ${name} ${way}`, hidden: place + by < 0 || place + by >= count, "data-focus": `${way} ${item.id}`,
        onclick: () => move(item, by),
      });
    const words = itemWords(item);
    return make("li", {
      draggable: player.maySteer,
      ondragstart: (/** @type {DragEvent} */ event) => {
        dragged = item.id;
        event.dataTransfer?.setData("text/plain", name);
      },
      ondragend: () => (dragged = ""),
      ondragover: (/** @type {DragEvent} */ event) => dragged && event.preventDefault(),
      ondrop: (/** @type {DragEvent} */ event) => {
        event.preventDefault();
        if (dragged && dragged !== item.id) change("move", { item: dragged, to: place });
        dragged = "";
      },
    },
    make("select", {
      className: "field steers", "aria-label": `Length of ${name}`, "data-focus": `length ${item.id}`,
      onchange: async (/** @type {Event} */ event) => {
        const select = /** @type {HTMLSelectElement} */ (event.target);
        if (await change("edit", { item: item.id, bars: Number(select.value) })) return;
        const kept = player.queue.items.find((each) => each.id === item.id)?.bars ?? item.bars;
        select.value = String(kept); // refused: what the station has
      },
    }, ...lengths.map((n) => make("option", { value: String(n), textContent: bars(n), selected: n === item.bars }))),
    make("span", { dir: "auto" }, name, words ? make("small", { textContent: ` ${words}` }) : ""),
    make("span", { className: "row" }, mover("↑", "up", -1), mover("↓", "down", 1),
      make("button", { type: "button", className: "icon steers", textContent: "×", "aria-label": `Remove ${name}`, "data-focus": `remove ${item.id}`, onclick: () => change("remove", { item: item.id }) })));
  }

  function showCurrent() {
    const { playing } = player.queue;
    const left = barsLeft(player.queue, app.heard());
    const words = playing ? `Now ${nameOf(playing)}${left === null ? "" : `, ${bars(left)} left`}` : "";
    if (current.textContent !== words) current.textContent = words;
    current.hidden = !words;
  }
  let shown = "";
  function show() {
    const { queue } = player;
    loop.setAttribute("aria-pressed", String(queue.loop));
    loop.hidden = clear.hidden = next.hidden = queue.items.length === 0 && !queue.playing && !queue.loop;
    showCurrent();
    const key = JSON.stringify([queue.items, player.maySteer]);
    if (key === shown) return;
    shown = key;
    rebuild(list, queue.items.map((item, place) => row(item, place, queue.items.length)), text, ["up", "down", "remove"]);
    list.hidden = queue.items.length === 0;
    empty.hidden = !list.hidden || queue.playing !== null;
    app.guard();
  }
  app.onChange(show);
  player.addEventListener("queue", show);
  setInterval(showCurrent, 500);
}
