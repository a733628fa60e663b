// An image pasted or dropped anywhere on the Tag tab goes to the page's file input.
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

  document.addEventListener("paste", (event) => {
    const file = imageIn(event.clipboardData);
    if (file && isOnTagTab() && input()) take(event, file);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    const file = imageIn(event.dataTransfer);
    if (!event.defaultPrevented && file && isOnTagTab() && input()) take(event, file);
    event.preventDefault(); // or the browser would leave the page for the file
  });
};
