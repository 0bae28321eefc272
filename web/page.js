// The page: opens a model, recognises a file or the microphone, and shows the growing text.
"use strict";

const RATE_HZ = 16000;
const element = (id) => document.getElementById(id);
const worker = new Worker("worker.js");
const waiting = new Map();
let last = 0;

worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
};

function ask(action, values = {}, transfer = []) {
  const id = ++last;
  worker.postMessage({ id, action, ...values }, transfer);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

function say(text) {
  element("status").textContent = text;
}

function show(update) {
  if (!update) return;
  for (const segment of update.segments) {
    const line = document.createElement("p");
    line.textContent = segment.text;
    element("segments").append(line);
  }
  element("partial").textContent = update.partial.text;
}

async function open(bytes) {
  const { kernels } = await ask("open", { bytes }, [bytes]);
  for (const button of document.querySelectorAll(".needs-model")) button.disabled = false;
  say(`model open, kernels ${kernels}`);
}

// Recognise samples as a stream; returns the whole text.
async function recognise(samples) {
  for (let at = 0; at < samples.length; at += RATE_HZ) {
    show((await ask("push", { samples: samples.slice(at, at + RATE_HZ) })).update);
  }
  const { whole } = await ask("finish");
  element("segments").textContent = "";
  element("partial").textContent = whole.text;
  return whole.text;
}

async function recogniseFile(file) {
  const decoder = new OfflineAudioContext(1, 1, RATE_HZ);
  const audio = await decoder.decodeAudioData(await file.arrayBuffer()); // resampled to 16 kHz
  const mono = new Float32Array(audio.length);
  for (let c = 0; c < audio.numberOfChannels; ++c) {
    const channel = audio.getChannelData(c);
    for (let i = 0; i < mono.length; ++i) mono[i] += channel[i] / audio.numberOfChannels;
  }
  const began = performance.now();
  await recognise(mono);
  const seconds = (performance.now() - began) / 1000;
  say(`${audio.duration.toFixed(1)} s of audio in ${seconds.toFixed(2)} s`);
}

let microphone = null;

async function startMicrophone() {
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: RATE_HZ });
  await context.audioWorklet.addModule("capture.js");
  const node = new AudioWorkletNode(context, "capture");
  node.port.onmessage = async ({ data }) => show((await ask("push", { samples: data })).update);
  context.createMediaStreamSource(media).connect(node);
  microphone = { media, context, node };
  element("microphone").textContent = "Stop";
  say("listening");
}

async function stopMicrophone() {
  microphone.node.port.onmessage = null;
  for (const track of microphone.media.getTracks()) track.stop();
  await microphone.context.close();
  microphone = null;
  element("microphone").textContent = "Microphone";
  const { whole } = await ask("finish");
  element("segments").textContent = "";
  element("partial").textContent = whole.text;
  say("stopped");
}

function guarded(action) {
  return async (...values) => {
    try {
      await action(...values);
    } catch (error) {
      say(`error: ${error.message}`);
    }
  };
}

element("model").onchange = guarded(async ({ target }) => open(await target.files[0].arrayBuffer()));
element("file").onchange = guarded(async ({ target }) => recogniseFile(target.files[0]));
element("microphone").onclick = guarded(() => (microphone ? stopMicrophone() : startMicrophone()));

// A model next to the page is opened at once. `?audio=FILE` recognises a file next to the page, for
// tests of the page.
guarded(async () => {
  const found = await fetch("model.dual");
  if (!found.ok) return say("choose a model");
  await open(await found.arrayBuffer());
  const audio = new URLSearchParams(location.search).get("audio");
  if (audio) {
    await recogniseFile(await (await fetch(audio)).blob());
    document.body.dataset.done = "yes";
  }
})();
