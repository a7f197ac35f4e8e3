// @ts-check
/**
 * Where the server is. A proxy may serve it under any path prefix and need not say which, so every address is resolved
 * against the folder that the player's own files came from.
 */

/**
 * The server's address, which ends with a slash; its socket is `ws/main` below it.
 * @param {string|null|undefined} given  an address of the server, perhaps with a path ("https://example.org/radio"); by default
 *   the server that this module came from
 * @param {string} page       address of the page
 * @param {string} [module]   address of this module
 * @returns {URL}
 */
export function serverRoot(given, page, module = import.meta.url) {
  // A bundled copy of the player may run from a file or a blob: then the page's own server is meant.
  const root = given ? new URL(given, page) : /^https?:/.test(module) ? new URL("../", module) : new URL("/", page);
  // The files of a version lie in a folder of their own (riffstream/server/player_bundle.py, element_file.py).
  if (!given) root.pathname = root.pathname.replace(/\/(?:static\/[0-9a-f]{16}|v1(?:\/[0-9a-f]{16})?)\/$/, "/");
  root.search = root.hash = "";
  root.pathname = root.pathname.replace(/\/index\.html$/, "/").replace(/\/*$/, "/");
  return root;
}

/**
 * @param {URL} root  of `serverRoot`
 * @param {string} path  below the server's address, with or without a slash in front: "/api/stations"
 * @returns {URL}
 */
export function below(root, path) {
  return new URL(path.replace(/^\/*/, "./"), root);
}

/**
 * The station of an embedded page's address (`embed/NAME` below the server's), null elsewhere.
 * @param {URL} root
 * @param {string} pathname of the page
 * @param {"embed"|"stage"} [folder]
 */
export function embeddedStation(root, pathname, folder = "embed") {
  const [kind, name, rest] = pathname.startsWith(root.pathname) ? pathname.slice(root.pathname.length).split("/") : [];
  return kind === folder && name && !rest ? decodeURIComponent(name) : null;
}
