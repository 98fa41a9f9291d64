// Signs with a wallet of this browser: to sign in, and what cannot be undone. Wallets are found by
// EIP-6963 and asked by EIP-1193; the text to sign comes from the gateway (EIP-4361).

const WORDS = {
  4001: "You declined in the wallet. Nothing was done; choose the wallet to try again.",
  4100: "The wallet has not let this page use the account. Open the wallet, allow it, and try again.",
  4200: "This wallet cannot sign a text. Choose another one.",
  4900: "The wallet is not connected to any chain. Open it, and try again.",
  4901: "The wallet is not connected to this chain. Open it, and try again.",
  "-32002": "The wallet is asking you already: open it, and answer there.",
};
const CHOSEN = "moorage-wallet"; // which wallet signed in here, in this tab
const LEGACY_AFTER_MS = 400;

const place = document.querySelector("[data-wallets]");
const form = document.querySelector("form[data-text]");
const found = new Map();

function say(words) {
  const status = place?.querySelector(".status");
  if (status) status.textContent = words;
}

function hex(text) {
  const bytes = new TextEncoder().encode(text);
  return "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function textToSign(address, chain) {
  const statement = form.elements.statement?.value ?? "";
  const body = new URLSearchParams({ address, chain, statement });
  const answer = await fetch(form.dataset.text, { method: "POST", body });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

async function sign(rdns, provider) {
  say("Look at your wallet: it asks you now.");
  const [address] = await provider.request({ method: "eth_requestAccounts" });
  if (!address) throw { code: 4100 };
  const owner = form.dataset.wallet;
  if (owner && address.toLowerCase() !== owner) {
    throw new Error(`The wallet shows the account ${address}. Switch it to ${owner}, and try again.`);
  }
  const chain = String(Number(await provider.request({ method: "eth_chainId" })));
  const { text, nonce, issued_at: issuedAt } = await textToSign(address, chain);
  const signature = await provider.request({ method: "personal_sign", params: [hex(text), address] });
  Object.entries({ address, chain, nonce, issued_at: issuedAt, signature }).forEach(
    ([name, value]) => { form.elements[name].value = value; },
  );
  if ("signIn" in place.dataset) sessionStorage.setItem(CHOSEN, rdns);
  say("Signed. One moment …");
  form.submit();
}

async function choose(button, rdns, provider) {
  button.disabled = true;
  try {
    await sign(rdns, provider);
  } catch (error) {
    say(WORDS[error?.code] ?? error?.message ?? "The wallet failed. Try again.");
    button.disabled = false;
  }
}

function offer({ info, provider }) {
  if (found.has(info.rdns)) return;
  found.set(info.rdns, provider);
  watch(info.rdns, provider);
  if (!place) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = `Sign with ${info.name}`;
  if (/^data:image\/(png|svg\+xml|webp|jpeg|gif)[;,]/.test(info.icon ?? "")) {
    const icon = document.createElement("img");
    Object.assign(icon, { src: info.icon, alt: "", width: 20, height: 20 });
    button.prepend(icon, " ");
  }
  button.addEventListener("click", () => choose(button, info.rdns, provider));
  const item = document.createElement("li");
  item.append(button);
  place.querySelector(".wallets").append(item);
  say("");
}

// The wallet shows another account now: whoever signed in with it is to be signed out.
function watch(rdns, provider) {
  const out = document.querySelector('form[action="/sign-out"]');
  if (!out || sessionStorage.getItem(CHOSEN) !== rdns) return;
  provider.on?.("accountsChanged", () => {
    sessionStorage.removeItem(CHOSEN);
    out.submit();
  });
}

window.addEventListener("eip6963:announceProvider", (event) => offer(event.detail));
window.dispatchEvent(new Event("eip6963:requestProvider"));
setTimeout(() => {
  if (!found.size && window.ethereum) {
    offer({ info: { rdns: "browser", name: "the browser's wallet" }, provider: window.ethereum });
  }
  if (!found.size) say("No wallet was found in this browser.");
}, LEGACY_AFTER_MS);
