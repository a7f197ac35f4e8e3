// @ts-check
/** Requests: what listeners wish to hear. They suggest, vote and react; who steers takes a wish or dismisses it. */
import { make, rebuild, toast } from "./dom.js";
import { mountCurve } from "./reaction-curve.js";

/** @typedef {import("../messages.js").RequestItem} Item */

const REACTIONS = /** @type {const} */ ([
  ["heart", "I love this", "M12 20S4.5 15.5 4.5 10A4 4 0 0 1 12 8a4 4 0 0 1 7.5 2c0 5.5-7.5 10-7.5 10z"],
  ["fire", "This is hot", "M12 3c1 3.5 5 5.5 5 10.5a5 5 0 0 1-10 0c0-2 1-3.5 2-4.5.3 1.5 1 2.3 2 2.6C10.6 8.6 10.5 5.5 12 3z"],
  ["wow", "Wow", "m12 3 2.6 5.8 6.4.7-4.8 4.3 1.4 6.2L12 16.900 6.4 20l1.4-6.2L3 9.5l6.4-.7z"],
]);

const votes = (/** @type {number} */ n) => (n === 1 ? "1 vote" : `${n} votes`);

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} panel
 */
export function mountRequests(app, panel) {
  const { player } = app;
  const voted = new Set(); // of this page; the server counts once as well

  /** @param {import("../messages.js").Request["op"]} op @param {object} [fields] */
  const change = (op, fields = {}) =>
    player.changeRequests(op, fields).then((answer) => (show(answer.requests), true), (error) => (toast(error.message, { error: true }), false));

  const text = make("input", { type: "text", className: "field", dir: "auto", placeholder: "What would you like to hear?", "aria-label": "Your request", list: "suggestions" });
  const form = make("form", {
    className: "row", autocomplete: "off",
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const words = text.value.trim();
      if (!words) return text.focus();
      if ((await change("suggest", { text: words })) && text.value.trim() === words) {
        text.value = "";
        toast(`Asked for ${words}`);
      }
    },
  }, text, make("button", { className: "primary", textContent: "Suggest" }));

  const reactions = make("div", { className: "row reactions", role: "group", "aria-label": "Reactions" });
  const counts = REACTIONS.map(([name, label, path]) => {
    const count = make("span", { className: "quiet" });
    const button = make("button", { type: "button", className: "ghost", title: label, "aria-label": label, onclick: () => change("react", { reaction: name }) });
    button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`;
    button.append(count);
    reactions.append(button);
    return { name, label, button, count };
  });

  const list = make("ol", { className: "history requests" });
  const empty = make("p", { className: "empty" });
  panel.append(form, reactions, mountCurve(player), list, empty);

  /** @param {Item} item @param {string} act @param {string} textContent @param {string} label @param {() => unknown} onclick */
  const action = (item, act, textContent, label, onclick) =>
    make("button", { type: "button", className: "ghost", "data-focus": `${act} ${item.id}`, textContent, "aria-label": label, onclick });

  /** @param {Item} item */
  function line(item) {
    const vote = action(item, "vote", `▲ ${item.votes}`, `Vote for ${item.text}, ${votes(item.votes ?? 1)}`, async () => {
      if (await change("vote", { item: item.id })) voted.add(item.id);
      render();
    });
    vote.setAttribute("aria-pressed", String(voted.has(item.id)));
    const row = make("li", {}, vote, make("span", { dir: "auto", textContent: item.text }));
    if (player.maySteer) {
      row.append(
        action(item, "now", "Play", `Play ${item.text} at the next bar`, () => {
          if (!player.wanted) player.play();
          change("take", { item: item.id, play: "now" });
        }),
        action(item, "queue", "Queue", `Put ${item.text} into the queue`, () => change("take", { item: item.id, play: "queue" })),
        action(item, "dismiss", "✕", `Dismiss ${item.text}`, () => change("dismiss", { item: item.id })));
    }
    return row;
  }

  let shown = "";
  function render() {
    const { requests } = player;
    if (!requests) return;
    const most = player.welcome?.limits?.request_chars ?? 80;
    text.maxLength = most;
    for (const { name, label, button, count } of counts) {
      const heard = requests.reactions[name] ?? 0;
      count.textContent = player.maySteer && heard ? ` ${heard}` : "";
      button.setAttribute("aria-label", player.maySteer ? `${label}, ${heard} in the last minute` : label);
    }
    const key = JSON.stringify([requests.items, player.maySteer, [...voted]]);
    if (key === shown) return;
    shown = key;
    empty.textContent = requests.items.length ? "" : player.maySteer ? "Nobody has asked for anything yet." : "Nothing is asked for yet: begin.";
    rebuild(list, requests.items.map(line), text);
  }

  /** @param {import("../messages.js").RequestList} requests */
  function show(requests) {
    player.requests = requests;
    render();
  }
  player.addEventListener("requests", render);
  app.onChange(render);
}
