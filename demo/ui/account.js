// Who one is here. Somebody may log in on another page meanwhile, or leave there.
const coming = new AbortController();
const look = () => {
  if (!element.isConnected) coming.abort();
  else if (document.visibilityState === "visible") trigger("look", {});
};
let offersLogin = false;
drawing((value) => {
  const into = find(".in");
  find("bdi").textContent = value.name;
  find("small").textContent = told(value.refusal);
  into.hidden = !value.login || Boolean(value.name);
  if (value.login) into.href = value.login;
  find(".out").hidden = !value.name;
  if (value.login && !offersLogin) document.addEventListener("visibilitychange", look, { signal: coming.signal });
  offersLogin = Boolean(value.login);
});
