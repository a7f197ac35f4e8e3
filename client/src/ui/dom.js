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
 * A line that comes and goes at the corner of the page.
 * @param {string} text
 * @param {{error?: boolean}} [options]
 */
export function toast(text, options = {}) {
  const note = make("p", { className: options.error ? "toast error" : "toast", textContent: text });
  byId("toasts", HTMLElement).append(note);
  setTimeout(() => note.remove(), options.error ? 8000 : 4000);
}
