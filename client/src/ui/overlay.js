// @ts-check
/**
 * The page as a layer over a video (OBS's browser source): no background, no controls, and the parts that the address names.
 *
 *   ?bg=transparent&show=picture,now,meta,next&align=bl&size=1.5&muted=1
 */

/** What a layer may show, and the words for it. */
export const PARTS = /** @type {Record<string, string>} */ ({ picture: "picture", label: "state", now: "words", meta: "tempo and key", next: "what comes next" });
/** Corners: bottom or top, left or right. */
export const CORNERS = /** @type {Record<string, string>} */ ({ bl: "bottom left", br: "bottom right", tl: "top left", tr: "top right" });
const NAMES = Object.keys(PARTS);
const [SMALLEST, LARGEST] = [0.5, 4];

/**
 * What an address asks for; null where it asks for no layer.
 * @param {URLSearchParams} query
 * @returns {{show: string[], corner: string, size: number, muted: boolean}|null}
 */
export function readOverlay(query) {
  if (query.get("bg") !== "transparent") return null;
  const named = (query.get("show") ?? NAMES.join(",")).split(",").map((each) => each.trim()).filter((each) => NAMES.includes(each));
  const size = Number(query.get("size") ?? 1);
  const corner = query.get("align") ?? "bl";
  return {
    show: named.length || query.get("show") === "none" ? named : NAMES,
    corner: Object.hasOwn(CORNERS, corner) ? corner : "bl",
    size: Number.isFinite(size) ? Math.max(SMALLEST, Math.min(LARGEST, size)) : 1,
    muted: query.get("muted") === "1",
  };
}

/**
 * Address of a layer.
 * @param {string} page address of the station's embedded page
 * @param {{show?: string[], corner?: string, size?: number, muted?: boolean}} [choice]
 */
export function overlayAddress(page, { show, corner, size, muted } = {}) {
  const query = new URLSearchParams({ bg: "transparent", autoplay: "" });
  if (show && show.length < NAMES.length) query.set("show", show.join(",") || "none");
  if (corner && corner !== "bl") query.set("align", corner);
  if (size && size !== 1) query.set("size", String(size));
  if (muted) query.set("muted", "1");
  return `${page}?${query.toString().replace("autoplay=", "autoplay").replaceAll("%2C", ",")}`;
}

/**
 * @param {{show: string[], corner: string, size: number}} overlay
 * @param {HTMLElement} body
 */
export function dressOverlay({ show, corner, size }, body) {
  body.classList.add("overlay");
  body.dataset.corner = corner;
  body.dataset.show = show.join(" ");
  body.style.setProperty("--size", String(size));
}
