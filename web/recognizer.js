// The engine as an object that is created from the bytes of a model. It runs in a worker of a page and
// in Node, and does not use the network.
"use strict";

class Recognizer {
  // `engine`: the result of createEngine(). `bytes`: a Uint8Array with an artifact.
  // `keepFinished`: whether finish returns the text of all segments; false limits memory.
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

  // Process a Float32Array of samples at 16 kHz. Returns {segments, partial} if a text changed, or
  // null.
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

  // Ends the stream and resets the recogniser. Returns {segments, whole}: `whole` is the text of the
  // whole stream, or without `keepFinished` the text after the last segment.
  finish() {
    const whole = this.text(this.engine._web_finish(this.stream));
    const segments = this.segments();
    this.engine._web_reset(this.stream);
    return { segments, whole };
  }
}

if (typeof module !== "undefined") module.exports = { Recognizer };
