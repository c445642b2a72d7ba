// Step 1: a table that a computer can filter, and a picture whose numbers all change.

import { element } from "./api.js";
import { $, subject } from "./talk-tools.js";

const SIDE = 96;
const SHOWN = 24; // numbers of the picture in the text
const MEMES = [
  ["Grumpy Cat", 2012, "Morristown, Arizona"],
  ["Doge", 2013, "Sakura, Japan"],
  ["Distracted Boyfriend", 2017, "Girona, Spain"],
  ["Nyan Cat", 2011, "Dallas, Texas"],
  ["Disaster Girl", 2005, "Mebane, North Carolina"],
];

let original = null;

function filter() {
  const from = Number($("data-year").value);
  const found = MEMES.filter(([, year]) => year >= from);
  $("data-year-text").textContent = from;
  $("data-rows").replaceChildren(...found.map((meme) => {
    const row = element("tr");
    row.append(...meme.map((value) => element("td", value)));
    return row;
  }));
  $("data-count").textContent = `${found.length} of ${MEMES.length} memes are from ${from} or later.`;
}

function brighten() {
  if (!original) return;
  const light = Number($("data-light").value);
  const context = $("data-picture").getContext("2d");
  const changed = new ImageData(Uint8ClampedArray.from(original.data, (value, at) => at % 4 === 3 ? value : value + light), SIDE, SIDE);
  context.putImageData(changed, 0, 0);
  const colours = (data) => data.filter((_, at) => at % 4 !== 3);
  const [before, after] = [colours(original.data), colours(changed.data)];
  let count = 0;
  after.forEach((value, at) => { count += value !== before[at]; });
  const start = 3 * (SIDE * SIDE / 2 + SIDE / 2 - 4);
  $("data-pixels").textContent = `… ${[...after.slice(start, start + SHOWN)].join(" ")} …`;
  $("data-changed").textContent = light
    ? `${count.toLocaleString("en")} of ${after.length.toLocaleString("en")} numbers have changed (${Math.round(100 * count / after.length)} %). The picture still shows the same thing.`
    : `The picture is ${after.length.toLocaleString("en")} numbers from 0 to 255: red, green and blue of each pixel. Here are a few from its middle.`;
}

async function read() {
  if (!subject.photo) return;
  const picture = await createImageBitmap(subject.photo);
  const context = $("data-picture").getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, SIDE, SIDE);
  picture.close();
  original = context.getImageData(0, 0, SIDE, SIDE);
  brighten();
}

export function start() {
  $("data-year").addEventListener("input", filter);
  $("data-light").addEventListener("input", brighten);
  subject.addEventListener("photo", read);
  filter();
  read();
}
