// @ts-check
/** One player at a time: who starts to sound says so to the other tabs and elements of this origin, and they fall silent. */
import { openChannel } from "./channel.js";

const CHANNEL = "riffstream";

export class Alone {
  /**
   * @param {() => void} onOther another player has started to sound
   * @param {boolean} several    others may sound as well: say and hear nothing
   */
  constructor(onOther, several = false) {
    /** @type {BroadcastChannel|null} */
    this.channel = null;
    // Outside a page (Node) there is no loudspeaker to share, and an open channel would keep the process.
    if (several || typeof document === "undefined") return;
    this.channel = openChannel(CHANNEL); // without one it plays beside others
    if (this.channel) this.channel.onmessage = ({ data }) => data?.type === "sounding" && onOther();
  }

  /** This player sounds. */
  say() {
    this.channel?.postMessage({ type: "sounding" });
  }

  close() {
    this.channel?.close();
    this.channel = null;
  }
}
