// @ts-check
/** Full screen, kiosk, and the tabs, whose panels are fetched when they are first opened. */
import { byId, toast } from "./dom.js";
import { lazily } from "./lazily.js";

/**
 * @param {import("../player.js").Player} player
 * @param {boolean} alwaysKiosk
 */
export function mountScreen(player, alwaysKiosk) {
  const setKiosk = (/** @type {boolean} */ on) => document.body.classList.toggle("kiosk", on);
  function toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => toast("This browser does not allow full screen here."));
  }
  byId("full", HTMLButtonElement).addEventListener("click", toggleFullScreen);
  document.addEventListener("fullscreenchange", () => {
    setKiosk(!!document.fullscreenElement || alwaysKiosk);
    holdScreen();
  });
  setKiosk(alwaysKiosk);

  /** @type {WakeLockSentinel|null} */
  let held = null;
  let asking = false;
  /** Keep the display on while it shows music to a room. The system takes that back where the page is hidden. */
  async function holdScreen() {
    const wanted = () => document.body.classList.contains("kiosk") && player.state === "playing" && !document.hidden;
    if (!wanted()) {
      held?.release();
      held = null;
    } else if (!held && !asking && "wakeLock" in navigator) {
      asking = true;
      held = await navigator.wakeLock.request("screen").catch(() => null); // refused to save power
      asking = false;
      held?.addEventListener("release", () => (held = null));
      if (!wanted()) holdScreen();
    }
  }
  player.addEventListener("state", holdScreen);
  document.addEventListener("visibilitychange", holdScreen);

  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let pointerTimer;
  const wake = () => {
    document.body.classList.remove("idle-pointer");
    clearTimeout(pointerTimer);
    pointerTimer = setTimeout(() => player.state === "playing" && document.body.classList.add("idle-pointer"), 3000);
  };
  for (const name of ["pointermove", "keydown"]) addEventListener(name, wake);
  player.addEventListener("state", wake);
  return { toggleFullScreen };
}

/**
 * @param {Record<string, () => Promise<unknown>>} panels what to do when a tab is opened for the first time, by the
 *   panel's id
 */
export function mountTabs(panels) {
  const tabs = [...document.querySelectorAll('[role="tab"]')].map((t) => /** @type {HTMLButtonElement} */ (t));
  const panelOf = (/** @type {HTMLButtonElement} */ tab) => tab.getAttribute("aria-controls") ?? "";
  const loads = new Map(Object.entries(panels).map(([id, mount]) => [id, lazily(mount)]));
  /** Mount a panel once; everybody who asks waits until it is there. @param {string} id */
  const load = async (id) => void (await loads.get(id)?.());
  /** @param {HTMLButtonElement} chosen */
  function open(chosen) {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      byId(panelOf(tab), HTMLElement).hidden = !selected;
    }
    load(panelOf(chosen));
  }
  for (const tab of tabs) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const there = tabs.filter(({ hidden }) => !hidden);
      const here = there.indexOf(tab);
      const other = { ArrowRight: (here + 1) % there.length, ArrowLeft: (here + there.length - 1) % there.length, Home: 0, End: there.length - 1 }[event.key];
      if (other === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      open(there[other]);
      there[other].focus();
    });
  }
  return {
    load,
    /** @param {string} id of a panel */
    open: (id) => tabs.filter((tab) => panelOf(tab) === id).forEach(open),
  };
}
