// @ts-check
/** Links that reopen a station as it is. */
import { mixText, readMix } from "./mixing.js";

const NUMBERS = ["denoising", "guidance", "bpm", "beats_per_bar", "key", "energy", "density", "brightness"];
const PARTS = ["drums", "bass", "chords", "pad", "arp", "lead"];
const FORMS = ["song", "dj", "ambient", "none"];

/** @typedef {{station?: string, change?: import("../protocol.js").Steer}} Link */

/**
 * The state of a station as a link's query. Short names keep it readable; a mix of prompts repeats `p` and `w`.
 * @param {string} station
 * @param {any} state
 */
export function linkQuery(station, state) {
  const query = new URLSearchParams({ station });
  for (const { text, weight } of state.prompts) {
    query.append("p", text);
    if (state.prompts.length > 1) query.append("w", String(weight));
  }
  for (const name of ["seed", "seed_image", ...NUMBERS, "form", "chords"]) {
    if (state[`${name}_reason`]) continue; // the words choose the tempo again, and the model the form
    if (state[name] !== null && state[name] !== undefined) query.set(name, String(state[name]));
  }
  const parts = Object.entries(state.parts ?? {}).filter(([, level]) => level !== null);
  if (parts.length) query.set("parts", parts.map(([part, level]) => `${part}:${level}`).join(","));
  const mix = mixText(state.mix);
  if (mix) query.set("mix", mix);
  return query.toString();
}

/** Names in the links of Riffusion's web app. Its guidance and steps are of another scale, its mask has no match here. */
const RIFFUSION = [["prompt", "p"], ["seedImageId", "seed_image"]];

/**
 * The reverse of `linkQuery`, also for links of Riffusion's web app; what cannot be understood is left out.
 * @param {{search: string}} place
 * @returns {Link}
 */
export function readLink(place) {
  const query = new URLSearchParams(place.search);
  if (!query.has("p") && RIFFUSION.some(([theirs]) => query.has(theirs))) {
    query.delete("guidance");
    for (const [theirs, ours] of RIFFUSION) if (query.get(theirs)) query.set(ours, query.get(theirs) ?? "");
  }
  /** @type {Link} */
  const link = { station: query.get("station") ?? undefined };
  /** @type {any} */
  const change = {};
  const texts = query.getAll("p").filter((t) => t.trim());
  const weights = query.getAll("w").map(Number);
  if (texts.length) {
    change.prompts = texts.slice(0, 8).map((text, i) => ({ text: text.slice(0, 300), weight: Number.isFinite(weights[i]) ? weights[i] : 1 }));
  }
  for (const name of ["seed", ...NUMBERS]) {
    const value = query.get(name);
    if (value !== null && value !== "" && Number.isFinite(Number(value))) change[name] = Number(value);
  }
  const parts = (query.get("parts") ?? "").split(",").map((part) => part.split(":")).filter(([part, level]) => PARTS.includes(part) && level && Number.isFinite(Number(level)));
  if (parts.length) change.parts = Object.fromEntries(parts.map(([part, level]) => [part, Number(level)]));
  const chords = query.get("chords")?.trim();
  if (chords) change.chords = chords.slice(0, 200);
  if (FORMS.includes(query.get("form") ?? "")) change.form = query.get("form");
  const image = query.get("seed_image");
  if (image) change.seed_image = image;
  const mix = readMix(query.get("mix") ?? "");
  if (mix) change.mix = mix;
  if (Object.keys(change).length) link.change = change;
  return link;
}
