// @ts-check
/** Uploads of this browser, which it may remove: the keys that the server gave for them. */
import { keep, reasonOf, recallJson } from "./dom.js";

const KEPT = 100;

/** @returns {Record<string, string>} key by the seed's name */
const keys = () => Object(recallJson("seed-keys"));

/** @param {Record<string, string>} all */
const store = (all) => keep("seed-keys", JSON.stringify(Object.fromEntries(Object.entries(all).slice(-KEPT))));

/** @param {string} name @param {string|undefined} key of the server's answer to an upload */
export function own(name, key) {
  if (key) store({ ...keys(), [name]: key });
}

/** @param {string} name @param {import("../player.js").Player} player */
export const mayRemove = (name, player) => name.startsWith("upload-") && (name in keys() || player.welcome?.role === "owner");

/**
 * Remove an upload from the server.
 * @param {string} name
 * @param {import("../player.js").Player} player
 * @throws {Error} with the server's reason
 */
export async function removeSeed(name, player) {
  const { [name]: key, ...others } = keys();
  const answer = await fetch(player.url(`/api/seeds/${encodeURIComponent(name)}`), {
    method: "DELETE", headers: { ...player.headers, ...(key ? { "Riffstream-Remove-Key": key } : {}) },
  });
  if (!answer.ok && answer.status !== 404) throw new Error(await reasonOf(answer));
  store(others);
}
