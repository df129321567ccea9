// A WHIP client (RFC 9725) of one RTCPeerConnection whose data channel
// "callwarden" brings the call's events.

// Problem is an error that is told to a person: kind says what can be done.
export class Problem extends Error {
  constructor(kind, message, details = {}) {
    super(message);
    this.name = "Problem";
    this.kind = kind; // token, busy, unavailable, refused, unreachable, path, lost
    Object.assign(this, details); // retryAfter in seconds, detail as the server said it
  }
}

const gatherMost = 400; // ms that are waited for candidates before the offer goes out; later ones trickle
const connectMost = 15000; // ms; the server gives up then too
const farewellMost = 6000; // ms that the events of the last words are waited for
const restartAfter = 2000; // ms that a connection may be interrupted before it is made anew

// publish sends tracks, an audio section each and in this order, and resolves
// once audio flows. onEvent gets each CloudEvent; onEnd is called once, with a
// Problem where the connection was lost and with nothing where it has ended.
export async function publish({ url, token, tracks, onEvent, onEnd, onRemote }) {
  const p = new Publication(url, token, onEvent, onEnd);
  try {
    await p.start(tracks, onRemote);
  } catch (e) {
    p.close();
    throw e;
  }
  return p;
}

class Publication {
  #url; #token; #onEvent; #onEnd;
  #pc; #channel; #session; #etag; #ended = false; #connected = false;
  #late = []; #offered = ""; #trickles = false; #restart; #restarting = false; #finished = false; #leaving;

  constructor(url, token, onEvent, onEnd) {
    this.#url = new URL(url, document.baseURI);
    this.#token = token;
    this.#onEvent = onEvent;
    this.#onEnd = onEnd;
  }

  get connection() { return this.#pc; }

  async start(tracks, onRemote) {
    const pc = this.#pc = new RTCPeerConnection({ iceServers: await this.#iceServers(), bundlePolicy: "max-bundle" });
    for (const track of tracks) pc.addTransceiver(track, { direction: "sendrecv", streams: [new MediaStream([track])] });
    pc.ontrack = (e) => onRemote?.(e.track);
    this.#channel = pc.createDataChannel("callwarden");
    this.#channel.onmessage = (m) => this.#message(m.data);
    this.#channel.onclose = () => this.#over();
    pc.onicecandidate = ({ candidate }) => { if (candidate?.candidate) this.#trickle(candidate); };

    await pc.setLocalDescription();
    await gathered(pc);
    this.#offered = pc.localDescription.sdp;
    const response = await this.#request(this.#url, "POST", { "Content-Type": "application/sdp" }, this.#offered);
    if (response.status !== 201) throw await problemOf(response);
    const location = response.headers.get("Location");
    if (!location) throw new Problem("refused", "The server took the call but did not say where it is.");
    this.#session = new URL(location, response.url);
    this.#etag = response.headers.get("ETag");
    const sdp = await response.text();
    if (this.#ended) { this.#delete(); return; }
    try {
      await pc.setRemoteDescription({ type: "answer", sdp });
    } catch (e) {
      throw new Problem("refused", "The server's answer is not understood by this browser.", { detail: e.message });
    }
    this.#trickles = true;
    this.#flush();
    await this.#established();
  }

  // end hangs up and waits for what is found in the last words.
  end() {
    if (this.#ended || this.#leaving) return;
    this.#leaving = setTimeout(() => { this.#finished = true; this.#over(); }, farewellMost);
    this.#delete();
  }

  // close ends the call at once: the server is told, also when the page is
  // being left.
  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#delete();
    this.#shut();
  }

  // ICE servers that the operator has configured, if any (RFC 9725 section 4.6).
  async #iceServers() {
    const response = await this.#request(this.#url, "OPTIONS", {});
    if (response.status === 401 || response.status === 403) throw await problemOf(response);
    return iceServersOf(response.headers.get("Link"));
  }

  async #request(url, method, headers, body) {
    if (this.#token) headers.Authorization = "Bearer " + this.#token;
    try {
      return await fetch(url, { method, headers, body, cache: "no-store", credentials: "omit", redirect: "follow" });
    } catch {
      throw new Problem("unreachable", "The server does not answer.");
    }
  }

  #delete() {
    if (!this.#session) return;
    const headers = this.#token ? { Authorization: "Bearer " + this.#token } : {};
    fetch(this.#session, { method: "DELETE", headers, keepalive: true, credentials: "omit" }).catch(() => {});
    this.#session = null;
  }

  #message(data) {
    let event;
    try { event = JSON.parse(data); } catch { return; } // not ours to understand
    if (!event?.specversion) return;
    this.#onEvent(event);
    if (event.type === "callwarden.call.ended.v1") {
      this.#finished = true;
      this.#session = null; // there is nothing left to delete
      this.#over();
    }
  }

  // #established resolves when audio flows.
  #established() {
    const pc = this.#pc;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(pathProblem()), connectMost);
      const look = () => {
        switch (pc.connectionState) {
          case "connected":
            clearTimeout(timer);
            this.#connected = true;
            clearTimeout(this.#restart);
            this.#restart = null;
            resolve();
            break;
          case "disconnected":
            if (this.#connected) this.#restart ??= setTimeout(() => this.restart(), restartAfter);
            break;
          case "failed":
            clearTimeout(timer);
            if (this.#connected && !this.#restarting) this.restart();
            else if (this.#connected) this.#over();
            else reject(pathProblem());
            break;
          case "closed":
            clearTimeout(timer);
            reject(new Problem("lost", "The connection was closed."));
        }
      };
      pc.onconnectionstatechange = look;
      look();
    });
  }

  // #over is for an end that was not ours: the server has closed the call, or
  // the connection is lost.
  #over() {
    if (this.#ended) return;
    this.#ended = true;
    this.#delete();
    this.#shut();
    this.#onEnd(this.#finished || !this.#connected ? undefined : new Problem("lost", "The connection to the server was lost."));
  }

  #shut() {
    clearTimeout(this.#restart);
    clearTimeout(this.#leaving);
    if (!this.#pc) return;
    this.#channel.onclose = this.#pc.onconnectionstatechange = this.#pc.onicecandidate = null;
    this.#pc.close();
  }

  // Candidates that come after the offer went out are told by PATCH (RFC 9725
  // section 4.3.1); a server that does not take them finds them by itself.
  #trickle(candidate) {
    this.#late.push(candidate);
    if (this.#trickles) this.#flush();
  }

  async #flush() {
    const late = this.#late.splice(0).filter((c) => !this.#offered.includes(c.candidate));
    if (!late.length || !this.#session || !this.#etag) return;
    const headers = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": this.#etag };
    try {
      const response = await this.#request(this.#session, "PATCH", headers, fragment(this.#offered, late));
      if (!response.ok) this.#etag = null;
    } catch { /* the connection may come about without them */ }
  }

  // restart makes the connection anew over another path, as when somebody leaves
  // the Wi-Fi (RFC 9725 section 4.3.2). The call goes on; where that is not
  // possible it has ended.
  async restart() {
    this.#restart = null;
    if (this.#ended || this.#restarting) return;
    if (!this.#session || !this.#etag) { this.#over(); return; }
    this.#restarting = true;
    const pc = this.#pc;
    const timer = setTimeout(() => this.#over(), connectMost);
    try {
      this.#trickles = false;
      pc.restartIce();
      await pc.setLocalDescription();
      await gathered(pc);
      this.#offered = pc.localDescription.sdp;
      const response = await this.#request(this.#session, "PATCH",
        { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" },
        fragment(this.#offered, candidatesOf(this.#offered)));
      if (response.status !== 200) throw await problemOf(response);
      this.#etag = response.headers.get("ETag");
      await pc.setRemoteDescription({ type: "answer", sdp: restarted(pc.remoteDescription.sdp, await response.text()) });
      this.#trickles = true;
      this.#flush();
      await new Promise((resolve, reject) => {
        const look = () => pc.iceConnectionState === "connected" || pc.iceConnectionState === "completed" ? resolve() :
          pc.iceConnectionState === "failed" ? reject() : 0;
        pc.addEventListener("iceconnectionstatechange", look);
        look();
      });
    } catch {
      this.#over();
    } finally {
      clearTimeout(timer);
      this.#restarting = false;
    }
  }
}

const pathProblem = () => new Problem("path",
  "Audio does not get through to the server. Often a firewall blocks UDP between the two; a TURN server can help.");

function gathered(pc) {
  if (pc.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => { clearTimeout(timer); pc.removeEventListener("icegatheringstatechange", look); resolve(); };
    const look = () => { if (pc.iceGatheringState === "complete") done(); };
    const timer = setTimeout(done, gatherMost);
    pc.addEventListener("icegatheringstatechange", look);
  });
}

// fragment is the SDP fragment (RFC 8840 section 9) of candidates, for the
// first section that the others are bundled with.
export function fragment(sdp, candidates) {
  const one = (name) => sdp.match(new RegExp(`^a=${name}:(.*)$`, "m"))?.[1].trim();
  const media = sdp.match(/^m=.*$/m)?.[0].trim() ?? "m=audio 9 RTP/AVP 0";
  const lines = [`a=ice-ufrag:${one("ice-ufrag")}`, `a=ice-pwd:${one("ice-pwd")}`, media, `a=mid:${one("mid")}`];
  for (const c of candidates) lines.push("a=" + c.candidate);
  lines.push("a=end-of-candidates");
  return lines.join("\r\n") + "\r\n";
}

// candidatesOf has the candidates in an SDP, as events have them.
const candidatesOf = (sdp) => [...new Set([...sdp.matchAll(/^a=(candidate:.*)$/gm)].map((m) => m[1].trim()))].map((candidate) => ({ candidate }));

// restarted is the answer with the ICE credentials and candidates of a fragment
// in the place of its own.
export function restarted(answer, frag) {
  const value = (name) => frag.match(new RegExp(`^a=${name}:(.*)$`, "m"))?.[1].trim();
  const candidates = [...frag.matchAll(/^a=(?:candidate:.*|end-of-candidates)$/gm)].map((m) => m[0].trim());
  const lines = [];
  let section = 0;
  for (const line of answer.split(/\r?\n/)) {
    if (line.startsWith("a=candidate:") || line.startsWith("a=end-of-candidates")) continue;
    if (line.startsWith("m=") && ++section === 2) lines.push(...candidates);
    if (line.startsWith("a=ice-ufrag:")) lines.push("a=ice-ufrag:" + value("ice-ufrag"));
    else if (line.startsWith("a=ice-pwd:")) lines.push("a=ice-pwd:" + value("ice-pwd"));
    else if (line) lines.push(line);
  }
  if (section < 2) lines.push(...candidates);
  return lines.join("\r\n") + "\r\n";
}

// iceServersOf reads Link headers such as
// <turn:turn.example.net?transport=udp>; rel="ice-server"; username="u"; credential="c"; credential-type="password"
export function iceServersOf(link) {
  const servers = [];
  for (const [, url, rest] of (link ?? "").matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)/g)) {
    const params = {};
    for (const [, name, quoted, bare] of rest.matchAll(/;\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))/g)) {
      params[name.toLowerCase()] = quoted === undefined ? bare : quoted.replace(/\\(.)/g, "$1");
    }
    if (params.rel !== "ice-server" || !/^(stun|turn)s?:/.test(url)) continue;
    const server = { urls: url };
    if (params.username !== undefined) { server.username = params.username; server.credential = params.credential; }
    servers.push(server);
  }
  return servers;
}

// problemOf says what a response that is none means to a person.
async function problemOf(response) {
  const detail = await detailOf(response);
  switch (response.status) {
    case 401:
      return new Problem("token", "This server wants an access token.", { detail });
    case 403:
      return new Problem("token", "This access token is not allowed to do that.", { detail });
    case 404:
      return new Problem("unavailable", "This server takes no calls from browsers.", { detail });
    case 429:
    case 503: {
      const retryAfter = Math.min(600, Number.parseInt(response.headers.get("Retry-After"), 10) || 0);
      return new Problem("busy", "The server has no room for another call at the moment.", { detail, retryAfter });
    }
  }
  return new Problem("refused", `The server did not take the call (${response.status}).`, { detail });
}

async function detailOf(response) {
  const text = (await response.text().catch(() => "")).trim();
  if (/json/.test(response.headers.get("Content-Type") ?? "")) {
    try { const problem = JSON.parse(text); return problem.detail ?? problem.error ?? problem.title ?? ""; } catch { return ""; }
  }
  return text.length > 300 || text.startsWith("<") ? "" : text;
}
