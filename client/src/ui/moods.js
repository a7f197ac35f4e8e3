// @ts-check
/** One-tap moods, for those who do not want to type: first in the row of suggestions, large before the first sound. */
import { MOODS, moodChange, stationOf } from "../moods.js";
import { make } from "./dom.js";

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} row
 * @param {{surprise: () => void, tune: (station: string) => void, stations: () => {id: string, title?: string, description?: string}[]}} actions
 */
export function mountMoods(app, row, { surprise, tune, stations }) {
  const { player } = app;
  const buttons = MOODS.map((mood) => {
    const button = make("button", {
      type: "button", className: "ghost mood", textContent: mood.name,
      onclick: () => {
        if (!player.wanted) player.play();
        if (player.welcome && !player.maySteer) {
          const station = stationOf(mood, stations());
          if (station && station.id !== player.station) tune(station.id);
          return;
        }
        const change = moodChange(mood, player.welcome?.caps, app.state()?.prompts?.[0]?.text);
        app.steer(change, `${mood.name.toLowerCase()}: ${change.prompts?.[0].text}, ${change.bpm} bpm`);
      },
    });
    return { mood, button };
  });
  const dice = make("button", { type: "button", className: "ghost mood steers", textContent: "Surprise me", onclick: surprise });
  row.append(...buttons.map(({ button }) => button), dice);

  app.onChange(() => {
    const listed = stations();
    for (const { mood, button } of buttons) {
      const station = stationOf(mood, listed);
      button.disabled = !!player.welcome && !player.maySteer && !station;
      button.title = player.maySteer || !station ? `${mood.bpm[0]} to ${mood.bpm[1]} bpm: ${mood.prompts.slice(0, 3).join(", ")} …` : `The station ${station.title || station.id}`;
    }
    // A row in which nothing can be pressed is in the way.
    row.hidden = !!player.welcome && !player.maySteer && buttons.every(({ button }) => button.disabled);
  });
}
