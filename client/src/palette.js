// @ts-check
/** Colour maps of the spectrogram: 256 steps, as RGBA words for an ImageData and as bytes for a texture. */

/**
 * @typedef {"dark"|"light"} Theme
 * @typedef {"ember"|"ocean"|"forest"|"mono"|"paper"} Palette
 * @typedef {Theme|Palette} Colours
 */

/** What a listener may choose in place of the theme's own colours. */
export const PALETTES = /** @type {const} */ (["ember", "ocean", "forest", "mono", "paper"]);

/**
 * @type {Record<Colours, [number, string][]>} Lightness rises (falls in light and paper) with the level. The light map keeps silence
 *   almost white and its darkest tenth for peaks, so that dense music is no slab.
 */
const STOPS = {
  dark: [
    [0, "#0b0a11"],
    [0.18, "#1d1540"],
    [0.38, "#5a2a9c"],
    [0.56, "#c23a8c"],
    [0.74, "#ff7a5c"],
    [0.9, "#ffd08a"],
    [1, "#fff6e0"],
  ],
  light: [
    [0, "#fcfbff"],
    [0.22, "#efe8fd"],
    [0.45, "#d3bdf6"],
    [0.66, "#c07be0"],
    [0.8, "#d0559f"],
    [0.9, "#b02a6c"],
    [1, "#3d0b3a"],
  ],
  ember: [
    [0, "#0d0705"],
    [0.25, "#4a1208"],
    [0.5, "#b3260b"],
    [0.72, "#f2701d"],
    [0.88, "#ffc45c"],
    [1, "#fff7df"],
  ],
  ocean: [
    [0, "#04080f"],
    [0.22, "#0b2447"],
    [0.48, "#12668a"],
    [0.7, "#1fb5a8"],
    [0.88, "#8ff0d2"],
    [1, "#f0fffb"],
  ],
  forest: [
    [0, "#060b07"],
    [0.25, "#12361f"],
    [0.5, "#2f7040"],
    [0.72, "#8ab04a"],
    [0.88, "#dcdc84"],
    [1, "#fffde6"],
  ],
  mono: [
    [0, "#0a0a0a"],
    [0.3, "#2e2e2e"],
    [0.6, "#7c7c7c"],
    [0.85, "#d0d0d0"],
    [1, "#ffffff"],
  ],
  paper: [
    [0, "#faf7f0"],
    [0.25, "#e9e1d0"],
    [0.5, "#b8a98f"],
    [0.72, "#6f675f"],
    [0.88, "#37343a"],
    [1, "#131218"],
  ],
};

/** @param {Colours} colours @returns {Theme} whether silence is dark or light */
export const toneOf = (colours) => (colours === "light" || colours === "paper" ? "light" : "dark");

/** The colour of silence. @param {Colours} colours */
export const backOf = (colours) => STOPS[colours][0][1];

/** The colour of loud sound, for marks on the picture. @param {Colours} colours */
export const markOf = (colours) => STOPS[colours][STOPS[colours].length - 2][1];

/** @param {string} hex */
function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * @param {Colours} colours
 * @returns {Uint8Array<ArrayBuffer>} 256 x RGBA
 */
export function palette(colours) {
  const stops = STOPS[colours];
  const bytes = new Uint8Array(1024);
  let stop = 0;
  for (let i = 0; i < 256; i++) {
    const x = i / 255;
    while (stop < stops.length - 2 && x > stops[stop + 1][0]) stop++;
    const [x0, from] = stops[stop];
    const [x1, to] = stops[stop + 1];
    const mix = Math.min(1, Math.max(0, (x - x0) / (x1 - x0)));
    const a = rgb(from);
    const b = rgb(to);
    for (let c = 0; c < 3; c++) bytes[4 * i + c] = Math.round(a[c] + mix * (b[c] - a[c]));
    bytes[4 * i + 3] = 255;
  }
  return bytes;
}

/**
 * @param {Colours} colours
 * @param {boolean} [clear] quiet levels are transparent, silence wholly
 */
export function paletteWords(colours, clear = false) {
  const bytes = palette(colours);
  if (clear) for (let i = 0; i < 256; i++) bytes[4 * i + 3] = Math.min(255, 2 * i);
  return new Uint32Array(bytes.buffer);
}
