// Recognition in this browser: the device engine in a worker, with the interface of Connection.

export class Engine {
  // Loads the engine and its model. Gives the engine, or throws an Error with `status` of HTTP.
  static async load(key) {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const answer = await fetch("/v1/device.dual", { headers });
    if (!answer.ok) {
      throw Object.assign(new Error("The model cannot be loaded."), { status: answer.status });
    }
    const bytes = await answer.arrayBuffer();
    const engine = new Engine(new Worker("/page/engine/worker.js"));
    try {
      await engine.ask("open", { bytes, keepFinished: false }, [bytes]);
    } catch (error) {
      engine.stop();
      throw new Error(`This browser cannot run the recogniser: ${error.message}`);
    }
    return engine;
  }

  constructor(worker) {
    this.waiting = new Map();
    this.last = 0;
    this.worker = worker;
    worker.onmessage = ({ data }) => this.answer(data.id, data.error, data);
    worker.onerror = (event) => {
      for (const id of [...this.waiting.keys()]) this.answer(id, event.message || "no engine");
    };
  }

  stop() {
    this.worker.terminate();
  }

  answer(id, error, data) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(data);
  }

  ask(action, values = {}, transfer = []) {
    const id = ++this.last;
    this.worker.postMessage({ id, action, ...values }, transfer);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }
}

export class LocalStream {
  // on: {ready, partial, segment, done, refused}, as of Connection. offer: describes the model.
  constructor(engine, offer, on) {
    this.engine = engine;
    this.on = on;
    this.segments = 0;
    this.backlog = 0; // bytes that the engine has not processed yet
    this.closed = false;
    this.finished = false;
    queueMicrotask(() => on.ready(offer, false));
  }

  // 16-bit samples at RATE_HZ of sound.js.
  async send(samples) {
    if (this.closed || this.finished) return;
    const floats = Float32Array.from(samples, (sample) => sample / 32768);
    this.backlog += floats.byteLength;
    await this.guarded(async () => {
      const { update } = await this.engine.ask("push", { samples: floats });
      this.backlog -= floats.byteLength;
      if (!update || this.closed) return;
      update.segments.forEach((text) => this.segment(text));
      if (update.partial.words.length) {
        this.on.partial({ ...update.partial, segment: this.segments }, 0);
      }
    });
  }

  segment(text) {
    if (this.closed || !text.words.length) return;
    const { words } = text;
    const span = { start: words[0].start, end: words.at(-1).end };
    this.on.segment({ ...text, ...span, segment: this.segments++ }, 0);
  }

  async finish() {
    if (this.finished) return;
    this.finished = true;
    await this.guarded(async () => {
      const { segments, whole } = await this.engine.ask("finish");
      [...segments, whole].forEach((text) => this.segment(text));
      if (!this.closed) this.on.done();
      this.closed = true;
    });
  }

  // The engine is readied for the next stream.
  abandon() {
    this.closed = true;
    this.finish();
  }

  async guarded(action) {
    try {
      await action();
    } catch (error) {
      if (!this.closed) this.on.refused(0, `The engine failed: ${error.message}`);
      this.closed = true;
    }
  }
}
