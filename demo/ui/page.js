// An image pasted or dropped anywhere on the Tag tab goes to the page's file input, anything else that is dropped to the filmstrip.
() => {
  const input = () => document.querySelector("#image input[type=file]");
  const isOnTagTab = () => document.getElementById("image")?.checkVisibility();
  const imageIn = (transfer) => Array.from(transfer?.files ?? []).find((file) => file.type.startsWith("image/"));

  function take(event, file) {
    event.preventDefault();
    const transfer = new DataTransfer();
    transfer.items.add(file);
    input().files = transfer.files;
    input().dispatchEvent(new Event("change", { bubbles: true }));
  }

  /** Entries of what was dropped, where it is not one image. */
  function many(transfer) {
    const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
    return entries.length === 1 && imageIn(transfer) ? [] : entries;
  }

  document.addEventListener("paste", (event) => {
    const file = imageIn(event.clipboardData);
    if (file && isOnTagTab() && input()) take(event, file);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener(
    "drop",
    (event) => {
      const entries = event.dataTransfer && isOnTagTab() ? many(event.dataTransfer) : [];
      if (!entries.length) return;
      event.preventDefault();
      event.stopPropagation(); // the image would take the first of them
      event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true })); // and else looks as if it still might
      document.dispatchEvent(new CustomEvent("tagloop-files", { detail: entries }));
    },
    true,
  );
  document.addEventListener("drop", (event) => {
    const file = imageIn(event.dataTransfer);
    if (!event.defaultPrevented && file && isOnTagTab() && input()) take(event, file);
    event.preventDefault(); // or the browser would leave the page for the file
  });
};
