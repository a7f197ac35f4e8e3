// @ts-check
/** What this is, in a few sentences and three sounds: the top of the help. */
import { make } from "./dom.js";
import { mountSeedSound } from "./seed-sound.js";

const SOUNDS = 3;

/**
 * Seeds as unlike each other as their place in the library's order of styles allows.
 * @template T
 * @param {T[]} seeds
 * @param {number} count
 * @returns {T[]}
 */
export const spread = (seeds, count) => Array.from({ length: Math.min(count, seeds.length) }, (_, i) => seeds[Math.floor(((i + 0.5) * seeds.length) / count)]);

/**
 * @param {import("../player.js").Player} player
 * @param {HTMLDialogElement} dialog
 */
export function mountAbout(player, dialog) {
  const sound = mountSeedSound(player);
  const sounds = make("div", { className: "row", role: "group", "aria-label": "Three sounds" });
  const examples = make("div", { hidden: true },
    make("p", { textContent: "Sounds that it starts from. Press one, then imagine it with other words, slower, or mixed with the next one:" }), sounds);
  dialog.addEventListener("close", () => sound.stop());

  async function load() {
    if (sounds.childElementCount) return;
    try {
      const answer = await fetch(player.url("/api/seeds"), { headers: player.headers });
      if (!answer.ok) return;
      /** @type {{name: string, style?: string, audio?: string}[]} */
      const library = ((await answer.json()).seeds ?? []).filter((/** @type {any} */ each) => each.style !== "upload" && each.audio);
      sounds.replaceChildren(...spread(library, SOUNDS).map(({ name, audio }) => {
        const title = name.replaceAll("_", " ");
        const button = sound.button(title, new URL(audio ?? "", player.url("/api/seeds")).href);
        button.className = "ghost hear";
        button.append(` ${title}`);
        return button;
      }));
      examples.hidden = !sounds.childElementCount;
    } catch {
      // The sentences stand by themselves.
    }
  }

  return {
    part: make("section", { className: "about-text", "aria-label": "About" },
      make("p", { textContent: "Nobody recorded this music. A model makes it now, a few seconds ahead of you, and it never plays the same twice. Everybody on a station hears the same at the same time." }),
      make("p", { textContent: "The model draws pictures of sound, spectrograms, from noise and from words, and the server turns them into audio. The moving picture is that sound: time runs from left to right, low notes lie at the bottom, and loud ones are bright." }),
      make("p", { textContent: "Type what you want to hear, tap a mood, or move a fader: it turns within seconds, for everybody here. Only a station's DJs may turn a guarded one." }),
      examples,
      make("p", {}, "For programs: ", make("a", { href: player.url("/api/openapi.json"), textContent: "the interface of this server" }), ".")),
    load,
  };
}
