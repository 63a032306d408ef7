// The page: which pictures there are, which one is looked at, and what its controls ask for.

import { Version } from "./service.js";

const $ = (id) => document.getElementById(id);
const SAMPLES = 4;
const ENDING = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/bmp": "bmp" };
Object.assign(ENDING, { "image/tiff": "tif", "image/avif": "avif" });

const pictures = [];
let current = null;
let chain = Promise.resolve(); // pictures are computed one after another

class Picture {
  constructor(file) {
    this.name = file.name || "pasted picture";
    this.file = file;
    this.light = { brightness: 0, strength: 1 };
    this.base = new Version(file);
    this.version = this.base;
    this.samples = [];
    this.shown = {}; // object URLs by what they show
    this.state = "waiting";
    this.message = "";
  }

  // Show a response's picture in place of the one before.
  async keep(name, response) {
    const url = URL.createObjectURL(await response.blob());
    if (this.shown[name]) URL.revokeObjectURL(this.shown[name]);
    this.shown[name] = url;
  }
}

function say(picture, text, share = 0) {
  picture.message = text;
  if (picture !== current) return;
  $("status").textContent = text;
  if (share) $("progress").value = share;
  else $("progress").removeAttribute("value");
}

function fail(picture, error) {
  if (picture === current) $("error").textContent = error.message;
  picture.error = error.message;
}

// --- pictures come and go

function add(files) {
  for (const file of files) {
    const picture = new Picture(file);
    pictures.push(picture);
    chain = chain.then(() => compute(picture));
    if (!current || current.state === "failed") select(picture);
  }
  show();
}

async function compute(picture) {
  if (!pictures.includes(picture)) return;
  picture.state = "computing";
  picture.error = "";
  show();
  const tell = (text, share) => say(picture, text, share);
  try {
    await picture.base.computed(tell);
    const dark = await picture.version.get("preview", { strength: 0 }, tell);
    await picture.keep("before", dark);
    await picture.keep("after", await picture.version.get("preview", picture.light, tell));
    picture.state = "done";
    tell("Done.");
  } catch (error) {
    picture.state = "failed";
    say(picture, "");
    fail(picture, error);
  }
  show();
}

function select(picture) {
  current = picture;
  $("error").textContent = picture?.error ?? "";
  $("status").textContent = picture?.message ?? "";
  show();
}

function remove(picture) {
  for (const version of [picture.base, ...picture.samples]) version.cancel();
  for (const url of Object.values(picture.shown)) URL.revokeObjectURL(url);
  const place = pictures.indexOf(picture);
  pictures.splice(place, 1);
  select(pictures[Math.min(place, pictures.length - 1)] ?? null);
  ($("strip").querySelector("[aria-current=true]") ?? $("files")).focus();
}

// --- light: the newest settings, one request at a time

let asking = false;

async function relight(picture) {
  if (asking) return;
  asking = true;
  try {
    let asked;
    do {
      asked = JSON.stringify([picture.light, picture.samples.indexOf(picture.version)]);
      const tell = (text) => say(picture, text);
      await picture.keep("after", await picture.version.get("preview", picture.light, tell));
      show();
    } while (asked !== JSON.stringify([picture.light, picture.samples.indexOf(picture.version)]));
    say(picture, "");
  } catch (error) {
    fail(picture, error);
  } finally {
    asking = false;
  }
}

// --- samples

async function draw(picture, temperature) {
  for (const version of picture.samples) version.cancel();
  picture.version = picture.base;
  picture.samples = [];
  picture.drawing = true;
  show();
  try {
    await picture.keep("typical", await picture.base.get("preview", {}, () => {}));
    for (let seed = 0; seed < SAMPLES; seed++) {
      const version = new Version(picture.file, { temperature, seed }, picture.base);
      const tell = (text, share) =>
        say(picture, `Sample ${seed + 1} of ${SAMPLES}. ${text}`, share);
      picture.samples.push(version);
      await picture.keep(`sample ${seed}`, await version.get("preview", {}, tell));
      show();
    }
    say(picture, "The samples are drawn.");
  } catch (error) {
    picture.samples.pop();
    fail(picture, error);
  }
  picture.drawing = false;
  show();
}

// --- doubt

async function doubt(picture, wanted) {
  picture.doubted = wanted;
  show();
  if (!wanted || picture.shown.doubt) return;
  const tell = (text) => say(picture, text);
  try {
    tell("Drawing samples.");
    await picture.keep("doubt", await picture.base.get("uncertainty", {}, tell));
    tell("Yellow is where it guesses.");
  } catch (error) {
    picture.doubted = false;
    fail(picture, error);
  }
  show();
}

async function rate(picture) {
  const tell = (text) => say(picture, text);
  try {
    tell("Rating.");
    const score = await (await picture.version.get("score", {}, tell)).json();
    const sure = score.exposure_stops;
    picture.fit =
      `Its latents are ${score.mismatch.toFixed(3)} nats from what is expected, ` +
      `${score.bits.toFixed(2)} bits per dimension; less is better.` +
      (sure === null ? "" : ` The light is sure within ±${sure.toFixed(2)} stops.`);
    tell("");
  } catch (error) {
    fail(picture, error);
  }
  show();
}

// --- saving

async function download(picture) {
  $("error").textContent = "";
  const settings = { ...picture.light };
  for (const name of ["format", "depth"]) if ($(name).value) settings[name] = $(name).value;
  try {
    say(picture, "Writing the picture.");
    const response = await picture.version.get("result", settings, (text) => say(picture, text));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    const ending = ENDING[response.headers.get("Content-Type")] ?? "png";
    link.download = `${picture.name.replace(/\.[^.]*$/, "")}_bright.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(picture, `${link.download} is written.`);
  } catch (error) {
    say(picture, "");
    fail(picture, error);
  }
}

// --- showing

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function show() {
  $("strip").hidden = pictures.length < 2;
  fill($("strip"), pictures.map(stripItem));
  $("stage").hidden = !current;
  $("download-all").hidden = pictures.length < 2;
  if (!current) return;
  const { state, shown, light, base } = current;
  $("name").textContent = current.name;
  $("cancel").hidden = !(state === "computing" || current.drawing);
  $("progress").hidden = $("cancel").hidden;
  $("work").hidden = state !== "done";
  if (state !== "done") return;
  put($("before"), shown.before);
  put($("after"), shown.after);
  const { picture } = base.job ?? { picture: current.facts };
  current.facts = picture;
  $("compare").style.setProperty("--shape", picture.width / picture.height);
  $("brightness").value = light.brightness;
  $("brightness-shown").value = `${light.brightness > 0 ? "+" : ""}${light.brightness.toFixed(1)} stops`;
  $("strength").value = 100 * light.strength;
  $("strength-shown").value = `${Math.round(100 * light.strength)} %`;
  $("temperature-shown").value = Number($("temperature").value).toFixed(1);
  $("draw").disabled = current.drawing;
  $("show-doubt").checked = Boolean(current.doubted);
  put($("doubt"), shown.doubt);
  $("doubt").hidden = !(current.doubted && shown.doubt);
  if ($("fit").textContent !== (current.fit ?? "")) $("fit").textContent = current.fit ?? "";
  fill($("samples"), samples());
  fill($("about"), about(picture));
}

function put(image, url) {
  if (url && image.src !== url) image.src = url;
}

// Leaves what hasn't changed as it is, and the focus where it was.
function fill(parent, children) {
  const focused = [...parent.children].findIndex((child) => child.contains(document.activeElement));
  const before = [...parent.children].map((child) => child.outerHTML).join();
  if (before === children.map((child) => child.outerHTML).join()) return;
  parent.replaceChildren(...children);
  const child = parent.children[focused];
  if (focused >= 0) (child?.querySelector("button") ?? child)?.focus();
}

function stripItem(picture) {
  const button = element("button", { type: "button", onclick: () => select(picture) });
  button.setAttribute("aria-current", picture === current);
  const { after } = picture.shown;
  button.append(
    after ? element("img", { src: after, alt: "" }) : element("span", { className: "empty" }),
    element("span", { textContent: picture.name }),
    element("span", { textContent: picture.state }),
  );
  return element("li", {}, button);
}

function samples() {
  const versions = [current.base, ...current.samples];
  if (versions.length === 1) return [];
  return versions.map((version, index) => {
    const url = current.shown[index ? `sample ${index - 1}` : "typical"];
    const text = index ? `Sample ${index}` : "Most typical";
    const onclick = () => {
      current.version = version;
      current.fit = "";
      show();
      relight(current);
    };
    const button = element("button", { type: "button", onclick });
    button.setAttribute("aria-pressed", version === current.version);
    if (url) button.append(element("img", { src: url, alt: "" }));
    button.append(text);
    button.disabled = index > 0 && !url;
    return button;
  });
}

function about(picture) {
  const rows = [
    ["Size", `${picture.width} × ${picture.height}`],
    ["Format", `${picture.format}, ${picture.depth} bits a channel`],
    ["Color profile", picture.profile ? "its own" : "sRGB"],
    ...Object.entries(picture.exif).map(([name, text]) => [name.replace(/([a-z])([A-Z])/g, "$1 $2"), text]),
    ...picture.lost.map((text) => ["Not kept", text]),
  ];
  return rows.flatMap(([name, text]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: text }),
  ]);
}

// --- controls

$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
$("controls").addEventListener("submit", (event) => event.preventDefault());
for (const [id, scale] of [["brightness", 1], ["strength", 100]]) {
  $(id).addEventListener("input", (event) => {
    current.light[id] = Number(event.target.value) / scale;
    show();
    relight(current);
  });
}
$("reset").addEventListener("click", () => {
  current.light = { brightness: 0, strength: 1 };
  show();
  relight(current);
});
$("temperature").addEventListener("input", show);
$("draw").addEventListener("click", () => draw(current, Number($("temperature").value)));
$("show-doubt").addEventListener("change", (event) => doubt(current, event.target.checked));
$("rate").addEventListener("click", () => rate(current));
$("cancel").addEventListener("click", () => {
  const going = current.drawing ? current.samples : [current.base];
  going.at(-1)?.cancel();
});
$("remove").addEventListener("click", () => remove(current));
$("download").addEventListener("click", () => download(current));
$("download-all").addEventListener("click", async () => {
  for (const picture of pictures) if (picture.state === "done") await download(picture);
});
