// Sound from the microphone or a file, as 16-bit samples of one channel.

export const RATE_HZ = 16000; // of files, and of the input of the engine in the browser

// sampleRate: undefined for the microphone's own. Gives {sampleRate, start, close}.
export async function openMicrophone(sampleRate) {
  const context = new AudioContext({ sampleRate });
  let media;
  const close = () => {
    media?.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    await context.audioWorklet.addModule("/page/recorder.js");
    const source = context.createMediaStreamSource(media); // not every browser resamples here
    const recorder = new AudioWorkletNode(context, "recorder", {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
    });
    return {
      sampleRate: context.sampleRate,
      // onBlock: called with blocks of 40 ms and the largest magnitude in each, in [0, 1].
      start(onBlock) {
        recorder.port.onmessage = ({ data }) => onBlock(new Int16Array(data.samples), data.peak);
        source.connect(recorder);
      },
      close() {
        recorder.port.onmessage = null;
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

// The samples of a file at RATE_HZ.
export async function readSamples(file) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ);
  const audio = await context.decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: audio.numberOfChannels }, (_, n) => audio.getChannelData(n));
  return Int16Array.from({ length: audio.length }, (_, at) => {
    let sum = 0;
    for (const channel of channels) sum += channel[at];
    return Math.max(-32768, Math.min(32767, Math.round(sum / channels.length * 32767)));
  });
}
