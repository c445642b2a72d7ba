// Photos of the visitor: reading a file, cropping it, and the camera.

const SIDE = 1024; // pixels; the models read fewer
const $ = (id) => document.getElementById(id);

function square(source, width, height, isMirrored = false) {
  const size = Math.min(width, height);
  const side = Math.min(size, SIDE);
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // behind transparent pictures, as JPEG has no transparency
  context.fillRect(0, 0, side, side);
  if (isMirrored) context.setTransform(-1, 0, 0, 1, side, 0);
  context.drawImage(source, (width - size) / 2, (height - size) / 2, size, size, 0, 0, side, side);
  return canvas;
}

export function jpeg(canvas, quality = 0.92) {
  return new Promise((done, fail) => canvas.toBlob(
    (blob) => blob ? done(blob) : fail(new Error("The browser cannot write a picture. Try another one.")),
    "image/jpeg", quality));
}

// Returns a square JPEG of at most 1,024 pixels. Drawing it anew drops EXIF data, such as the place.
export async function prepare(file) {
  let picture;
  try {
    picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    const isPhonePhoto = /\.hei[cf]$/i.test(file.name ?? "") || /hei[cf]/.test(file.type);
    throw new Error(isPhonePhoto
      ? "This browser cannot read HEIC photos. Save the photo as a JPEG, or take a screenshot of it."
      : `${file.name ? `“${file.name}”` : "This"} is not a picture that this browser can read. Choose a JPEG or PNG.`);
  }
  const canvas = square(picture, picture.width, picture.height);
  picture.close();
  return jpeg(canvas);
}

const REASONS = {
  NotAllowedError: "The browser is not allowed to use the camera. Allow it in the address bar, or choose a photo.",
  NotFoundError: "There is no camera here. Choose a photo instead.",
  NotReadableError: "Another program is using the camera. Close it, or choose a photo.",
};

// A live preview. It calls `taken` with a photo, and `closed` whenever the preview ends.
export class Camera {
  constructor(taken, closed) {
    this.taken = taken;
    this.closed = closed;
    this.round = 0;
    $("shoot").addEventListener("click", () => this.countDown());
    $("stop").addEventListener("click", () => this.close());
    $("device").addEventListener("change", () => this.open($("device").value));
    $("shot").addEventListener("keydown", (event) => { if (event.key === "Escape") this.close(); });
  }

  async open(deviceId = "") {
    this.stop();
    const round = this.round;
    if (!navigator.mediaDevices) throw new Error("The camera needs HTTPS, or an address on this machine. Choose a photo instead.");
    const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
    const ideal = { width: { ideal: 1280 }, height: { ideal: 1280 } };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...wanted, ...ideal } });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? "The camera did not start. Choose a photo instead.");
    }
    if (round !== this.round) return stream.getTracks().forEach((track) => track.stop());
    $("video").srcObject = stream;
    $("shot").hidden = false;
    $("shoot").focus();
    await this.listDevices(stream);
  }

  async listDevices(stream) {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
    const used = stream.getVideoTracks()[0]?.getSettings().deviceId;
    $("device-choice").hidden = devices.length < 2;
    $("device").replaceChildren(...devices.map((one, number) =>
      new Option(one.label || `Camera ${number + 1}`, one.deviceId, false, one.deviceId === used)));
  }

  async countDown() {
    const round = ++this.round;
    $("shoot").disabled = true;
    for (const second of [3, 2, 1]) {
      $("countdown").textContent = second;
      await new Promise((done) => setTimeout(done, 700));
      if (round !== this.round) return;
    }
    const video = $("video");
    const photo = await jpeg(square(video, video.videoWidth, video.videoHeight, true));
    this.close();
    this.taken(photo);
  }

  stop() {
    this.round++;
    $("video").srcObject?.getTracks().forEach((track) => track.stop());
    $("video").srcObject = null;
    $("countdown").textContent = "";
    $("shoot").disabled = false;
  }

  close() {
    this.stop();
    $("shot").hidden = true;
    this.closed();
  }
}
