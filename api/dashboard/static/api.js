// Requests to the API of this origin. The session is a cookie that no script sees; the CSRF token lives in this module.

let csrf = null;
let onEnd = () => {};

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export function whenSessionEnds(call) { onEnd = call; }

async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin",
      cache: "no-store", signal: AbortSignal.timeout(15000),
    });
  } catch (error) {
    throw new Refused(0, { detail: "The server cannot be reached." });
  }
  const said = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401 && csrf) { csrf = null; onEnd(); }
    throw new Refused(answer.status, said);
  }
  return said;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body === undefined ? {} : body);
export const command = (path) => ask("POST", path);

const SESSION = "/api/v1/dashboard/session";

function begun(said) {
  if (!said.subject) throw new Refused(401, { detail: "Nobody is signed in." });
  csrf = said.csrf;
  return said;
}

export const session = async () => begun(await ask("GET", SESSION));
export const signIn = async (token) => begun(await ask("POST", SESSION, { token }));
export async function signOut() {
  await ask("DELETE", SESSION).catch(() => {});
  csrf = null;
}
