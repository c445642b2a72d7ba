// Takes files that are dropped anywhere on a page, and shows where while they are dragged.

const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
const mark = (isDragging) => document.body.classList.toggle("dragging", isDragging);

// Calls `take` with a list of the files that are dropped.
export function onDrop(take) {
  for (const kind of ["dragenter", "dragover"]) {
    addEventListener(kind, (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      mark(true);
    });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); });
  addEventListener("drop", (event) => {
    mark(false);
    if (!carriesFile(event)) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
}
