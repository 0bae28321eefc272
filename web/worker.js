// Recognition in a worker.
"use strict";

importScripts("engine.js", "recognizer.js");

let recognizer = null;

const actions = {
  async open({ bytes, keepFinished }) {
    const engine = await createEngine();
    recognizer = new Recognizer(engine, new Uint8Array(bytes), keepFinished);
    return { ready: true, kernels: engine.UTF8ToString(engine._web_kernels()) };
  },
  push({ samples }) {
    return { update: recognizer.push(samples) };
  },
  finish() {
    return recognizer.finish();
  },
};

// One message at a time, in order.
let queue = Promise.resolve();
onmessage = ({ data }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ id: data.id, ...(await actions[data.action](data)) });
    } catch (error) {
      postMessage({ id: data.id, error: error.message });
    }
  });
};
