// Words of captions: where two recognisers differ, and captions as SRT.

// The longest common subsequence, as [kind, word]: "same", "gone" or "new".
export function compare(before, after) {
  const lengths = Array.from({ length: before.length + 1 }, () => new Uint16Array(after.length + 1));
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      lengths[i][j] = before[i] === after[j]
        ? lengths[i + 1][j + 1] + 1
        : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const steps = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      steps.push(["same", after[j++]]);
      i++;
    } else if (i < before.length && (j === after.length || lengths[i + 1][j] >= lengths[i][j + 1])) {
      steps.push(["gone", before[i++]]);
    } else {
      steps.push(["new", after[j++]]);
    }
  }
  return steps;
}

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
    return `${index + 1}\n${clock(cue.start)} --> ${clock(end)}\n${twoLines(cue.text)}\n`;
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

function clock(seconds) {
  const ms = Math.round(seconds * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(Math.floor(ms / 3600000))}:${two(Math.floor(ms / 60000) % 60)}:`
    + `${two(Math.floor(ms / 1000) % 60)},${String(ms % 1000).padStart(3, "0")}`;
}
