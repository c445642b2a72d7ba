// Step 2: the embeddings of the visitor's text and picture as coloured cells.

import { jpeg } from "./photo.js";
import { $, Strip, cosine, embed, embedPhoto, latest, number, subject } from "./talk-tools.js";

const SIDE = 512;
const EDITS = {
  none: () => {},
  bright: (context) => { context.filter = "brightness(1.3)"; },
  grey: (context) => { context.filter = "grayscale(1)"; },
  turned: (context) => context.setTransform(-1, 0, 0, -1, SIDE, SIDE),
};
const WORDS = { bright: "brighter", grey: "grey", turned: "upside-down" };

let text = null;
let picture = null;

const showText = latest($("numbers-status"), async (isLast) => {
  const [vector] = await embed([subject.text]);
  if (isLast()) text.show(vector, `“${subject.text}” is ${vector.length} numbers.`);
});

async function edited(photo, edit) {
  const image = await createImageBitmap(photo);
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d");
  EDITS[edit](context);
  context.drawImage(image, 0, 0, SIDE, SIDE);
  image.close();
  const small = $("numbers-photo").getContext("2d");
  small.drawImage(canvas, 0, 0, 96, 96);
  return jpeg(canvas);
}

const showPicture = latest($("numbers-status"), async (isLast) => {
  if (!subject.photo) return;
  const edit = document.querySelector("[name=edit]:checked").value;
  const plain = await embedPhoto(await edited(subject.photo, "none"));
  const vector = edit === "none" ? plain : await embedPhoto(await edited(subject.photo, edit));
  if (!isLast()) return;
  const alike = edit === "none" ? "" : ` The cosine of the ${WORDS[edit]} picture and the original is ${number(cosine(plain, vector))}. 1 means the same direction (step 4).`;
  picture.show(vector, `Your picture is ${vector.length} numbers.${alike}`);
});

export function start() {
  text = new Strip($("numbers-text"), $("numbers-text-out"), 32);
  picture = new Strip($("numbers-picture"), $("numbers-picture-out"), 32);
  $("numbers-edit").addEventListener("change", () => showPicture());
  subject.addEventListener("text", () => showText());
  subject.addEventListener("photo", () => showPicture());
  showText();
  showPicture();
}
