// @ts-check
/** What one can do where the server refuses a token, or has no such station. */
import { isPrivate } from "../protocol.js";
import { keep, make } from "./dom.js";

/**
 * @param {import("./app.js").App} app
 * @param {(station: string) => Promise<void>} tune
 * @param {() => Promise<void>} listStations
 * @returns {() => void} shows what the player's state calls for, or takes it away
 */
export function mountNotice(app, tune, listStations) {
  const { player } = app;
  const note = make("div", { className: "offer", id: "notice", role: "group", "aria-label": "This station" });

  /** @param {string} textContent @param {() => void} onclick */
  const choice = (textContent, onclick) => make("button", { type: "button", className: "ghost", textContent, onclick });

  /** Connect anew; play, if that was asked for before. */
  const again = (/** @type {string} */ station) => {
    const sound = player.clicked > 0;
    tune(station);
    if (sound) player.play();
  };
  /** @param {string|null} token */
  const withToken = (token) => {
    keep("token", token, "sessionStorage");
    player.token = token;
    again(player.station);
  };

  function forbidden() {
    const box = make("input", { type: "password", className: "field", "aria-label": "Token", placeholder: "Token", autocomplete: "off" });
    const form = make("form", {
      className: "row",
      onsubmit: (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        if (box.value.trim()) withToken(box.value.trim());
        else box.focus();
      },
    }, box, make("button", { className: "primary", textContent: player.token ? "Try this token" : "Use this token" }));
    if (player.token) form.append(choice("Listen without it", () => withToken(null)));
    const why = player.token ? "The server does not accept your token" : "The server wants a token";
    note.replaceChildren(make("p", { textContent: player.link.detail ? `${why}: ${player.link.detail}.` : `${why}.` }), form);
  }

  async function missing() {
    const asked = player.station;
    note.replaceChildren(make("p", {}, "There is no station ", make("strong", { textContent: asked }), " here, or no more."));
    await listStations();
    /** @type {{id: string, title?: string}[]} */
    let listed = [];
    try {
      const answer = await fetch(player.url("/api/stations"), { headers: player.headers });
      listed = (await answer.json()).stations ?? [];
    } catch {
      // Then there is nothing to choose from.
    }
    if (player.station !== asked) return;
    note.append(make("div", { className: "row" },
      ...listed.filter(({ id }) => !isPrivate(id)).map(({ id, title }) => choice(title || id, () => again(id)))));
  }

  let shown = "";
  return () => {
    const { state } = player;
    const key = state === "forbidden" || state === "missing" ? `${state} ${player.station} ${player.token} ${player.link.detail}` : "";
    // While it connects anew the answer is not known yet, and what was typed stays.
    if (key === shown || state === "connecting") return;
    shown = key;
    if (!key) note.remove();
    else {
      document.querySelector("main")?.prepend(note);
      if (state === "forbidden") forbidden();
      else missing();
    }
  };
}
