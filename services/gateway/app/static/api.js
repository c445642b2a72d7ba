// Calls the gateway's API. Asks for an API key when the gateway requires one, and keeps it for this
// tab's session. The key is sent as a header and is never part of an address.

const KEY = "memetwin-api-key";

export function element(name, text = "", properties = {}) {
  const node = Object.assign(document.createElement(name), properties);
  node.textContent = text;
  return node;
}

async function send(path, options) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Check that it is running and that you are online, and try again.");
  }
}

let asking = null;

// Several calls may be refused at once. They wait for one dialog.
function ask(message) {
  asking ??= new Promise((done) => {
    const dialog = element("dialog");
    const form = element("form", "", { method: "dialog" });
    const field = element("input", "", { id: "api-key", type: "password", autocomplete: "off", required: true });
    const label = element("label", "API key ");
    label.append(field);
    form.append(
      element("p", message),
      label,
      element("button", "Use this key", { className: "main" }),
      element("button", "Cancel", { type: "button", onclick: () => dialog.close() }),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close(field.value);
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      asking = null;
      done(dialog.returnValue);
    });
    dialog.append(form);
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

// Returns the reply to a call; asks for a key until the gateway takes it or the user cancels.
async function reply(path, options) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    const received = await send(path, options);
    if (received.status !== 401) return received;
    if (used !== sessionStorage.getItem(KEY)) continue; // another call has got a key meanwhile
    const key = await ask(used ? "The gateway does not know this API key." : "The gateway requires an API key.");
    if (!key) return received;
    sessionStorage.setItem(KEY, key);
  }
}

// Returns the whole reply to a call. Throws an error with the gateway's message if it is refused.
export async function open(path, options = {}) {
  const received = await reply(path, options);
  if (received.ok) return received;
  const body = await received.json().catch(() => ({}));
  const message = body.error?.message || `The server answered ${received.status}. Try again.`;
  throw Object.assign(new Error(message), { status: received.status, body });
}

export async function call(path, options = {}) {
  const received = await open(path, options);
  return { body: await received.json(), headers: received.headers };
}

// Loads a picture of the API into an image element, which cannot send a key itself.
export async function loadPicture(image, path) {
  const received = await reply(path, {}).catch(() => null);
  if (!received?.ok) return;
  const url = URL.createObjectURL(await received.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}
