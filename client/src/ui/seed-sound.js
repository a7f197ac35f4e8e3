// @ts-check
/** A seed or a kept moment by itself, for this listener only: the station goes on quietly meanwhile. */
import { make, reasonOf, toast } from "./dom.js";

/** Level of the station meanwhile. */
const BEHIND = 0.1;

/** Ends the sound that was started last: there is one at a time. @type {() => void} */
let endLast = () => {};

/**
 * @param {import("../player.js").Player} player
 * @param {() => string} [device] the output to play on; "" is the page's own, where the station goes on quietly
 */
export function mountSeedSound(player, device = () => "") {
  const audio = new Audio();
  /** @type {string|null} address of the sound that plays or loads */
  let on = null;
  /** @type {HTMLButtonElement|null} its button, which may be made anew meanwhile */
  let pressed = null;
  let address = "";
  let turn = 0; // of starts and stops: what an earlier one still loads is not wanted
  function stop() {
    if (on === null) return;
    turn++;
    audio.pause();
    URL.revokeObjectURL(address);
    address = "";
    pressed?.setAttribute("aria-pressed", "false");
    on = pressed = null;
    player.output.setFade("beside", 1);
  }
  audio.addEventListener("ended", stop);

  /** Through fetch, because a private server wants the token. @param {string} url */
  async function fetched(url) {
    const answer = await fetch(url, { headers: player.headers });
    if (!answer.ok) throw new Error(await reasonOf(answer));
    return answer.blob();
  }

  /** @param {HTMLButtonElement} button @param {string} url @param {(url: string) => Promise<Blob>} read */
  async function start(button, url, read) {
    endLast();
    endLast = stop;
    const mine = ++turn;
    on = url;
    pressed = button;
    button.setAttribute("aria-pressed", "true");
    try {
      const sound = await read(url);
      if (mine !== turn) return;
      address = URL.createObjectURL(sound);
      audio.src = address;
      audio.volume = player.output.volume ** 2;
      const chosen = device();
      await /** @type {any} */ (audio).setSinkId?.(chosen);
      if (mine !== turn) return;
      if (!chosen) player.output.setFade("beside", BEHIND);
      await audio.play();
    } catch (error) {
      if (mine !== turn) return;
      stop();
      toast(`This sound does not play: ${error.message}`, { error: true });
    }
  }

  return {
    /**
     * @param {string} title
     * @param {string} url of the sound, or another name of it for `read`
     * @param {(url: string) => Promise<Blob>} [read]
     */
    button: (title, url, read = fetched) => {
      const button = make("button", {
        type: "button", className: "hear", textContent: "▶", "aria-pressed": String(on === url), "aria-label": `Hear ${title}`, title: "Hear it, on this page only",
        onclick: () => (on === url ? stop() : start(button, url, read)),
      });
      if (on === url) pressed = button;
      return button;
    },
    stop,
  };
}
