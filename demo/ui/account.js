// Who one is here. Somebody may log in on another page meanwhile, or leave there.
const coming = new AbortController();
const look = () => {
  if (!element.isConnected) coming.abort();
  else if (document.visibilityState === "visible") trigger("look", {});
};
// In the frame of the Hub's page many browsers withhold the cookie of a login, and whoever logs in stays unknown there.
const isFramed = window.top !== window;
if (isFramed) Object.assign(find(".in"), { textContent: tr("Open on a page of its own"), href: location.href });
let offersLogin = false;
drawing((value) => {
  const into = find(".in");
  find("bdi").textContent = value.name;
  find("small").textContent = told(value.refusal);
  into.hidden = !value.login || Boolean(value.name);
  if (value.login && !isFramed) into.href = value.login;
  find(".out").hidden = !value.name;
  if (value.login && !offersLogin) document.addEventListener("visibilitychange", look, { signal: coming.signal });
  offersLogin = Boolean(value.login);
});
