// The page: the microphone or a file in, captions out, and both recognisers side by side.

import { Connection } from "./connection.js";
import { compare, toSrt } from "./words.js";
import { drawWeights } from "./weights.js";

const $ = (id) => document.getElementById(id);
const state = {
  segments: [],      // {number, start, device: words, server: words or null, nodes}
  connection: null,
  base: 0,           // number of the first segment of this connection
  next: 0,           // number of the next segment
  stopAudio: null,   // ends the microphone or the file
  key: sessionStorage.getItem("key"),
  wordDelays: [],
  sentenceDelays: [],
  startedAt: 0,      // time of the first sample; 0 for files
};

// ---- status ----

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").dataset.kind = kind;
}

function setTalking(on, label) {
  $("talk").setAttribute("aria-pressed", String(on));
  $("talk-label").textContent = label ?? (on ? "Stop" : "Start");
}

// ---- captions ----

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function keepAtEnd(change) {
  const stage = document.querySelector(".stage");
  const atEnd = stage.scrollHeight - stage.scrollTop - stage.clientHeight < 80;
  change();
  if (atEnd) stage.scrollTop = stage.scrollHeight;
}

function row(list, start, text, cost) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock(start);
  const words = document.createElement("span");
  words.textContent = text || "(nothing)";
  const note = document.createElement("span");
  note.className = "cost";
  note.textContent = cost;
  item.append(time, words, note);
  list.append(item);
  list.scrollTop = list.scrollHeight;
}

function onPartial(event, offset) {
  keepAtEnd(() => {
    $("empty").hidden = true;
    const words = event.words.map((word) => word.text);
    const settled = document.createElement("span");
    settled.textContent = words.slice(0, event.stable).join(" ");
    const open = document.createElement("span");
    open.className = "unsettled";
    open.textContent = words.slice(event.stable).join(" ");
    $("live").replaceChildren(settled, " ", open);
  });
  noteWordDelay(event, offset);
}

function noteWordDelay(event, offset) {
  const last = event.words.at(-1);
  if (!state.startedAt || !last) return;
  // From the frame that emitted the word to its appearance here.
  const delay = (performance.now() - state.startedAt) / 1000 - (last.end + offset);
  if (delay > 0 && delay < 30) {
    state.wordDelays.push(delay);
    $("device-delay").textContent = spoken(median(state.wordDelays));
  }
}

function onSegment(event, offset) {
  const segment = {
    number: state.base + event.segment,
    at: performance.now(),
    device: moved(event.words, offset),
    server: null,
    node: document.createElement("p"),
  };
  segment.node.textContent = event.text;
  state.segments.push(segment);
  state.next = segment.number + 1;
  keepAtEnd(() => {
    $("empty").hidden = true;
    $("log").append(segment.node);
    $("live").replaceChildren();
  });
  row($("device-text"), event.start + offset, event.text, "");
  for (const id of ["copy", "srt", "clear"]) $(id).disabled = false;
}

function onRevised(event, offset) {
  const segment = state.segments.find((one) => one.number === state.base + event.segment);
  if (!segment) return;
  segment.server = moved(event.words, offset);
  const delay = (performance.now() - segment.at) / 1000;
  state.sentenceDelays.push(delay);
  $("server-delay").textContent = spoken(median(state.sentenceDelays));
  row($("server-text"), event.start + offset, event.text, `+${spoken(delay)}`);
  keepAtEnd(() => correct(segment));
}

// Shows what server changes, then only its text.
function correct(segment) {
  const before = segment.device.map((word) => word.text);
  const after = segment.server.map((word) => word.text);
  const pieces = [];
  for (const [kind, word] of compare(before, after)) {
    const node = kind === "same" ? document.createTextNode(word)
      : document.createElement(kind === "new" ? "ins" : "del");
    if (kind !== "same") node.textContent = word;
    pieces.push(node, " ");
  }
  segment.node.classList.add("revised");
  segment.node.replaceChildren(...pieces);
  setTimeout(() => {
    for (const gone of segment.node.querySelectorAll("del")) {
      gone.nextSibling?.remove();
      gone.remove();
    }
  }, 1600);
}

function moved(words, offset) {
  return words.map((word) => ({ ...word, start: word.start + offset, end: word.end + offset }));
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

function spoken(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

// ---- the service ----

function onReady(event) {
  state.base = state.next;
  const share = Math.round((1 - event.sparsity) * 100);
  $("device-weights").textContent = event.sparsity ? `${share} %` : "all";
  $("device-context").textContent = `${event.chunk_ms} ms chunks`;
  for (const name of ["device", "server"]) drawWeights($(`weights-${name}`), event.sparsity, name);
}

function connect(sampleRate, ended) {
  const listening = state.startedAt ? "Listening" : "Recognising";
  const connection = new Connection(sampleRate, {
    ready: (event, again) => {
      onReady(event);
      say(again ? "Connected again" : listening, "live");
      if (again) setTimeout(() => state.stopAudio && say(listening, "live"), 2000);
    },
    partial: onPartial,
    segment: onSegment,
    revised: onRevised,
    done: () => { state.connection = null; $("live").replaceChildren(); setTalking(false); say("Ready"); },
    lost: () => say("Connection lost. Trying again …", "alarm"),
    refused: (code, message) => {
      state.connection = null;
      ended();
      setTalking(false);
      say(message, "alarm");
      if (code === 4401) askForKey();
    },
  }, state.key);
  state.connection = connection;
  return connection;
}

function askForKey() {
  $("key-dialog").showModal();
  $("key-dialog").onclose = () => {
    state.key = $("key").value;
    sessionStorage.setItem("key", state.key);
  };
}

// ---- sound ----

async function startMicrophone() {
  setTalking(true, "Opening …");
  let media;
  const context = new AudioContext();
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    await context.audioWorklet.addModule("/page/recorder.js");
  } catch (error) {
    context.close();
    setTalking(false);
    say(error.name === "NotAllowedError" ? "The browser does not allow the microphone."
      : "No microphone can be opened.", "alarm");
    return;
  }
  const source = context.createMediaStreamSource(media);
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1,
    channelCountMode: "explicit" });
  state.startedAt = performance.now();
  const release = () => {
    recorder.port.onmessage = null;
    media.getTracks().forEach((track) => track.stop());
    context.close();
    $("level").value = 0;
    state.stopAudio = null;
  };
  const connection = connect(context.sampleRate, release);
  let first = true;
  recorder.port.onmessage = ({ data }) => {
    if (first) {
      first = false;
      state.startedAt = performance.now() - 40;
    }
    $("level").value = Math.sqrt(data.peak);
    connection.send(new Int16Array(data.samples));
  };
  source.connect(recorder);
  setTalking(true);
  state.stopAudio = () => {
    release();
    connection.finish();
    say("Finishing …");
    setTalking(false, "Finishing …");
  };
}

async function openFile(file) {
  if (state.connection) stop();
  say(`Reading ${file.name} …`);
  let audio;
  try {
    const context = new OfflineAudioContext(1, 1, 16000);
    audio = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    say(`${file.name} is not audio that this browser can read.`, "alarm");
    return;
  }
  const samples = mono16(audio);
  state.startedAt = 0;
  let stopped = false;
  const connection = connect(audio.sampleRate, () => { stopped = true; });
  state.stopAudio = () => { stopped = true; state.stopAudio = null; connection.finish(); };
  setTalking(true);
  const block = audio.sampleRate / 2;
  for (let at = 0; at < samples.length && !stopped; at += block) {
    // The service slows a fast sender down; this loop must not fill the browser's memory instead.
    while (!stopped && connection.backlog > 1 << 18) await new Promise((go) => setTimeout(go, 20));
    if (!stopped) connection.send(samples.subarray(at, at + block));
  }
  if (!stopped) state.stopAudio();
}

function mono16(audio) {
  const channels = Array.from({ length: audio.numberOfChannels }, (_, n) => audio.getChannelData(n));
  return Int16Array.from({ length: audio.length }, (_, at) => {
    let sum = 0;
    for (const channel of channels) sum += channel[at];
    return Math.max(-32768, Math.min(32767, Math.round(sum / channels.length * 32767)));
  });
}

function stop() {
  if (state.stopAudio) state.stopAudio();
  else state.connection?.abandon();
}

function toggle() {
  if (state.connection || state.stopAudio) stop();
  else startMicrophone();
}

// ---- tools ----

const finalWords = () => state.segments.flatMap((one) => one.server ?? one.device);

async function copy() {
  const text = state.segments.map((one) => (one.server ?? one.device).map((w) => w.text).join(" "));
  await navigator.clipboard.writeText(`${text.join("\n")}\n`);
  say("Copied");
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toSrt(finalWords())], { type: "application/x-subrip" }));
  link.download = "captions.srt";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clear() {
  state.segments = [];
  state.wordDelays = [];
  state.sentenceDelays = [];
  for (const id of ["log", "live", "device-text", "server-text"]) $(id).replaceChildren();
  for (const id of ["device-delay", "server-delay"]) $(id).textContent = "–";
  for (const id of ["copy", "srt", "clear"]) $(id).disabled = true;
  $("empty").hidden = false;
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

$("talk").onclick = toggle;
$("copy").onclick = copy;
$("srt").onclick = save;
$("clear").onclick = clear;
$("theme").onclick = switchTheme;
$("file").onchange = () => { if ($("file").files[0]) openFile($("file").files[0]); $("file").value = ""; };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, input, dialog")) return;
  const action = { " ": toggle, c: copy, s: save, Escape: () => state.connection && stop() }[event.key];
  if (!action || ((action === copy || action === save) && !state.segments.length)) return;
  event.preventDefault();
  action();
});
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
});
if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
for (const name of ["device", "server"]) drawWeights($(`weights-${name}`), 0.7, name);
