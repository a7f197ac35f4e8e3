// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";
import { mountFrame } from "../src/ui/frame.js";

/** A window of the same site, which writes down what it is told. */
const site = () => ({ closed: false, got: [], postMessage({ event, detail }) { this.got.push([event, detail.volume ?? detail.message ?? detail.state]); } });
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

function framed() {
  const player = Object.assign(new EventTarget(), { state: "idle", station: "main", wanted: false, now: null, welcome: null });
  const own = Object.assign(new EventTarget(), { location: { origin: "https://radio.example" } });
  let [volume, told] = [1, () => {}];
  const setVolume = (level) => ((volume = level), told());
  mountFrame({ player, tune: async () => {}, setVolume, volume: () => volume, onVolume: (act) => (told = act) }, own);
  const ask = async (source, action, value) => {
    own.dispatchEvent(Object.assign(new Event("message"), { data: { type: "riffstream", action, value }, origin: "https://radio.example", source }));
    await settled();
  };
  return { player, ask, setVolume };
}

test("a site is told of each volume, whoever sets it", async () => {
  const { ask, setVolume } = framed();
  const shop = site();
  await ask(shop, "volume", 0.25);
  setVolume(0.5); // a hand in the frame
  assert.deepEqual(shop.got, [["ready", 1], ["volume", 0.25], ["volume", 0.5]]);
  await ask(shop, "volume", 7);
  assert.match(shop.got.at(-1)[1], /allowed: 0 to 1/);
});

test("a window that was closed is forgotten", async () => {
  const { ask, player } = framed();
  const [shop, gone] = [site(), site()];
  await ask(shop, "listen");
  await ask(gone, "listen");
  gone.closed = true;
  player.dispatchEvent(new Event("state"));
  gone.closed = false; // it would be told again if it were still known
  player.dispatchEvent(new Event("state"));
  assert.deepEqual([shop.got.length, gone.got.length], [3, 1]);
});
