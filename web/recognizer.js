// The engine as an object: bytes of a model in, samples in, text out. Runs in a page's worker and
// in Node; sends nothing anywhere.
"use strict";

class Recognizer {
  // `engine`: what createEngine() resolves to. `bytes`: a Uint8Array with an artifact.
  // `keepFinished`: whether finish gives the text of all segments; false limits memory.
  constructor(engine, bytes, keepFinished = true) {
    this.engine = engine;
    const place = engine._malloc(bytes.length);
    engine.HEAPU8.set(bytes, place);
    this.model = engine._web_open(place, bytes.length);
    if (!this.model) throw new Error(this.error());
    this.stream = engine._web_stream(this.model, keepFinished ? 1 : 0);
    if (!this.stream) throw new Error(this.error());
    this.room = 0;
    this.roomFor = 0;
  }

  error() {
    return this.engine.UTF8ToString(this.engine._web_error());
  }

  // {text, words: [{text, start, end, confidence}], stable, seconds}
  text(pointer) {
    if (!pointer) throw new Error(this.error());
    return JSON.parse(this.engine.UTF8ToString(pointer));
  }

  segments() {
    const found = [];
    for (let at; (at = this.engine._web_segment(this.stream)); ) found.push(this.text(at));
    return found;
  }

  // Hear a Float32Array of 16 kHz samples. Gives {segments, partial} if a text changed, or null.
  push(samples) {
    const engine = this.engine;
    if (samples.length > this.roomFor) {
      engine._free(this.room);
      this.room = engine._malloc(4 * samples.length);
      this.roomFor = samples.length;
    }
    engine.HEAPF32.set(samples, this.room / 4);
    const changed = engine._web_push(this.stream, this.room, samples.length);
    if (changed < 0) throw new Error(this.error());
    if (changed === 0) return null;
    return { segments: this.segments(), partial: this.text(engine._web_partial(this.stream)) };
  }

  // The end of the audio: {segments, whole}. `whole` is the text of everything heard, or of what
  // follows the last segment. Then the recogniser is ready for another stream.
  finish() {
    const whole = this.text(this.engine._web_finish(this.stream));
    const segments = this.segments();
    this.engine._web_reset(this.stream);
    return { segments, whole };
  }
}

if (typeof module !== "undefined") module.exports = { Recognizer };
