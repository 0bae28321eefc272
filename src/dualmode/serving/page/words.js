// Captions as SRT, times as text.

const LINE = 42;
const LONGEST_S = 5;
const SHORTEST_S = 1;

export function toSrt(words) {
  const cues = [];
  for (const word of words) {
    const cue = cues.at(-1);
    const fits = cue && cue.text.length + 1 + word.text.length <= 2 * LINE
      && word.end - cue.start <= LONGEST_S && word.start - cue.end < 0.6;
    if (fits) {
      cue.text += ` ${word.text}`;
      cue.end = word.end;
    } else {
      cues.push({ start: word.start, end: word.end, text: word.text });
    }
  }
  return cues.map((cue, index) => {
    const next = cues[index + 1]?.start ?? Infinity;
    const end = Math.min(Math.max(cue.end, cue.start + SHORTEST_S), Math.max(next, cue.end));
    return `${index + 1}\n${timestamp(cue.start)} --> ${timestamp(end)}\n${twoLines(cue.text)}\n`;
  }).join("\n");
}

function twoLines(text) {
  if (text.length <= LINE) return text;
  const middle = text.length / 2;
  let best = -1;
  for (let at = text.indexOf(" "); at >= 0; at = text.indexOf(" ", at + 1)) {
    if (best < 0 || Math.abs(at - middle) < Math.abs(best - middle)) best = at;
  }
  return best < 0 ? text : `${text.slice(0, best)}\n${text.slice(best + 1)}`;
}

function timestamp(seconds) {
  const ms = Math.round(seconds * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(Math.floor(ms / 3600000))}:${two(Math.floor(ms / 60000) % 60)}:`
    + `${two(Math.floor(ms / 1000) % 60)},${String(ms % 1000).padStart(3, "0")}`;
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

export function spoken(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}
