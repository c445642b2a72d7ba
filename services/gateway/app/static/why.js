// Shows which parts of a photo make it similar to a twin: covers each part in turn, and measures how
// much of the similarity is lost (occlusion; Zeiler and Fergus, 2014).

import { call } from "./api.js";
import { jpeg } from "./photo.js";

const PARTS = 8; // in each row and column
const SIDE = 224; // pixels of the pictures that are compared
const COVER = 2; // parts that each cover hides in both directions

async function pictures(photo) {
  const picture = await createImageBitmap(photo);
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d");
  const draw = () => context.drawImage(picture, 0, 0, SIDE, SIDE);
  draw();
  const all = [await jpeg(canvas, 0.9)];
  const step = SIDE / PARTS;
  const offset = ((COVER - 1) * step) / 2;
  context.fillStyle = "#808080";
  for (let row = 0; row < PARTS; row++) {
    for (let column = 0; column < PARTS; column++) {
      draw();
      context.fillRect(column * step - offset, row * step - offset, step * COVER, step * COVER);
      all.push(await jpeg(canvas, 0.9));
    }
  }
  return all;
}

// Returns {losses: 64 numbers by rows, whole: the similarity of the whole photo}.
export async function explainLikeness(photo, twin) {
  const form = new FormData();
  for (const picture of await pictures(photo)) form.append("image", picture, "part.jpg");
  const path = `/v1/twins/${encodeURIComponent(twin.id)}/similarities`;
  const { body } = await call(path, { method: "POST", body: form });
  const [whole, ...covered] = body.similarities;
  return { whole, losses: covered.map((one) => whole - one) };
}

// Draws the losses over a photo: parts that matter stay bright, and others get dark.
export function drawHeat(canvas, losses) {
  canvas.width = canvas.height = PARTS;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(PARTS, PARTS);
  const most = Math.max(...losses, 1e-6);
  losses.forEach((loss, at) => {
    const share = Math.max(0, loss) / most;
    const light = 0.2 + 0.8 * share;
    pixels.data.set([255 * light, 255 * light * (1 - 0.35 * share), 255 * light * (1 - 0.75 * share), 255], at * 4);
  });
  context.putImageData(pixels, 0, 0);
}

// Says in words where the most important part lies.
export function wherePart(losses) {
  const at = losses.indexOf(Math.max(...losses));
  const [row, column] = [Math.floor(at / PARTS), at % PARTS];
  const band = (value, low, high) => value < PARTS / 3 ? low : value >= PARTS - PARTS / 3 ? high : "";
  return [band(row, "top", "bottom"), band(column, "left", "right")].filter(Boolean).join(" ") || "centre";
}
