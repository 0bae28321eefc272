// The microphone, off the main thread: blocks of 40 ms as 16-bit samples, and how loud they are.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate * 0.04));
    this.filled = 0;
    this.peak = 0;
  }

  process(inputs) {
    const channel = inputs[0][0];
    if (!channel) return true;
    for (const sample of channel) {
      const limited = Math.max(-1, Math.min(1, sample));
      this.peak = Math.max(this.peak, Math.abs(limited));
      this.block[this.filled++] = Math.round(limited * 32767);
      if (this.filled === this.block.length) {
        const full = this.block;
        this.block = new Int16Array(full.length);
        this.filled = 0;
        this.port.postMessage({ samples: full.buffer, peak: this.peak }, [full.buffer]);
        this.peak = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
