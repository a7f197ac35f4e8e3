// @ts-check
/** The states of a player: which one it is in, and what each is called, on the page and in the element. */
import { OPENING_MS } from "./output.js";

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

/** A browser that will let no sound out is told from one that is still opening its sound device by how long it takes, ms. */
export const HELD_MS = 400;

/**
 * What to tell the listener.
 * @param {import("./player.js").Player} player
 * @returns {import("./player.js").PlayerState}
 */
export function stateOf(player) {
  const link = player.link.state;
  if (player.own?.refusal) return player.own.refusal.state;
  if (link === "full" || link === "forbidden" || link === "missing" || link === "restarting") return link;
  if (!player.wanted) {
    if (player.failure) return "unsupported";
    if (link === "reconnecting" || link === "nosocket") return link;
    if (player.clicked) return "paused";
    // "idle" promises that the station has answered: who asks for something now asks it of somebody.
    return link === "connecting" || (link === "open" && !player.welcome) ? "connecting" : "idle";
  }
  const patience = navigator.userActivation?.hasBeenActive ? OPENING_MS : HELD_MS;
  if (player.output.held && performance.now() - player.clicked > patience) return "blocked";
  if (player.output.audible) {
    // What is buffered plays on while the line is down.
    if (link === "reconnecting") return "reconnecting";
    const { bufferMs, targetMs } = player.output.report;
    return bufferMs < targetMs / 3 && player.transport !== "mp3" ? "behind" : "playing";
  }
  if (link === "open") return "buffering";
  return link === "reconnecting" || link === "nosocket" ? link : "connecting";
}
