// @ts-check
/** What each state of the player is called, on the page and in the element. */

/** @type {Record<import("./player.js").PlayerState, string>} */
export const STATUS = {
  idle: "ready",
  connecting: "connecting",
  buffering: "buffering",
  playing: "playing",
  paused: "paused",
  behind: "catching up",
  blocked: "click to start the sound",
  reconnecting: "reconnecting",
  full: "the station is full, waiting for a place",
  forbidden: "not allowed",
  missing: "no such station",
  nosocket: "something on the way to the server lets no WebSocket through",
  restarting: "the server is restarting",
  unsupported: "this browser cannot play it",
};

/** Of a paused player that gave way to another tab or element. */
export const ELSEWHERE = "playing in another tab or player";

/** States in which sound comes out. */
export const SOUNDING = new Set(["playing", "behind"]);
