// The correction of a caption: where two recognisers differ.

// Shows in a node what changes from words to other words, and after a while only the latter.
export function correct(node, before, after) {
  const pieces = [];
  for (const [kind, word] of compare(before, after)) {
    const piece = kind === "same" ? document.createTextNode(word)
      : document.createElement(kind === "new" ? "ins" : "del");
    if (kind !== "same") piece.textContent = word;
    pieces.push(piece, " ");
  }
  node.classList.add("revised");
  node.replaceChildren(...pieces);
  setTimeout(() => {
    for (const gone of node.querySelectorAll("del")) {
      gone.nextSibling?.remove();
      gone.remove();
    }
  }, 1600);
}

// The longest common subsequence, as [kind, word]: "same", "gone" or "new".
function compare(before, after) {
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
