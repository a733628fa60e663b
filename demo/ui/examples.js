// Thumbnails; a click tags the photo at once.
drawing(({ examples }) => {
  const buttons = examples.map(({ name, src }, index) => {
    const button = make("button", { type: "button", title: name }, make("img", { src, alt: name }));
    button.dataset.example = name;
    button.addEventListener("click", () => trigger("pick", { index }));
    return button;
  });
  find(".strip").replaceChildren(...buttons);
});
