// Draws a photo and its twin side by side, with the verdict, for the visitor to keep or send.

import { element } from "./api.js";
import { jpeg } from "./photo.js";

const SIDE = 640; // pixels of each picture
const TEXT = 150; // pixels below them

// Draws the square in the middle of an image.
function drawSquare(context, image, x) {
  const size = Math.min(image.naturalWidth, image.naturalHeight);
  const [left, top] = [(image.naturalWidth - size) / 2, (image.naturalHeight - size) / 2];
  context.drawImage(image, left, top, size, size, x, 0, SIDE, SIDE);
}

export async function downloadPair(photo, twin, { title, words, share }) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * SIDE, height: SIDE + TEXT });
  const context = canvas.getContext("2d");
  context.fillStyle = "#131217";
  context.fillRect(0, 0, canvas.width, canvas.height);
  drawSquare(context, photo, 0);
  drawSquare(context, twin, SIDE);
  context.fillStyle = "#fff";
  context.textAlign = "center";
  context.font = "64px Anton, Impact, sans-serif";
  context.fillText(`${words}: ${title}`.toUpperCase(), SIDE, SIDE + 80, 2 * SIDE - 40);
  context.font = "28px system-ui, sans-serif";
  context.fillStyle = "#a9a6b5";
  context.fillText(`${share} · memetwin`, SIDE, SIDE + 126);
  const link = element("a", "", { href: URL.createObjectURL(await jpeg(canvas)), download: `me and ${title}.jpg` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
