// @ts-nocheck: Node's own types are not installed for the check
/**
 * A WebSocket client (RFC 6455) for Node 20, which has none without a flag. Only what `Connection` needs: text and binary
 * messages, ping, close, TLS; no compression.
 */

/** @typedef {import("node:net").Socket} Socket */

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
/** Largest message of a server: bursts of audio are far smaller. */
const LARGEST = 16 * 1024 * 1024;
/** How long the other side may take to answer a close, ms. */
const CLOSE_MS = 1000;
const OPEN_MS = 15000;

export class NodeSocket {
  /** @param {string|URL} url @param {string} protocol */
  constructor(url, protocol) {
    this.readyState = 0;
    this.binaryType = "arraybuffer";
    this.protocol = "";
    /** @type {((event: any) => void)|null} */
    this.onopen = null;
    /** @type {((event: any) => void)|null} */
    this.onmessage = null;
    /** @type {((event: any) => void)|null} */
    this.onclose = null;
    /** @type {((event: any) => void)|null} */
    this.onerror = null;
    /** @type {Socket|null} */
    this.line = null;
    /** @type {Buffer[]} received, not parsed yet */
    this.pieces = [];
    this.held = 0; // bytes in pieces
    /** @type {Buffer[]} */
    this.parts = []; // of an unfinished message
    this.kind = 0;
    this.code = 1006;
    this.reason = "";
    this.shake(new URL(url), protocol).catch((error) => this.end(String(error.message ?? error)));
  }

  /** @param {URL} url @param {string} protocol */
  async shake(url, protocol) {
    const { createHash, randomBytes } = await import("node:crypto");
    const secure = url.protocol === "wss:";
    const { request } = secure ? await import("node:https") : await import("node:http");
    if (this.readyState !== 0) return; // closed meanwhile
    const key = randomBytes(16).toString("base64");
    const target = new URL(url);
    target.protocol = secure ? "https:" : "http:";
    const headers = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Key": key,
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Protocol": protocol,
    };
    const asked = request(target, { headers, agent: false, timeout: OPEN_MS });
    this.asked = asked;
    asked.on("error", (error) => this.end(error.message));
    asked.on("timeout", () => asked.destroy(new Error("no answer")));
    asked.on("response", (answer) => {
      answer.resume();
      this.end(`status ${answer.statusCode}`);
      asked.destroy();
    });
    asked.on("upgrade", (answer, line, head) => {
      const expected = createHash("sha1").update(key + GUID).digest("base64");
      if (this.readyState !== 0 || answer.headers["sec-websocket-accept"] !== expected) {
        line.destroy();
        return this.end("this is no WebSocket");
      }
      this.open(/** @type {Socket} */ (line), String(answer.headers["sec-websocket-protocol"] ?? ""), head);
    });
    asked.end();
  }

  /** @param {Socket} line @param {string} protocol @param {Buffer} head */
  open(line, protocol, head) {
    this.line = line;
    this.protocol = protocol;
    this.readyState = 1;
    line.setTimeout(0);
    line.setNoDelay(true);
    line.on("data", (data) => this.take(data));
    line.on("error", () => {}); // close follows
    line.on("close", () => this.end(this.reason));
    this.onopen?.({});
    if (head.length) this.take(head);
  }

  /** @param {Buffer} data */
  take(data) {
    this.pieces.push(data);
    this.held += data.length;
    if (this.held < 2) return;
    let all = this.pieces.length === 1 ? data : Buffer.concat(this.pieces);
    for (;;) {
      const size = frameBytes(all);
      if (size > LARGEST) return this.fail(1009, "the message is too large");
      if (!size || all.length < size) break;
      this.frame(all.subarray(0, size));
      if (this.readyState === 3) return;
      all = all.subarray(size);
    }
    this.pieces = all.length ? [all] : [];
    this.held = all.length;
  }

  /** One whole frame. @param {Buffer} data */
  frame(data) {
    const kind = data[0] & 15;
    const length = data[1] & 127;
    const payload = data.subarray(length < 126 ? 2 : length === 126 ? 4 : 10);
    if (data[1] & 128 || data[0] & 112) return this.fail(1002, "a frame that no server sends");
    if (kind === PING) this.write(PONG, payload);
    else if (kind === CLOSE) {
      if (payload.length >= 2) [this.code, this.reason] = [payload.readUInt16BE(0), payload.toString("utf8", 2)];
      else this.code = 1005;
      this.write(CLOSE, payload.subarray(0, 2));
      this.readyState = 2;
      this.line?.end();
    } else if (kind <= BINARY) {
      if (kind) this.kind = kind;
      this.parts.push(payload);
      if (!(data[0] & 128)) return;
      const whole = this.parts.length === 1 ? payload : Buffer.concat(this.parts);
      this.parts = [];
      // A copy: the frame's memory is part of a larger block.
      this.onmessage?.({ data: this.kind === TEXT ? whole.toString("utf8") : new Uint8Array(whole).buffer });
    }
  }

  /** @param {string} text */
  send(text) {
    if (this.readyState === 1) this.write(TEXT, Buffer.from(text));
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code = 1000, reason = "") {
    if (this.readyState >= 2) return;
    const opened = this.readyState === 1;
    this.readyState = 2;
    if (!opened) {
      this.asked?.destroy();
      return this.end(reason);
    }
    const body = Buffer.alloc(2 + Buffer.byteLength(reason));
    body.writeUInt16BE(code, 0);
    body.write(reason, 2);
    this.write(CLOSE, body);
    setTimeout(() => this.line?.destroy(), CLOSE_MS).unref();
  }

  /** @param {number} code @param {string} reason */
  fail(code, reason) {
    [this.code, this.reason] = [code, reason];
    this.close(code, reason);
    this.line?.destroy();
  }

  /** A client's frames are masked. @param {number} kind @param {Buffer} payload */
  write(kind, payload) {
    const size = payload.length;
    const wide = size < 126 ? 0 : size < 65536 ? 2 : 8;
    const frame = Buffer.alloc(6 + wide + size);
    frame[0] = 128 | kind;
    frame[1] = 128 | (wide === 0 ? size : wide === 2 ? 126 : 127);
    if (wide === 2) frame.writeUInt16BE(size, 2);
    else if (wide) frame.writeBigUInt64BE(BigInt(size), 2);
    const mask = crypto.getRandomValues(frame.subarray(2 + wide, 6 + wide));
    for (let i = 0; i < size; i++) frame[6 + wide + i] = payload[i] ^ mask[i & 3];
    this.line?.write(frame);
  }

  /** @param {string} reason */
  end(reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.line = null;
    this.pieces = [];
    queueMicrotask(() => this.onclose?.({ code: this.code, reason }));
  }
}

/** Size of the frame at the start of the data in bytes; 0 if its header is not complete. @param {Buffer} data */
function frameBytes(data) {
  if (data.length < 2) return 0;
  const length = data[1] & 127;
  if (length < 126) return 2 + length;
  if (length === 126) return data.length < 4 ? 0 : 4 + data.readUInt16BE(2);
  return data.length < 10 ? 0 : 10 + Number(data.readBigUInt64BE(2));
}
