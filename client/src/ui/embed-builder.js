// @ts-check
/** The part of the share dialog for other pages and players: the code to copy, a preview, and what the other side must allow. */
import { make } from "./dom.js";
import { CORNERS, overlayAddress, PARTS } from "./overlay.js";

const SIZES = /** @type {const} */ ([["640 × 360", 640, 360], ["480 × 270", 480, 270], ["640 × 120", 640, 120], ["320 × 80", 320, 80]]);

/**
 * @param {import("../player.js").Player} player
 * @param {string} station
 * @param {(label: string, id: string, value: string) => HTMLElement} copied  a line with a button that copies its field
 */
export function mountEmbedBuilder(player, station, copied) {
  const name = encodeURIComponent(station);
  const page = player.url(`/embed/${name}`);
  const server = new URL(player.url("/"));
  const socket = `${server.protocol === "https:" ? "wss:" : "ws:"}//${server.host}`;
  const stands = (/** @type {HTMLElement} */ line) => /** @type {HTMLInputElement} */ (line.querySelector("input"));

  /** @type {{latest: string, pinned: string, integrity: string}} */
  let element = { latest: player.url("/riff-stream.js"), pinned: "", integrity: "" };

  const choice = (/** @type {string} */ label, /** @type {[string, string][]} */ options) =>
    make("select", { className: "field", "aria-label": label, onchange: () => update() }, ...options.map(([value, textContent]) => make("option", { value, textContent })));
  const check = (/** @type {string} */ text, checked = false) => {
    const box = make("input", { type: "checkbox", checked, onchange: () => update() });
    return { box, label: make("label", { className: "check" }, box, ` ${text}`) };
  };
  const colour = (/** @type {string} */ label, /** @type {string} */ value) => make("input", { type: "color", "aria-label": label, value, oninput: () => update() });

  // Element ----------------------------------------------------------------------------------------------------------
  const theme = choice("Theme of the element", [["dark", "dark"], ["light", "light"], ["auto", "as the reader's system"]]);
  const picture = check("spectrogram", true);
  const own = check("music of each visitor's own");
  const pinned = check("this exact version");
  const accent = colour("Accent of the element", "#ffb070");
  const code = copied("For a web page", "share-embed", "");
  const policy = copied("Its content security policy, if it has one", "share-policy",
    `script-src ${server.origin}; worker-src ${server.origin} blob:; connect-src ${server.origin} ${socket}; media-src ${server.origin}`);
  const pinNote = make("p", { className: "quiet", textContent: "The browser then refuses any other content, also after an update of this server: copy it again after one. The hash covers the element; its worker and audio thread come from the same server.", hidden: true });
  const elementTab = make("div", {}, make("div", { className: "row" }, theme, accent, picture.label, own.label, pinned.label), code, pinNote, policy,
    make("p", { className: "quiet", textContent: "Listening works everywhere. A page of another site steers, or has music of its own, only where its address is in this server's server.allowed_origins." }));

  // Frame --------------------------------------------------------------------------------------------------------------
  const size = choice("Size of the frame", SIZES.map(([words], index) => [String(index), words]));
  const frameAccent = colour("Accent of the frame", "#ffb070");
  const frameBack = colour("Background of the frame", "#0b0a11");
  const deck = check("button and volume", true);
  const starts = check("starts by itself");
  const frameCode = copied("Frame", "share-frame", "");
  const preview = make("iframe", { title: "Preview of the frame", loading: "lazy", allow: "autoplay" });
  const frameTab = make("div", {}, make("div", { className: "row" }, size, frameAccent, frameBack, deck.label, starts.label), frameCode,
    copied("Its content security policy, if it has one", "share-frame-policy", `frame-src ${server.origin}`),
    make("p", { className: "quiet", textContent: "A site in server.allowed_origins controls the frame with postMessage (docs/player.md)." }));

  // OBS ----------------------------------------------------------------------------------------------------------------
  const parts = Object.entries(PARTS).map(([part, words]) => ({ part, ...check(words, true) }));
  const corner = choice("Corner of the words", Object.entries(CORNERS));
  const scale = choice("Size of the words", ["0.5", "0.75", "1", "1.5", "2", "3", "4"].map((value) => [value, `${100 * Number(value)} %`]));
  scale.value = "1";
  const quiet = check("no sound");
  const layer = copied("For OBS, as a browser source", "share-obs", "");
  const obsTab = make("div", {}, layer, make("div", { className: "row", role: "group", "aria-label": "Layer for OBS" }, ...parts.map(({ label }) => label), corner, scale, quiet.label));

  // Player -------------------------------------------------------------------------------------------------------------
  const address = player.url(`/?station=${name}`);
  const playerTab = make("div", {},
    copied("For any audio player", "share-stream", player.url(`/stream/${name}.mp3`)),
    copied("Playlist (m3u)", "share-m3u", player.url(`/listen/${name}.m3u`)),
    copied("Playlist (pls)", "share-pls", player.url(`/listen/${name}.pls`)),
    make("p", { className: "quiet", textContent: "For a phone:" }),
    make("img", { className: "qr", src: player.url(`/qr/${name}.svg`), alt: `QR code of ${address}`, loading: "lazy", width: 200, height: 200 }));

  function update() {
    const style = accent.value === "#ffb070" ? "" : ` style="--riff-accent: ${accent.value}"`;
    const attributes = [own.box.checked ? 'station="new" prompt="calm piano"' : `station="${station}"`, "controls", ...(picture.box.checked ? ["visual"] : []), ...(theme.value === "dark" ? [] : [`theme="${theme.value}"`])];
    const exact = pinned.box.checked && element.pinned;
    const script = exact ? `<script type="module" src="${element.pinned}" integrity="${element.integrity}" crossorigin></script>` : `<script type="module" src="${element.latest}"></script>`;
    stands(code).value = `${script}\n<riff-stream ${attributes.join(" ")}${style}></riff-stream>`;
    pinNote.hidden = !exact;
    pinned.box.disabled = !element.pinned;

    const [, width, height] = SIZES[Number(size.value)];
    const query = new URLSearchParams();
    if (frameAccent.value !== "#ffb070") query.set("accent", frameAccent.value.slice(1));
    if (frameBack.value !== "#0b0a11") query.set("bg", frameBack.value.slice(1));
    if (!deck.box.checked) query.set("controls", "0");
    if (starts.box.checked) query.set("autoplay", "1");
    const source = String(query) ? `${page}?${query}` : page; // `size` is not in every browser yet
    stands(frameCode).value = `<iframe src="${source}" width="${width}" height="${height}" allow="autoplay" style="border: 0"></iframe>`;
    Object.assign(preview, { width, height });
    // The preview neither sounds by itself nor silences this page.
    const previewed = `${page}?${new URLSearchParams([...query].filter(([key]) => key !== "autoplay").concat([["several", ""]]))}`;
    if (frameTab.hidden) preview.remove(); // it is a listener, and may sound
    else {
      if (preview.src !== previewed) preview.src = previewed;
      if (!preview.isConnected) frameCode.after(preview);
    }
    stands(layer).value = overlayAddress(page, {
      show: parts.filter(({ box }) => box.checked).map(({ part }) => part), corner: corner.value, size: Number(scale.value), muted: quiet.box.checked,
    });
  }

  const panels = /** @type {const} */ ([["Element", elementTab], ["Frame", frameTab], ["OBS", obsTab], ["Player", playerTab]]);
  const list = make("div", { className: "tabs", role: "tablist", "aria-label": "Play it elsewhere" });
  const tabs = panels.map(([words, panel], index) => {
    const id = `embed-${words.toLowerCase()}`;
    panel.id = id;
    panel.setAttribute("role", "tabpanel");
    const tab = make("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": id, textContent: words, onclick: () => open(index) });
    panel.setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("keydown", (event) => {
      const other = { ArrowRight: (index + 1) % panels.length, ArrowLeft: (index + panels.length - 1) % panels.length, Home: 0, End: panels.length - 1 }[event.key];
      if (other === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      open(other);
      tabs[other].focus();
    });
    return tab;
  });
  list.append(...tabs);
  /** @param {number} chosen */
  function open(chosen) {
    panels.forEach(([, panel], index) => {
      panel.hidden = index !== chosen;
      tabs[index].setAttribute("aria-selected", String(index === chosen));
      tabs[index].tabIndex = index === chosen ? 0 : -1;
    });
    update();
  }
  open(0);
  fetch(player.url("/api/element"), { headers: player.headers }).then(async (answer) => {
    if (!answer.ok) return;
    const { latest, pinned: exact, integrity } = await answer.json();
    element = { latest: new URL(latest, answer.url).href, pinned: new URL(exact, answer.url).href, integrity };
    update();
  }).catch(() => {}); // the plain address serves as well
  return make("div", { className: "builder" }, list, ...panels.map(([, panel]) => panel));
}
