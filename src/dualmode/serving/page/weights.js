// The picture of the idea: the same grid of weights twice, with those that a recogniser uses lit.

const COLUMNS = 44;
const ROWS = 8;
const CELL = 10;

// sparsity: of device. As server, all cells are lit and those of device stand out.
export function drawWeights(svg, sparsity, name) {
  svg.setAttribute("viewBox", `0 0 ${COLUMNS * CELL} ${ROWS * CELL}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const share = Math.round((1 - sparsity) * 100);
  svg.setAttribute("aria-label", name === "device"
    ? `device uses ${share} % of the weights, the same ones every time`
    : "server uses all weights, those of device among them");
  const cells = [];
  for (let column = 0; column < COLUMNS; column++) {
    for (let row = 0; row < ROWS; row++) {
      const cell = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const place = { x: column * CELL + 1, y: row * CELL + 1, width: CELL - 2, height: CELL - 2, rx: 2 };
      for (const [key, value] of Object.entries(place)) cell.setAttribute(key, value);
      if (luck(column * ROWS + row) >= sparsity) cell.setAttribute("class", "on");
      else if (name === "server") cell.setAttribute("class", "more");
      cells.push(cell);
    }
  }
  svg.replaceChildren(...cells);
}

// A number in [0, 1) for each cell, always the same: device's cells are among server's.
function luck(index) {
  let x = Math.imul(index + 1, 2654435761) >>> 0;
  x = Math.imul(x ^ (x >>> 15), 2246822519) >>> 0;
  return ((x ^ (x >>> 13)) >>> 0) / 4294967296;
}
