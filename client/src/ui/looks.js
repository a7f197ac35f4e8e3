// @ts-check
/** The look of the picture and its colours: chosen by key or button, or changed by themselves. This browser remembers them. */
import { Cycle } from "../drift.js";
import { PALETTES } from "../palette.js";
import { SAMPLE_RATE } from "../protocol.js";
import { beatsBetween } from "../spectrum.js";
import { LOOKS } from "../visualiser.js";
import { byId, keep, recall, toast } from "./dom.js";

const CYCLE_MINUTES = 3;

/**
 * @template T
 * @param {readonly T[]} all
 * @param {unknown} name
 * @returns {T|null}
 */
const among = (all, name) => all.find((each) => each === name) ?? null;

/**
 * @param {import("./app.js").App} app
 * @param {ReturnType<typeof import("./picture.js").mountPicture>} picture
 * @param {URLSearchParams} query
 */
export function mountLooks(app, picture, query) {
  const asked = Number(query.get("cycle"));
  const minutes = asked > 0 && Number.isFinite(asked) ? asked : CYCLE_MINUTES;
  const cycle = new Cycle(60 * minutes);
  const nextPaletteName = () => PALETTES[picture.palette() === null ? 0 : PALETTES.indexOf(/** @type {any} */ (picture.palette())) + 1] ?? null;

  /** The next look that this browser has. @returns {Promise<string>} its name */
  async function turnLook() {
    const at = LOOKS.indexOf(picture.look());
    for (let step = 1; step <= LOOKS.length; step++) {
      const look = LOOKS[(at + step) % LOOKS.length];
      if (await picture.setLook(look)) return look;
    }
    return picture.look();
  }
  async function nextLook() {
    const look = await turnLook();
    keep("look", look);
    toast(`Look: ${look}`);
  }
  function nextPalette() {
    picture.setPalette(nextPaletteName());
    keep("palette", picture.palette());
    toast(`Colours: ${picture.palette() ?? "those of the theme"}`);
  }
  function toggleCycle() {
    cycle.set(!cycle.on, performance.now());
    toast(cycle.on ? `Another look every ${minutes} minutes, on a bar line` : "The look stays");
  }

  let before = 0; // sample clock of the last picture
  /** Once a picture: change by itself. */
  function tick() {
    const position = app.player.position;
    if (position === null) return;
    const barLine = () => beatsBetween(app.heard(), before, position, SAMPLE_RATE).some(({ inBar }) => inBar === 0);
    if (cycle.due(performance.now(), barLine)) {
      picture.setPalette(nextPaletteName());
      turnLook();
    }
    before = position;
  }

  byId("next-look", HTMLButtonElement).addEventListener("click", nextLook);
  byId("next-palette", HTMLButtonElement).addEventListener("click", nextPalette);
  const look = among(LOOKS, query.get("look") ?? recall("look"));
  if (look && look !== "spectrogram") picture.setLook(look);
  picture.setPalette(among(PALETTES, query.get("palette") ?? recall("palette")));
  if (query.has("cycle")) cycle.set(true, performance.now());
  return { nextLook, nextPalette, toggleCycle, tick };
}
