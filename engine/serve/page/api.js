// The server's addresses. Each function gives data, or throws an Error with the server's own message.

async function checked(response) {
  if (response.status === 401) {
    location.assign("signin");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail || `the server answered ${response.status} ${response.statusText}`);
  }
  return response;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  return checked(response);
}

export async function getJson(path) {
  return (await ask(path)).json();
}

export async function getBlob(path) {
  return (await ask(path)).blob();
}

export async function putText(path, text) {
  return (await ask(path, { method: "PUT", body: text, headers: { "Content-Type": "application/json" } })).json();
}

// Count a picture; `needsPicture` asks for one that a browser can show.
export async function countPicture(blob, { needsPicture = false, signal } = {}) {
  const path = `v1/count?include=maps${needsPicture ? "&include=picture" : ""}`;
  const headers = { "Content-Type": "application/octet-stream", Accept: "application/json" };
  return (await ask(path, { method: "POST", body: blob, headers, signal })).json();
}

// What the engine makes of a picture and its zones, as a file of that kind.
export async function drawnPicture(blob, zones, kind) {
  const form = new FormData();
  form.append("image", blob);
  form.append("zones", zones);
  return (await ask("v1/count", { method: "POST", body: form, headers: { Accept: kind } })).blob();
}
