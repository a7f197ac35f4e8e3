// @ts-check
/** Kept moments in this browser's IndexedDB: the music's state, a picture and the sound before. */

const [DATABASE, STORE] = ["riffstream", "moments"];
/** More are too many to look through; the oldest goes. */
export const MOST = 200;

/**
 * @typedef {object} Moment
 * @property {number} [id]
 * @property {number} at          ms since 1970
 * @property {string} station
 * @property {string} title
 * @property {any} state          what a steer needs to come back to it
 * @property {string|null} picture  data URL
 * @property {Blob|null} audio
 */

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** @returns {Promise<IDBDatabase>} */
function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
  return answer(request);
}

/**
 * Work on the store in a transaction of its own.
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => Promise<T>} work
 * @returns {Promise<T>} settles once it is on disk
 */
async function within(mode, work) {
  const database = await open();
  try {
    const transaction = database.transaction(STORE, mode);
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(undefined);
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? new Error("the browser's storage refused it"));
    });
    const [result] = await Promise.all([work(transaction.objectStore(STORE)), done]);
    return result;
  } finally {
    database.close();
  }
}

/** All moments, the newest first. @returns {Promise<Moment[]>} */
export const allMoments = () => within("readonly", async (store) => (await answer(store.getAll())).reverse());

/**
 * Keep one, and let the oldest go where there are too many.
 * @param {Moment} moment
 */
export function addMoment(moment) {
  return within("readwrite", async (store) => {
    await answer(store.add(moment));
    const ids = await answer(store.getAllKeys());
    for (const id of ids.slice(0, Math.max(0, ids.length - MOST))) store.delete(id);
  });
}

/** @param {number} id @param {Partial<Moment>} fields */
export function changeMoment(id, fields) {
  return within("readwrite", async (store) => {
    const found = await answer(store.get(id));
    if (found) store.put({ ...found, ...fields });
  });
}

/** @param {number} id */
export const removeMoment = (id) => within("readwrite", async (store) => void store.delete(id));
