import assert from "node:assert/strict";
import { test } from "node:test";
import { below, embeddedStation, serverRoot } from "../src/address.js";

const page = "http://nas.lan:8123/ingress/abc/?station=jazz#token=x";
const module = "http://nas.lan:8123/ingress/abc/src/address.js?v=2";

test("the server is where the player's files came from, whatever the prefix", () => {
  assert.equal(serverRoot(null, page, module).href, "http://nas.lan:8123/ingress/abc/");
  assert.equal(serverRoot("", "https://blog.example/post/7", "https://radio.example/src/address.js").href, "https://radio.example/");
  assert.equal(serverRoot(undefined, page, "file:///tmp/address.js").href, "http://nas.lan:8123/");
});

test("a given address keeps its prefix, with and without a slash at its end", () => {
  for (const given of ["https://radio.example/radio", "https://radio.example/radio/", "https://radio.example/radio/index.html?p=x#y"]) {
    assert.equal(serverRoot(given, page, module).href, "https://radio.example/radio/");
  }
  assert.equal(serverRoot("https://radio.example", page, module).href, "https://radio.example/");
  assert.equal(serverRoot("/radio", page, module).href, "http://nas.lan:8123/radio/");
});

test("every address lies below the server's", () => {
  const root = serverRoot("https://radio.example/radio", page, module);
  assert.equal(below(root, "/ws/main").href, "https://radio.example/radio/ws/main");
  assert.equal(below(root, "api/stations?x=a:b").href, "https://radio.example/radio/api/stations?x=a:b");
  assert.equal(below(root, "/").href, "https://radio.example/radio/");
  assert.equal(below(root, "//evil.example/x").href, "https://radio.example/radio/evil.example/x");
});

test("an embedded page knows its station below any prefix", () => {
  const root = new URL("http://nas.lan/embed/radio/");
  assert.equal(embeddedStation(root, "/embed/radio/embed/late%20night"), "late night");
  assert.equal(embeddedStation(root, "/embed/radio/"), null);
  assert.equal(embeddedStation(root, "/embed/radio"), null);
  assert.equal(embeddedStation(new URL("http://nas.lan/"), "/embed/main/"), "main");
});
