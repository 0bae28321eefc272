// The WebSocket: one stream at a time, reopened when it breaks, audio of the gap kept.

const KEPT_SECONDS = 30;
const WAITS_MS = [300, 700, 1500, 3000, 5000];

export class Connection {
  // on: {ready, partial, segment, revised, done, lost, refused}, each a function.
  constructor(sampleRate, on, key) {
    this.sampleRate = sampleRate;
    this.on = on;
    this.key = key;
    this.waiting = [];
    this.waitingSamples = 0;
    this.finished = false;
    this.closed = false;
    this.attempt = 0;
    this.sentSeconds = 0;
    this.open();
  }

  open() {
    this.isReady = false;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/listen`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      const start = { type: "start", sample_rate_hz: this.sampleRate, encoding: "pcm_s16le" };
      if (this.key) start.key = this.key;
      socket.send(JSON.stringify(start));
    };
    socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    socket.onclose = (event) => { if (socket === this.socket) this.lose(event); };
  }

  receive(event) {
    if (event.type === "ready") {
      this.isReady = true;
      // Times of this stream count from the first sample it gets.
      this.startSeconds = this.sentSeconds;
      const again = this.attempt > 0;
      this.attempt = 0;
      this.on.ready(event, again);
      for (const block of this.waiting) this.transmit(block);
      this.waiting = [];
      this.waitingSamples = 0;
      if (this.finished) this.socket.send(JSON.stringify({ type: "finish" }));
    } else if (event.type === "error") {
      this.error = event;
    } else {
      if (event.type === "done") this.closed = true;
      this.on[event.type]?.(event, this.startSeconds);
      if (event.type === "done") this.socket.close();
    }
  }

  lose(event) {
    if (this.closed) return;
    if (event.code >= 4400 && event.code < 4500) {
      this.closed = true;
      this.on.refused(event.code, this.error?.message ?? "The service refused the connection.");
      return;
    }
    const wait = WAITS_MS[Math.min(this.attempt, WAITS_MS.length - 1)];
    this.attempt += 1;
    this.on.lost();
    this.timer = setTimeout(() => this.open(), wait);
  }

  transmit(samples) {
    this.sentSeconds += samples.length / this.sampleRate;
    this.socket.send(samples);
  }

  send(samples) {
    if (this.finished) return;
    if (this.isReady && this.socket.readyState === WebSocket.OPEN) {
      this.transmit(samples);
      return;
    }
    this.waiting.push(samples);
    this.waitingSamples += samples.length;
    while (this.waitingSamples > KEPT_SECONDS * this.sampleRate) {
      const dropped = this.waiting.shift().length;
      this.waitingSamples -= dropped;
      this.sentSeconds += dropped / this.sampleRate;
    }
  }

  // Bytes that have not left the browser: a file waits for them.
  get backlog() {
    return this.isReady ? this.socket.bufferedAmount : Infinity;
  }

  finish() {
    this.finished = true;
    if (this.isReady && this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ type: "finish" }));
    }
  }

  abandon() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}
