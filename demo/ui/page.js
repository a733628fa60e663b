// An image pasted or dropped anywhere on the Tag tab goes to the page's file input; many, a folder or a zip to the filmstrip.
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

  /** Entries of what was dropped, where it is more than one image. */
  function many({ items }) {
    const entries = Array.from(items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
    return entries.length > 1 || entries.some((entry) => entry.isDirectory || /\.zip$/i.test(entry.name)) ? entries : [];
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
