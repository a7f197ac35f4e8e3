// @ts-check
/** Reactions of listeners over the last ten minutes as a curve, for those who steer. */
import { make } from "./dom.js";

const EVERY_MS = 10_000; // as long as one point of the curve
const SOON_MS = 1000;
const NAMES = /** @type {const} */ (["heart", "fire", "wow"]);
const HEIGHT = 24;
const SVG = "http://www.w3.org/2000/svg";

/**
 * Outlines of areas on top of each other, one for each row.
 * @param {number[][]} rows counts, oldest first
 * @returns {{paths: string[], most: number, at: number}} `most`: highest sum, at the column `at`
 */
export function stacked(rows) {
  const columns = rows[0].map((_, x) => x);
  const sums = columns.map((x) => rows.reduce((sum, row) => sum + row[x], 0));
  const most = Math.max(0, ...sums);
  const floor = columns.map(() => 0);
  const y = (/** @type {number} */ count) => (HEIGHT - (count / Math.max(4, most)) * HEIGHT).toFixed(1);
  const paths = rows.map((row) => {
    const low = columns.map((x) => `${x} ${y(floor[x])}`);
    columns.forEach((x) => (floor[x] += row[x]));
    return `M${columns.map((x) => `${x} ${y(floor[x])}`).join("L")}L${low.reverse().join("L")}Z`;
  });
  return { paths, most, at: sums.indexOf(most) };
}

/** @param {import("../player.js").Player} player */
export function mountCurve(player) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "reaction-curve");
  picture.setAttribute("role", "img");
  picture.setAttribute("preserveAspectRatio", "none");
  const areas = NAMES.map((name) => {
    const area = document.createElementNS(SVG, "path");
    area.setAttribute("class", name);
    picture.append(area);
    return area;
  });
  const element = make("figure", { className: "quiet", hidden: true });
  const words = make("figcaption");
  element.append(picture, words);
  let asked = 0; // ms
  let told = "";

  async function read() {
    asked = performance.now();
    const path = `/api/stations/${encodeURIComponent(player.station)}/reactions`;
    const answer = await fetch(player.url(path), { headers: player.headers }).catch(() => null); // the next one comes
    if (!answer?.ok) return;
    const found = await answer.json();
    const { paths, most, at } = stacked(NAMES.map((name) => found[name]));
    const count = found.heart.length;
    picture.setAttribute("viewBox", `0 0 ${count - 1} ${HEIGHT}`);
    areas.forEach((area, row) => area.setAttribute("d", paths[row]));
    const minutes = Math.round(((count - 1 - at) * found.bucket_s) / 60);
    words.textContent = most ? `Reactions of the last ten minutes; the most, ${most} in ${found.bucket_s} s, ${minutes ? `${minutes} min ago` : "now"}` : "";
    picture.setAttribute("aria-label", words.textContent);
    element.hidden = !most;
  }
  const panel = () => element.closest("[role=tabpanel]");
  const seen = () => player.maySteer && !!player.requests && !document.hidden && !panel()?.hasAttribute("hidden");
  setInterval(() => {
    if (!player.maySteer) element.hidden = true;
    const now = JSON.stringify([player.station, player.requests?.reactions]);
    if (!seen() || performance.now() - asked < (now === told ? EVERY_MS : SOON_MS)) return;
    told = now;
    read();
  }, SOON_MS);
  return element;
}
