// @ts-nocheck
import assert from "node:assert/strict";
import { test } from "node:test";

class FakeElement {
  constructor() {
    this.listeners = {};
    this.attributes = {};
  }
  addEventListener(name, act) {
    this.listeners[name] = act;
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  append() {}
  pause() {
    this.playing = false;
  }
  async play() {
    this.playing = true;
  }
}
const sounds = [];
const globals = {
  navigator: { userAgent: "node" },
  document: { createElement: () => new FakeElement() },
  Audio: class extends FakeElement {
    constructor() {
      super();
      sounds.push(this);
    }
  },
};
for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true });
const { Output } = await import("../src/output.js");
const { mountSeedSound } = await import("../src/ui/seed-sound.js");
const { SleepTimer } = await import("../src/sleep.js");

const read = async () => new Blob(["sound"]);
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test("a sound of its own keeps the station quiet whatever the timer says, and the timer fades whatever else sounds", async () => {
  const output = new Output(() => {}, () => {}, () => true);
  const timer = new SleepTimer({ fade: (level) => output.setFade("timer", level), pause: () => {}, play: () => {} });
  const seed = mountSeedSound({ output }).button("harp", "harp", read);
  seed.listeners.click();
  await settled();
  assert.equal(output.fade, 0.1);
  timer.end(60_000);
  timer.tick(1000);
  assert.equal(output.fade, 0.1);
  timer.tick(45_000);
  assert.equal(output.fade, 0.05);
  output.setFade("elsewhere", 0);
  assert.equal(output.fade, 0);
  output.setFade("elsewhere", 1);
  seed.listeners.click();
  assert.equal(output.fade, 0.5);
});

test("one sound at a time, and a part of the page that has none ends nothing", async () => {
  sounds.length = 0;
  const output = new Output(() => {}, () => {}, () => true);
  const [seeds, kept, about] = [1, 2, 3].map(() => mountSeedSound({ output }));
  const [harp, bells] = [seeds.button("harp", "harp", read), kept.button("bells", "bells", read)];
  harp.listeners.click();
  await settled();
  about.stop();
  assert.deepEqual([sounds[0].playing, output.fade], [true, 0.1]);
  bells.listeners.click();
  await settled();
  assert.deepEqual([harp.attributes["aria-pressed"], bells.attributes["aria-pressed"]], ["false", "true"]);
  assert.deepEqual([sounds[0].playing, sounds[1].playing, output.fade], [false, true, 0.1]);
  bells.listeners.click();
  assert.equal(output.fade, 1);
});

test("what was pressed twice while it loads plays once, and no address of it is left", async (t) => {
  const made = [];
  t.mock.method(URL, "createObjectURL", () => (made.push(true), `blob:${made.length}`));
  const revoked = t.mock.method(URL, "revokeObjectURL", () => {});
  const sound = mountSeedSound({ output: new Output(() => {}, () => {}, () => true) });
  let load = () => {};
  const loaded = new Promise((resolve) => (load = resolve));
  const button = sound.button("harp", "harp", () => loaded);
  for (let press = 0; press < 3; press++) button.listeners.click();
  load(new Blob(["sound"]));
  await settled();
  button.listeners.click();
  assert.deepEqual([made.length, revoked.mock.callCount() >= 1], [1, true]);
});
