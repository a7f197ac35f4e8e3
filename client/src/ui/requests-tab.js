// @ts-check
/** The tab of the requests: there where the station takes some, with their number. */
import { byId } from "./dom.js";

/**
 * @param {import("../player.js").Player} player
 * @param {(panel: string) => void} open
 */
export function mountRequestsTab(player, open) {
  const tab = byId("tab-requests", HTMLElement);
  let offered = ""; // station whose listener has seen them
  const update = () => {
    const { requests } = player;
    const number = requests?.items.length ?? 0;
    const words = number ? `Requests (${number})` : "Requests";
    tab.hidden = !requests;
    if (tab.textContent !== words) tab.textContent = words;
    if (!requests && tab.getAttribute("aria-selected") === "true") open("panel-sound");
    // Who may not steer has nothing to do on the other panels.
    if (requests && player.welcome && !player.maySteer && offered !== player.station) {
      offered = player.station;
      open("panel-requests");
    }
  };
  for (const name of ["welcome", "requests"]) player.addEventListener(name, update);
  update();
}
