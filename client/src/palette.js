// @ts-check
/** Colour maps of the spectrogram: 256 steps, as RGBA words for an ImageData and as bytes for a texture. */

/** @typedef {"dark"|"light"} Theme */

/**
 * @type {Record<Theme, [number, string][]>} Lightness rises (dark) or falls (light) with the level. The light map keeps silence
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
};

/** @param {string} hex */
function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * @param {Theme} theme
 * @returns {Uint8Array<ArrayBuffer>} 256 x RGBA
 */
export function palette(theme) {
  const stops = STOPS[theme];
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
 * @param {Theme} theme
 * @param {boolean} [clear] quiet levels are transparent, silence wholly
 */
export function paletteWords(theme, clear = false) {
  const bytes = palette(theme);
  if (clear) for (let i = 0; i < 256; i++) bytes[4 * i + 3] = Math.min(255, 2 * i);
  return new Uint32Array(bytes.buffer);
}
