// @ts-check
/** The second screen, `/stage/{station}`: picture, words, what comes next, requests, a code to the station. The DJ's page controls it. */
import { openChannel } from "../channel.js";
import { CHANNEL, readSettings } from "../stage.js";
import { keep, make, recallJson } from "./dom.js";

const SHOWN_REQUESTS = 5;

/**
 * @param {import("../player.js").Player} player
 * @param {{look: () => string, setLook: (look: any) => unknown}} picture
 */
export function mountStage(player, picture) {
  const { body } = document;
  body.classList.add("second-screen");
  const stage = /** @type {HTMLElement} */ (document.querySelector(".stage"));
  const wishes = make("ol", { className: "wishes", id: "stage-requests", "aria-label": "Requests" });
  const code = make("img", { className: "code", id: "stage-code", alt: "QR code of this station's page" });
  const dark = make("div", { className: "blackout", id: "blackout", hidden: true });
  stage.append(wishes, code);
  body.append(dark);

  let settings = readSettings(recallJson("stage"));
  function show() {
    body.style.setProperty("--stage-size", String(settings.size));
    body.dataset.hidden = settings.hidden.join(" ");
    dark.hidden = !settings.blackout;
    if (settings.look !== picture.look()) picture.setLook(settings.look);
  }
  const showWishes = () => {
    const items = (player.requests?.items ?? []).slice(0, SHOWN_REQUESTS);
    wishes.replaceChildren(...items.map(({ text, votes }) => make("li", { dir: "auto" }, text, " ", make("b", { textContent: `▲ ${votes}` }))));
  };
  const showCode = () => (code.src = player.url(`/qr/${encodeURIComponent(player.station)}.svg`));
  for (const name of ["welcome", "requests"]) player.addEventListener(name, showWishes);

  // Without one it shows what it was told last.
  const channel = openChannel(CHANNEL);
  const here = () => channel?.postMessage({ type: "stage", settings });
  channel?.addEventListener("message", ({ data }) => {
    if (data?.type === "ask") here();
    if (data?.type !== "set") return;
    settings = readSettings(data.settings);
    keep("stage", JSON.stringify(settings));
    show();
    here();
  });
  addEventListener("pagehide", () => channel?.postMessage({ type: "gone" }));
  show();
  showCode();
  here();
}
