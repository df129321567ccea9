// Where the tracks of a call come from: microphones, or a recording.
import { Problem } from "./whip.js";

// As it is: what a browser does for people's ears (noise suppression, levelling)
// takes words away from a recogniser. Echo is cancelled where somebody sits in
// front of loudspeakers, alone.
const constraints = (deviceId, alone) => ({
  audio: {
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
    channelCount: 1, echoCancellation: alone, noiseSuppression: false, autoGainControl: false,
  },
});

// canListen says whether this page may ask for a microphone at all.
export const canListen = () => Boolean(globalThis.isSecureContext && navigator.mediaDevices?.getUserMedia);

// microphones are those that the browser tells of. Before somebody has allowed
// one, they have no names.
export async function microphones() {
  if (!navigator.mediaDevices?.enumerateDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  return devices.filter((d) => d.kind === "audioinput" && d.deviceId !== "communications")
    .map((d, i) => ({ id: d.deviceId, name: d.label || (i ? `Microphone ${i + 1}` : "Microphone") }));
}

// fromMicrophones has a track for each device; stop gives them back.
export async function fromMicrophones(ids) {
  if (!canListen()) {
    throw new Problem("insecure", `Browsers give a microphone only to pages that come over https, or from this machine itself. Open https://${location.host}${location.pathname}, or http://localhost on the server.`);
  }
  const streams = [];
  const stop = () => { for (const s of streams) for (const t of s.getTracks()) t.stop(); };
  try {
    for (const id of ids) streams.push(await navigator.mediaDevices.getUserMedia(constraints(id, ids.length === 1)));
  } catch (e) {
    stop();
    throw microphoneProblem(e);
  }
  const tracks = streams.map((s) => s.getAudioTracks()[0]);
  return { tracks, stop, play() {}, ended: new Promise((_, lost) => {
    for (const t of tracks) t.addEventListener("ended", () => lost(new Problem("microphone", "The microphone was unplugged, or the browser took it back.")));
  }) };
}

function microphoneProblem(e) {
  switch (e.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Problem("microphone", "The browser did not get leave to use the microphone. Allow it beside the address of this page and start again.");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Problem("microphone", "There is no such microphone. Plug one in, or play a recording.");
    case "NotReadableError":
    case "AbortError":
      return new Problem("microphone", "The microphone does not work at the moment; perhaps another program has it.");
  }
  return new Problem("microphone", `The microphone cannot be used: ${e.message}`);
}

const trail = 1.5; // seconds of silence after a recording, so that its last words end

// fromRecording has a track for each channel of a recording that the browser
// can read; play begins it, and ended resolves when it is over.
export async function fromRecording(bytes, aloud) {
  const context = new AudioContext();
  // Some browsers play nothing at all where there is no loudspeaker.
  await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, 3000))]);
  if (context.state !== "running") {
    context.close().catch(() => {});
    throw new Problem("recording", "This browser plays nothing at the moment. Connect a loudspeaker or headphones, or use another browser.");
  }
  let sound;
  try {
    sound = await context.decodeAudioData(bytes);
  } catch {
    await context.close();
    throw new Problem("recording", "This browser cannot read that file as a recording. WAV, MP3, Ogg and FLAC are safe.");
  }
  const channels = Math.min(sound.numberOfChannels, 2);
  const node = new AudioBufferSourceNode(context, { buffer: sound });
  const split = new ChannelSplitterNode(context, { numberOfOutputs: Math.max(channels, 2) });
  node.connect(split);
  const outs = [];
  for (let i = 0; i < channels; i++) {
    const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    split.connect(out, i);
    outs.push(out);
  }
  if (aloud) node.connect(context.destination);
  let over;
  const ended = new Promise((resolve) => { over = resolve; });
  node.onended = () => setTimeout(over, trail * 1000);
  return {
    tracks: outs.map((o) => o.stream.getAudioTracks()[0]),
    play() { node.start(); },
    stop() { node.onended = null; context.close().catch(() => {}); },
    ended,
  };
}

// meter calls show with how loud a track is, 0 to 1, until stop is called.
export function meter(track, show) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  new MediaStreamAudioSourceNode(context, { mediaStream: new MediaStream([track]) }).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const s of samples) sum += s * s;
    const db = 10 * Math.log10(sum / samples.length + 1e-9);
    show(Math.min(1, Math.max(0, (db + 60) / 50)));
  }, 66);
  return () => { clearInterval(timer); context.close().catch(() => {}); };
}
