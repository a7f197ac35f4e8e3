// @ts-check
/** The little that the page needs to build its elements. */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`#${id} is missing from the page`);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties] DOM properties; `on…` listeners; `aria-…`, `data-…` and `for` attributes
 * @param {...(Node|string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || ["for", "list", "role"].includes(name)) element.setAttribute(name, value);
    else Object.assign(element, { [name]: value });
  }
  element.append(...children);
  return element;
}

/**
 * Build a list anew. Who works in it by keyboard stays at the same control of the same item, or goes on to the next item.
 * @param {HTMLElement} list  each control has `data-focus`: its name and its item, "remove 7"
 * @param {HTMLElement[]} rows
 * @param {HTMLElement} instead  the next place where none is left
 * @param {string[]} [others]  names of controls in place of one that is hidden or gone
 */
export function rebuild(list, rows, instead, others = []) {
  const { activeElement: focused } = document;
  const place = [...list.children].findIndex((row) => row.contains(focused));
  const [name, item] = (place < 0 ? "" : /** @type {HTMLElement} */ (focused).dataset.focus ?? "").split(" ");
  list.replaceChildren(...rows);
  if (place < 0) return;
  const shown = [...list.querySelectorAll("[data-focus]:not([hidden])")].map((each) => /** @type {HTMLElement} */ (each));
  const next = shown.find((each) => rows[Math.min(place, rows.length - 1)].contains(each))?.dataset.focus?.split(" ")[1];
  const wanted = [item, next].flatMap((id) => [name, ...others].map((control) => `${control} ${id}`));
  (wanted.map((want) => shown.find((each) => each.dataset.focus === want)).find(Boolean) ?? instead).focus();
}

/**
 * A line that comes and goes at the corner of the page.
 * @param {string} text
 * @param {{error?: boolean}} [options]
 */
export function toast(text, options = {}) {
  const note = make("p", { className: options.error ? "toast error" : "toast", textContent: text });
  byId("toasts", HTMLElement).append(note);
  setTimeout(() => note.remove(), options.error ? 8000 : 4000);
}

/**
 * Move a slider, and the coloured part of its track, which runs from its zero (or its low end) to the thumb.
 * @param {HTMLInputElement} slider
 * @param {number|string} [value]
 */
export function slide(slider, value = slider.value) {
  slider.value = String(value);
  const [low, high] = [Number(slider.min), Number(slider.max)];
  slider.style.setProperty("--p", String((Number(slider.value) - low) / (high - low)));
  slider.style.setProperty("--z", String(Math.max(0, -low) / (high - low)));
}

/**
 * What this browser remembers; nothing where storage is blocked, as in a sandboxed frame.
 * @param {string} name
 * @param {"localStorage"|"sessionStorage"} [where]
 */
export function recall(name, where = "localStorage") {
  try {
    return window[where].getItem(name);
  } catch {
    return null;
  }
}

/**
 * Remember, where storage is allowed; null forgets.
 * @param {string} name
 * @param {string|null} value
 * @param {"localStorage"|"sessionStorage"} [where]
 */
export function keep(name, value, where = "localStorage") {
  try {
    if (value === null) window[where].removeItem(name);
    else window[where].setItem(name, value);
  } catch {
    // It lasts as long as the page.
  }
}

/**
 * What this browser remembers as JSON; null where it is none.
 * @param {string} name
 * @param {"localStorage"|"sessionStorage"} [where]
 * @returns {any}
 */
export function recallJson(name, where = "localStorage") {
  try {
    return JSON.parse(recall(name, where) ?? "null");
  } catch {
    return null;
  }
}

/**
 * Why the server refused a request; a proxy's own page has no words for it, and HTTP/2 no status text.
 * @param {Response} answer
 * @returns {Promise<string>}
 */
export const reasonOf = async (answer) => (await answer.json().catch(() => null))?.message ?? `the server answered ${answer.status}`;

/**
 * Save a file on this device.
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}

/** The same for data. @param {unknown} value @param {string} name */
export const downloadJson = (value, name) => download(new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }), name);

/**
 * What is called often and done at most once an interval; the last call always counts.
 * @param {() => void} act
 * @param {() => number} everyMs
 */
export function paced(act, everyMs) {
  let doneAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      doneAt = performance.now();
      act();
    }, Math.max(60, doneAt + everyMs() - performance.now()));
  };
}

/**
 * How often a hand on a fader may ask for a change, ms: what the station allows, and no more than can be meant.
 * @param {import("../player.js").Player} player
 */
export const steerEveryMs = (player) => Math.max(500, 1000 * (player.welcome?.limits?.steer_interval_s ?? 2));

/**
 * The same for the desk, which needs no clip.
 * @param {import("../player.js").Player} player
 */
export const deskEveryMs = (player) => Math.max(100, 1000 * (player.welcome?.limits?.desk_interval_s ?? 2));
