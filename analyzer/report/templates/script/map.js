// A line under the pointer is picked out in the list, and a channel of the list in the picture.
const map = find(".map");
const legend = find("#legend");
if (map && legend) {
  const pick = (channel) => {
    map.classList.toggle("picked", channel !== "");
    for (const part of every("[data-channel]", map).concat(every("li", legend))) {
      part.classList.toggle("picked", part.dataset.channel === channel);
    }
  };
  for (const part of every("a[data-channel]", map).concat(every("li", legend))) {
    for (const event of ["pointerenter", "focusin"]) part.addEventListener(event, () => pick(part.dataset.channel));
    for (const event of ["pointerleave", "focusout"]) part.addEventListener(event, () => pick(""));
  }
}
