// @ts-check
/** Chords and form: what the station plans, and a row of chords of one's own. Only for models that follow conditions. */
import { make } from "./dom.js";

/** Fields of a state and a steer that need a model with conditions. */
export const CONDITIONS = /** @type {const} */ (["form", "chords", "parts", "energy", "density", "brightness"]);
const FORMS = { song: "Song", dj: "DJ set", ambient: "Ambient", none: "None" };

/**
 * Chord, section and the next section as text; "" without a plan.
 * @param {any} now
 */
export function planLine(now) {
  const parts = [];
  if (now?.chord) parts.push(now.chord);
  if (now?.section) parts.push(`${now.section} ${now.section_bar}/${now.section_bars}`);
  const section = (now?.coming ?? []).find((/** @type {any} */ each) => each.section);
  if (section) parts.push(`then ${section.section}`);
  return parts.join("  ·  ");
}

/**
 * A change without the fields that a station's model cannot follow.
 * @template {object} Change
 * @param {Change} change
 * @param {{conditions?: boolean}|undefined} caps
 * @returns {Change}
 */
export function playable(change, caps) {
  if (caps?.conditions) return change;
  return /** @type {Change} */ (Object.fromEntries(Object.entries(change).filter(([name]) => !CONDITIONS.includes(/** @type {any} */ (name)))));
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} grid of the sound panel
 */
export function mountForm(app, grid) {
  const { player } = app;
  const choice = make("select", {
    id: "form", className: "field steers",
    onchange: async () => {
      const applied = await app.steer({ form: /** @type {any} */ (choice.value) }, `form: ${choice.value}`);
      if (!applied) choice.value = app.state()?.form ?? "none"; // refused: what the station has
    },
  });
  const chords = make("input", {
    type: "text", id: "chords", className: "field steers", maxLength: 200, spellcheck: false, autocapitalize: "off",
    placeholder: "Am F C G", title: "One chord a bar; F / G are two in a bar",
  });
  /** @param {string} text */
  const send = (text) => app.steer({ chords: text || null, at: "bar" }, text || "chords of the plan");
  const auto = make("button", {
    type: "button", className: "plain steers", textContent: "auto", hidden: true,
    "aria-label": "Chords, auto: back to the plan", onclick: () => send(""),
  });
  const form = make("form", {
    autocomplete: "off",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      send(chords.value.trim());
    },
  }, chords);
  const plan = make("small", { id: "plan" });
  const controls = [
    make("div", { className: "control", hidden: true },
      make("div", { className: "top" }, make("label", { for: "chords", textContent: "Chords" }), auto), form, plan),
    make("div", { className: "control", hidden: true },
      make("div", { className: "top" }, make("label", { for: "form", textContent: "Form" })), choice,
      make("small", { textContent: "sections, chords and parts planned ahead" })),
  ];
  grid.append(...controls);
  app.onChange(() => {
    const caps = player.welcome?.caps;
    for (const control of controls) control.hidden = !caps?.conditions;
    if (!caps?.conditions) return;
    const state = app.state();
    if (choice.options.length !== caps.forms.length) {
      choice.replaceChildren(...caps.forms.map((/** @type {keyof typeof FORMS} */ name) => make("option", { value: name, textContent: FORMS[name] ?? name })));
    }
    if (document.activeElement !== choice) choice.value = state?.form ?? "none";
    if (document.activeElement !== chords) chords.value = state?.chords ?? "";
    auto.hidden = !state?.chords;
    plan.textContent = planLine(app.heard()) || "one a bar, from the next bar on";
  });
}
