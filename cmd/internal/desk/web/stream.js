// One stream of server-sent events, read with fetch: unlike EventSource it
// tells why it was refused, and notices a connection that is silently dead.
//
// Browsers have six connections to a desk without TLS, for all tabs together.
// A page that nobody sees gives its own up, and goes on where it was when it is
// seen again.

const unseen = 15000; // ms that a page is hidden before it gives its streams up
const silence = 25000; // ms without a byte: the server beats every 10 s
const patience = [300, 1000, 2000, 4000, 8000]; // ms before each further try

/**
 * Follows url until close is called. on has a function per event name, and:
 * up(), whenever it is (again) connected; down(why), whenever it is cut;
 * refused(status, body), where trying again is of no use: it has ended then.
 */
export class Stream {
  /** hidden names what one of all hidden tabs may go on with, such as counting alerts in its title. */
  constructor(url, on, { hidden = "" } = {}) {
    this.url = url;
    this.on = on;
    this.hidden = hidden;
    this.tries = 0;
    this.last = "";
    this.closed = false;
    this.now = () => this.again?.();
    addEventListener("online", this.now);
    this.turn = e => this.look(e.type === "pagehide");
    document.addEventListener("visibilitychange", this.turn);
    addEventListener("pagehide", this.turn);
    addEventListener("pageshow", this.turn);
    this.look(false);
    this.run();
  }

  /** Sleeps where nobody looks, wakes where somebody does. */
  look(left) {
    clearTimeout(this.timer);
    if (left) {
      this.sleep(); // the browser may keep the page for Back, with its connection
    } else if (document.visibilityState === "visible") {
      this.give?.();
      this.wake?.();
    } else if (!this.give) {
      this.timer = setTimeout(() => this.doze(), unseen);
    }
  }

  /** Sleeps, but for the one of all hidden tabs that may go on. */
  doze() {
    if (!this.hidden || !navigator.locks) {
      this.sleep();
      return;
    }
    navigator.locks.request(`callwarden-${this.hidden}`, { ifAvailable: true }, lock => {
      if (!lock) {
        if (document.visibilityState !== "visible") this.sleep();
        return undefined;
      }
      return new Promise(resolve => {
        this.give = () => {
          this.give = null;
          resolve();
        };
        if (this.closed || document.visibilityState === "visible") this.give();
      });
    });
  }

  sleep() {
    if (this.asleep || this.closed) return;
    this.asleep = new Promise(resolve => {
      this.wake = () => {
        this.asleep = this.wake = null;
        resolve();
      };
    });
    this.abort?.abort();
    this.again?.();
  }

  close() {
    this.closed = true;
    removeEventListener("online", this.now);
    document.removeEventListener("visibilitychange", this.turn);
    removeEventListener("pagehide", this.turn);
    removeEventListener("pageshow", this.turn);
    clearTimeout(this.timer);
    this.give?.();
    this.wake?.();
    this.abort?.abort();
    this.again?.();
  }

  async run() {
    while (!this.closed) {
      if (this.asleep) {
        await this.asleep;
        continue;
      }
      const why = await this.once();
      if (this.closed) return;
      if (this.asleep) continue;
      this.on.down?.(why);
      const wait = patience[Math.min(this.tries++, patience.length - 1)] * (0.8 + 0.4 * Math.random());
      await new Promise(resolve => {
        this.again = resolve;
        setTimeout(resolve, wait);
      });
      this.again = null;
    }
  }

  /** One connection, until it is cut; returns why. */
  async once() {
    const abort = (this.abort = new AbortController());
    let timer = 0;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), silence);
    };
    alive();
    try {
      const headers = { Accept: "text/event-stream" };
      if (this.last) headers["Last-Event-ID"] = this.last;
      const reply = await fetch(this.url, { headers, signal: abort.signal, cache: "no-store" });
      if (!reply.ok) {
        if (reply.status === 401 || reply.status === 403 || reply.status === 404) {
          this.close();
          this.on.refused?.(reply.status, await reply.json().catch(() => ({})));
        }
        return `the desk answers ${reply.status}`;
      }
      this.on.up?.();
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return "the desk has closed the connection";
        alive();
        rest = this.parse(rest + value);
      }
    } catch {
      return abort.signal.aborted ? "nothing was heard from the desk" : "the desk cannot be reached";
    } finally {
      clearTimeout(timer);
    }
  }

  /** Hands out the whole events of text and returns what is left. */
  parse(text) {
    let from = 0;
    for (let end; (end = text.indexOf("\n\n", from)) >= 0; from = end + 2) {
      let name = "message", data = "", id;
      for (const line of text.slice(from, end).split("\n")) {
        const colon = line.indexOf(":");
        if (colon <= 0) continue; // a comment
        const value = line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
        switch (line.slice(0, colon)) {
          case "event": name = value; break;
          case "data": data += data ? "\n" + value : value; break;
          case "id": id = value; break;
        }
      }
      if (data && !this.closed) {
        this.tries = 0;
        try {
          this.on[name]?.(JSON.parse(data));
        } catch (err) {
          reportError(err); // ours, and no reason to cut the stream
        }
      }
      if (id !== undefined) this.last = id; // only what was taken in is not sent again
    }
    return text.slice(from);
  }
}
