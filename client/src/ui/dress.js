// @ts-check
/** How a site that frames the page dresses it: `?accent=ff8800&bg=101018&controls=0`. */

const HEX = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i;
/** The luminance at which black and white contrast equally with a colour (WCAG 2). */
const MIDDLE = 0.179;

/** @param {string|null} text @returns {string|null} "#rrggbb" */
export function readColour(text) {
  const found = HEX.exec(text?.trim() ?? "")?.[1].toLowerCase();
  if (!found) return null;
  return `#${found.length === 3 ? [...found].map((digit) => digit + digit).join("") : found}`;
}

/** Relative luminance, 0 to 1 (WCAG 2). @param {string} colour "#rrggbb" */
export function luminance(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/**
 * What an address asks for.
 * @param {URLSearchParams} query
 * @returns {{accent: string|null, background: string|null, controls: boolean}}
 */
export function readDress(query) {
  return { accent: readColour(query.get("accent")), background: readColour(query.get("bg")), controls: query.get("controls") !== "0" };
}

/**
 * @param {ReturnType<typeof readDress>} dress
 * @param {HTMLElement} root
 * @param {HTMLElement} body
 * @returns {"light"|"dark"|null} theme that goes with the background; null: the usual one
 */
export function dressPage({ accent, background, controls }, root, body) {
  if (accent) {
    root.style.setProperty("--accent", accent);
    root.style.setProperty("--accent-ink", luminance(accent) > MIDDLE ? "#000" : "#fff");
  }
  if (background) root.style.setProperty("--bg", background);
  body.classList.toggle("no-deck", !controls);
  if (background === null) return null;
  return luminance(background) > MIDDLE ? "light" : "dark";
}
