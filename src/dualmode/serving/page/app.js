// The page: the microphone or a file in, captions out, and both recognisers side by side.

import { Connection } from "./connection.js";
import { correct } from "./correction.js";
import { Engine, LocalStream } from "./local.js";
import { RATE_HZ, openMicrophone, readSamples } from "./sound.js";
import { clock, median, spoken, toSrt } from "./words.js";
import { drawWeights } from "./weights.js";
import "./theme.js";

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
  offer: null,       // what this browser could run
  engine: null,      // what it runs, once it is loaded
};

// ---- status ----

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").dataset.kind = kind;
}

function setTalking(on, label) {
  $("talk").setAttribute("aria-pressed", String(on));
  $("talk-label").textContent = label ?? (on ? "Stop" : "Start");
  // A stream stays where it has begun.
  $("local").disabled = on || Boolean(state.connection);
}

// ---- captions ----

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
  keepAtEnd(() => correct(segment.node, texts(segment.device), texts(segment.server)));
}

const texts = (words) => words.map((word) => word.text);

function moved(words, offset) {
  return words.map((word) => ({ ...word, start: word.start + offset, end: word.end + offset }));
}

// ---- the service, or the engine in this browser ----

function onReady(event) {
  state.base = state.next;
  const share = Math.round((1 - event.sparsity) * 100);
  $("device-weights").textContent = event.sparsity ? `${share} %` : "all";
  $("device-context").textContent = `${event.chunk_ms} ms chunks`;
  for (const name of ["device", "server"]) drawWeights($(`weights-${name}`), event.sparsity, name);
}

// local: where the switch stood when the audio began.
function connect(local, sampleRate, ended) {
  const listening = state.startedAt ? "Listening" : "Recognising";
  const on = {
    ready: (event, again) => {
      onReady(event);
      say(again ? "Connected again" : listening, "live");
      if (again) setTimeout(() => state.stopAudio && say(listening, "live"), 2000);
    },
    partial: onPartial,
    segment: onSegment,
    revised: onRevised,
    done: () => { if (state.connection === connection) finished("Ready"); },
    lost: () => say("Connection lost. Trying again …", "alarm"),
    refused: (code, message) => {
      ended();
      finished(message, "alarm");
      if (code === 4401) askForKey();
      if (local) leaveBrowser();
    },
  };
  const connection = local ? new LocalStream(state.engine, state.offer, on)
    : new Connection(sampleRate, on, state.key);
  state.connection = connection;
  return connection;
}

function finished(text, kind) {
  state.connection = null;
  $("live").replaceChildren();
  setTalking(false);
  say(text, kind);
}

// ---- in this browser ----

async function askForOffer() {
  state.offer = (await (await fetch("/page/offer.json")).json()).browser;
  for (const node of document.querySelectorAll(".offered")) node.hidden = !state.offer;
}

async function switchLocal() {
  showWhere();
  if (!$("local").checked || state.engine) {
    say("Ready");
    return;
  }
  const focused = document.activeElement === $("local"); // which is lost when it is disabled
  const controls = ["local", "talk", "file"].map($);
  for (const control of controls) control.disabled = true;
  say(`Loading the recogniser, ${(state.offer.bytes / 1e6).toFixed(1)} MB …`);
  try {
    state.engine = await Engine.load(state.key);
    say("Ready");
  } catch (error) {
    leaveBrowser();
    say(error.message, "alarm");
    if (error.status === 401) askForKey();
  }
  for (const control of controls) control.disabled = false;
  if (focused) $("local").focus();
}

function leaveBrowser() {
  state.engine?.stop();
  state.engine = null;
  $("local").checked = false;
  showWhere();
}

function showWhere() {
  document.body.dataset.where = $("local").checked ? "browser" : "service";
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
  const local = $("local").checked;
  setTalking(true, "Opening …");
  let microphone;
  try {
    microphone = await openMicrophone(local ? RATE_HZ : undefined);
  } catch (error) {
    setTalking(false);
    say(error.name === "NotAllowedError" ? "The browser does not allow the microphone."
      : "No microphone can be opened.", "alarm");
    return;
  }
  state.startedAt = performance.now();
  const release = () => {
    microphone.close();
    $("level").value = 0;
    state.stopAudio = null;
  };
  const connection = connect(local, microphone.sampleRate, release);
  let first = true;
  microphone.start((samples, peak) => {
    if (first) {
      first = false;
      state.startedAt = performance.now() - 40;
    }
    $("level").value = Math.sqrt(peak);
    connection.send(samples);
  });
  setTalking(true);
  state.stopAudio = () => {
    release();
    connection.finish();
    say("Finishing …");
    setTalking(false, "Finishing …");
  };
}

async function openFile(file) {
  if ($("talk").disabled) return;
  if (state.connection) stop();
  const local = $("local").checked;
  say(`Reading ${file.name} …`);
  let samples;
  try {
    samples = await readSamples(file);
  } catch {
    say(`${file.name} is not audio that this browser can read.`, "alarm");
    return;
  }
  state.startedAt = 0;
  let stopped = false;
  const connection = connect(local, RATE_HZ, () => { stopped = true; });
  state.stopAudio = () => { stopped = true; state.stopAudio = null; connection.finish(); };
  setTalking(true);
  const block = RATE_HZ / 2;
  for (let at = 0; at < samples.length && !stopped; at += block) {
    // The service slows a fast sender down; this loop must not fill the browser's memory instead.
    while (!stopped && connection.backlog > 1 << 18) await new Promise((go) => setTimeout(go, 20));
    if (!stopped) connection.send(samples.subarray(at, at + block));
  }
  if (!stopped) state.stopAudio();
}

function stop() {
  if (state.stopAudio) {
    state.stopAudio();
  } else if (state.connection) {
    state.connection.abandon();
    finished("Ready");
  }
}

function toggle() {
  if ($("talk").disabled) return;
  if (state.connection || state.stopAudio) stop();
  else startMicrophone();
}

// ---- tools ----

const finalWords = () => state.segments.flatMap((one) => one.server ?? one.device);

async function copy() {
  const text = state.segments.map((one) => texts(one.server ?? one.device).join(" "));
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

$("talk").onclick = toggle;
$("copy").onclick = copy;
$("srt").onclick = save;
$("clear").onclick = clear;
$("local").onchange = switchLocal;
$("file").onchange = () => { if ($("file").files[0]) openFile($("file").files[0]); $("file").value = ""; };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, input, dialog")) return;
  const action = { " ": toggle, c: copy, s: save, b: () => state.offer && $("local").click(),
    Escape: () => state.connection && stop() }[event.key];
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
for (const name of ["device", "server"]) drawWeights($(`weights-${name}`), 0.7, name);
showWhere();
askForOffer();
