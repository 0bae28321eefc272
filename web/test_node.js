// node test_node.js FOLDER MODEL.dual AUDIO.f32: recognise raw float samples, print the text.
"use strict";

const fs = require("fs");
const path = require("path");

const [folder, model, audio] = process.argv.slice(2);
delete globalThis.fetch; // Emscripten would use it to read files, which Node's fetch cannot
const createEngine = require(path.resolve(folder, "engine.js"));
const { Recognizer } = require("./recognizer.js");

createEngine().then((engine) => {
  const recognizer = new Recognizer(engine, fs.readFileSync(model));
  const bytes = fs.readFileSync(audio);
  const samples = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const began = process.hrtime.bigint();
  for (let at = 0; at < samples.length; at += 10240) recognizer.push(samples.slice(at, at + 10240));
  console.log(recognizer.finish().whole.text);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.error(`real-time factor ${(seconds / (samples.length / 16000)).toFixed(4)}`);
});
