// What is kept where, and whether it has arrived.
drawing((value) => {
  find(".told").textContent = told(value.told);
  find(".problem").textContent = told(value.problem);
  find(".problem").hidden = !value.problem;
});
